# SPDX-License-Identifier: MIT
"""How much is read of whom in one round of the event loop."""

from __future__ import annotations

import asyncio

from operatord.control.wire.intake import AT_ONCE, BRIEF, READ, Intake

ROUND = AT_ONCE * READ


class Peer:
    """A peer that has sent so many bytes, in lines of so many, and is read when it may be."""

    def __init__(self, intake: Intake, sent: int, line: int = BRIEF) -> None:
        self._intake = intake
        self._line = line
        self._read = 0
        self.sent = sent
        self.reading = True

    def put_off(self) -> None:
        self.reading = False

    def read_again(self) -> None:
        self.reading = True

    def read(self) -> int:
        """Do what the event loop does with a peer that has sent something; return how much was read."""
        if not self.reading or not self.sent:
            return 0
        buffer = self._intake.room(self)
        size = min(self.sent, len(buffer))
        self.sent -= size
        buffer[:size] = bytes(size)
        for end in range(-(self._read + 1) % self._line, size, self._line):
            buffer[end] = ord("\n")
        self._read += size
        return len(self._intake.take(self, size))

    @property
    def begun(self) -> int:
        """Bytes of a line that has begun and not ended."""
        return self._read % self._line


async def round_of(peers: list[Peer]) -> int:
    """Read of everybody who may be read, as a round does; return how much that was.

    Who has sent something is found out first. What has been called for this round comes before they are read.
    """
    ready = [peer for peer in peers if peer.reading]
    await asyncio.sleep(0)
    return sum(peer.read() for peer in ready)


async def test_hundreds_who_send_much_are_not_all_read_in_full_in_one_round() -> None:
    """A1: a short request that came after them is read in the same round."""
    intake = Intake()
    many = [Peer(intake, 10 * READ) for _ in range(900)]
    short = Peer(intake, BRIEF - 1)
    assert await round_of([*many, short]) <= ROUND + 900 * BRIEF
    assert short.sent == 0
    assert short.reading
    for _ in range(100):
        assert await round_of([*many, short]) <= ROUND + READ


async def test_who_is_put_off_is_read_in_full_when_its_turn_has_come() -> None:
    """A1: in the order in which they were put off, though others are read before them."""
    intake = Intake()
    many = [Peer(intake, READ + BRIEF) for _ in range(4 * AT_ONCE)]
    await round_of(many)
    assert [peer.sent for peer in many] == [BRIEF] * AT_ONCE + [READ] * 3 * AT_ONCE
    late = [Peer(intake, 10 * READ) for _ in range(20 * AT_ONCE)]
    while many[-1].sent:
        before = sum(not peer.sent for peer in many)
        await round_of([*late, *many])
        assert sum(not peer.sent for peer in many) - before <= 2 * AT_ONCE
        assert all(peer.sent in (0, READ) for peer in many[AT_ONCE:]), "it was read in full"
    assert sum(bool(peer.sent) for peer in late) > 8 * AT_ONCE, "they had their turns, too"


async def test_one_peer_alone_is_always_read_in_full() -> None:
    intake = Intake()
    peer = Peer(intake, 100 * READ)
    for _ in range(100):
        assert await round_of([peer]) == READ


async def test_nobody_is_forgotten() -> None:
    intake = Intake()
    many = [Peer(intake, 3 * READ + number) for number in range(300)]
    for _ in range(2000):
        await round_of(many)
    assert not any(peer.sent for peer in many)
    assert all(peer.reading for peer in many)


async def test_who_was_called_and_sends_later_is_read_as_all_others() -> None:
    """A1: a right to be read in full that could be kept would be kept by hundreds, for one moment."""
    intake = Intake()
    many = [Peer(intake, BRIEF) for _ in range(900)]
    await round_of([Peer(intake, READ) for _ in range(AT_ONCE)] + many)
    assert not any(peer.sent for peer in many)
    assert sum(peer.reading for peer in many) <= AT_ONCE
    for _ in range(300):
        await asyncio.sleep(0)
    assert all(peer.reading for peer in many)
    for peer in many:
        peer.sent = 10 * READ
    assert await round_of(many) <= ROUND + 900 * BRIEF


async def test_few_long_lines_are_half_read_at_once() -> None:
    """900 peers with a plan of 50 KB each: half of each would be 30 MiB."""
    intake = Intake()
    many = [Peer(intake, READ + 15_000, READ + 15_000) for _ in range(900)]
    while any(peer.sent for peer in many):
        assert await round_of(many) <= 2 * ROUND + 900 * BRIEF
        assert sum(peer.begun > BRIEF for peer in many) <= 2 * AT_ONCE
    assert not any(peer.begun for peer in many)


async def test_lines_without_end_keep_nobody_else_from_being_read() -> None:
    intake = Intake()
    endless = [Peer(intake, 1000 * READ, 1001 * READ) for _ in range(4 * AT_ONCE)]
    short = Peer(intake, BRIEF - 1)
    for _ in range(20):
        short.sent = BRIEF - 1
        assert await round_of([*endless, short]) <= 2 * ROUND + READ + 4 * AT_ONCE * BRIEF
        assert not short.sent


async def test_where_many_wait_for_answers_lines_are_read_briefly() -> None:
    """A12: 32 KiB of short lines of each of a thousand would wait, too."""
    intake = Intake(lambda: True)
    many = [Peer(intake, 3 * READ, 60) for _ in range(100)]
    await round_of(many)  # nobody could know yet
    for _ in range(100):
        before = [peer.sent for peer in many]
        assert 0 < await round_of(many) <= READ
        assert max(a - b.sent for a, b in zip(before, many, strict=True)) <= BRIEF
    for _ in range(1000):
        await round_of(many)
    assert not any(peer.sent for peer in many)


async def test_where_many_wait_for_answers_one_is_read_in_full_at_a_time() -> None:
    """What is read would only wait, too."""
    crowded = True
    intake = Intake(lambda: crowded)
    many = [Peer(intake, 2 * READ, 2 * READ) for _ in range(900)]
    for _ in range(2):  # nobody could know yet
        await round_of(many)
    some = [await round_of(many) for _ in range(100)]
    assert max(some) <= 2 * READ
    assert sum(some) > 20 * READ
    crowded = False
    await round_of(many)
    assert await round_of(many) >= ROUND
