# SPDX-License-Identifier: MIT
"""Read NUT, a container of ffmpeg's, as ffmpeg writes it for one stream of raw pictures.

The format is described in nut.txt (https://ffmpeg.org/nut.html, version 3). A stream is a line of text, then
packets that begin with a start code, and frames that begin with a code of one byte, which stands for a row of
a table in the main header. A number has seven bits in each byte, the first bit of which says that another
follows. Checksums are not looked at: on one machine nothing is lost.
"""

from __future__ import annotations

import select
import socket
from typing import NamedTuple

FILE_ID = b"nut/multimedia container\0"
"""What a stream begins with."""
MAIN, STREAM, SYNCPOINT = 0x7A561F5F04AD, 0x11405BF2F9DB, 0xE4ADEECA4569
"""The last six bytes of the start codes that matter here; others are skipped."""
MARK = ord("N")
"""The first byte of a start code, and never a frame's."""

CODED_PTS, STREAM_ID, SIZE_MSB, CHECKSUM = 0x8, 0x10, 0x20, 0x40
RESERVED, HEADER_INDEX, MATCH_TIME, CODED_FLAGS = 0x80, 0x400, 0x800, 0x1000
"""Flags of a frame's header, as nut.txt numbers them."""
READ_AHEAD = 64
"""Bytes that are read for a header: what is too much belongs to a picture, and is copied to it."""
LONGEST_PACKET = 1 << 20
"""Bytes in a packet that is no frame."""


class NutError(Exception):
    """What came is not NUT as it is expected; the text is a sentence."""


class Code(NamedTuple):
    """What a frame's code stands for."""

    flags: int
    pts_delta: int
    size_mul: int
    size_lsb: int
    reserved: int


class Packet:
    """The bytes of a packet, taken from the front."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self) -> int:
        """Take a number from 0."""
        value, more = 0, True
        while more:
            byte = self.take(1)[0]
            value, more = value << 7 | byte & 0x7F, byte >= 0x80
        return value

    def signed(self) -> int:
        """Take a number that may be negative: 0, 1, -1, 2, -2 … are written as 0, 1, 2, 3, 4 …"""
        value = self.number() + 1
        return -(value >> 1) if value & 1 else value >> 1

    def take(self, size: int) -> bytes:
        """Take so many bytes. Raises `NutError`."""
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise NutError("a packet of the decoder's ends too early")
        self._at += size
        return found


class Channel(Packet):
    """The same on a socket that blocks: waits for the bytes.

    Raises:
        EOFError: the stream has ended, or the other file is ready: somebody wants no more.
        TimeoutError: nothing came for `patience` seconds; None waits for good.
    """

    def __init__(self, sock: socket.socket, stop: socket.socket, patience: float | None) -> None:
        super().__init__(b"")
        self.patience = patience
        self._sock, self._stop = sock, stop.fileno()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._poll.register(stop, select.POLLIN)

    def take(self, size: int) -> bytes:
        """Take so many bytes, and read a little ahead."""
        while len(self._data) - self._at < size:
            self._data, self._at = self._data[self._at :] + self._receive(size), 0
        return super().take(size)

    def fill(self, view: memoryview) -> None:
        """Take as many bytes as there is room for, without a copy but of what was read ahead.

        ffmpeg writes a picture in pieces of 32 KiB. The kernel gathers them, up to the socket's time limit:
        to wait for each piece here and read it takes this thread a tenth more of a processor's time.
        """
        ahead = self._data[self._at : self._at + len(view)]
        self._at += len(ahead)
        view[: len(ahead)] = ahead
        filled = len(ahead)
        while filled < len(view):
            self._wait()
            received = self._sock.recv_into(view[filled:], 0, socket.MSG_WAITALL)
            if not received:
                raise EOFError
            filled += received

    def _wait(self) -> None:
        ready = self._poll.poll(None if self.patience is None else self.patience * 1000)
        if any(descriptor == self._stop for descriptor, _ in ready):
            raise EOFError
        if not ready:
            raise TimeoutError(f"no frame came for {self.patience:.0f} s")

    def _receive(self, size: int) -> bytes:
        self._wait()
        if received := self._sock.recv(max(size, READ_AHEAD)):
            return received
        raise EOFError


class NutReader:
    """A stream of NUT on a socket."""

    def __init__(
        self, sock: socket.socket, stop: socket.socket, patience: float | None = None
    ) -> None:
        """Wait for the head, which comes with the first picture.

        Raises:
            EOFError: the stream ended before, or the file `stop` is ready to be read.
            NutError: it is none.
            TimeoutError: nothing came for so many seconds.
        """
        self.width = self.height = 0
        self.layout = b""
        """Four letters for how the pixels of a picture are laid out."""
        self._channel = Channel(sock, stop, patience)
        self._codes: list[Code] = []
        self._tick = 0.0  # seconds
        self._last = 0  # time stamp, in ticks
        self._shift = 0  # bits of a time stamp that is written short
        if self._channel.take(len(FILE_ID)) != FILE_ID:
            raise NutError("the decoder's output is not NUT")
        while not self.width:
            self._read_packet(self._channel.take(1)[0])

    def wait_for_frames(self, patience: float | None) -> None:
        """From now on wait for so many seconds for bytes that do not come; None: for good."""
        self._channel.patience = patience

    def next_frame(self) -> tuple[float, int]:
        """Wait for the next frame's header; return its time in seconds, and its bytes, which follow.

        Raises:
            EOFError: the stream has ended, or was cut.
            NutError: it is malformed.
            TimeoutError: nothing came for too long.
        """
        while (first := self._channel.take(1)[0]) == MARK:
            self._read_packet(first)
        code = self._codes[first]
        flags = code.flags ^ (self._channel.number() if code.flags & CODED_FLAGS else 0)
        if flags & STREAM_ID:
            self._channel.number()
        self._last = (
            self._time(self._channel.number()) if flags & CODED_PTS else self._last + code.pts_delta
        )
        size = code.size_lsb + (code.size_mul * self._channel.number() if flags & SIZE_MSB else 0)
        self._skip_rest(flags, code.reserved)
        return self._last * self._tick, size

    def read_frame(self, view: memoryview) -> None:
        """Read the bytes that `next_frame` has announced. Raises `EOFError` or TimeoutError."""
        self._channel.fill(view)

    def _skip_rest(self, flags: int, reserved: int) -> None:
        if flags & MATCH_TIME:
            self._channel.number()
        if flags & HEADER_INDEX:
            self._channel.number()
        for _ in range(self._channel.number() if flags & RESERVED else reserved):
            self._channel.number()
        if flags & CHECKSUM:
            self._channel.take(4)

    def _time(self, coded: int) -> int:
        """Return a time stamp: whole, or the low bits of what is nearest to the last one."""
        if coded >= 1 << self._shift:
            return coded - (1 << self._shift)
        mask = (1 << self._shift) - 1
        least = self._last - mask // 2
        return (coded - least & mask) + least

    def _read_packet(self, first: int) -> None:
        if first != MARK:
            raise NutError("a frame of the decoder's comes before the head")
        start_code = int.from_bytes(self._channel.take(7), "big") & (1 << 48) - 1
        size = self._channel.number()
        if size > 4096:
            self._channel.take(4)  # the header's checksum
        if size > LONGEST_PACKET:
            raise NutError("a packet of the decoder's is too long")
        packet = Packet(self._channel.take(size))
        if start_code == MAIN and not self._codes:
            self._read_main(packet)
        elif start_code == STREAM:
            self._read_stream(packet)
        elif start_code == SYNCPOINT:
            self._last = packet.number()  # of the only time base

    def _read_main(self, packet: Packet) -> None:
        version, streams, _distance, time_bases = (packet.number() for _ in range(4))
        if (version, streams, time_bases) != (3, 1, 1):
            raise NutError("the decoder writes another NUT than version 3 with one stream")
        numerator, denominator = packet.number(), packet.number()
        self._tick = numerator / denominator
        self._codes = _code_table(packet)

    def _read_stream(self, packet: Packet) -> None:
        """Read the head of the pictures: number, class, four letters, time base, then sizes."""
        packet.number(), packet.number()
        self.layout = packet.take(packet.number())
        packet.number()
        self._shift = packet.number()
        packet.number(), packet.number()  # the distance of times, the decoder's delay
        packet.number()  # flags
        packet.take(packet.number())
        self.width, self.height = packet.number(), packet.number()


def _code_table(packet: Packet) -> list[Code]:
    """Read what the 256 codes of frames stand for: rows, each for one or more codes in turn."""
    table: list[Code] = []
    pts, mul, stream = 0, 1, 0
    while len(table) < 256:
        flags, members = packet.number(), packet.number()
        pts = packet.signed() if members > 0 else pts
        mul = packet.number() if members > 1 else mul
        stream = packet.number() if members > 2 else stream
        size = packet.number() if members > 3 else 0
        reserved = packet.number() if members > 4 else 0
        count = packet.number() if members > 5 else mul - size
        for _ in range(6, members):
            packet.number()
        for offset in range(count):
            if len(table) == MARK:
                table.append(Code(0, 0, 0, 0, 0))
            table.append(Code(flags, pts, mul, size + offset, reserved))
    return table
