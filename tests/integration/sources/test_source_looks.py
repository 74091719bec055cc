# SPDX-License-Identifier: MIT
"""What is seen of a source before a session reads it: by RTSP, by HTTP, or only that somebody is there."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from daemon_lab import Json, Wire, in_process
from effort import effort
from guarded_lab import guarded
from source_lab import DESCRIBED, camera

from operatord.streams.sources import exchange
from operatord.streams.sources.rtsp import facts_of

DIGEST = 'Digest realm="cam", nonce="n1", opaque="o"'


@contextlib.asynccontextmanager
async def web(answer: Callable[[str], str]) -> AsyncIterator[int]:
    """Serve HTTP, a connection for each request, with what ``answer`` returns for its head."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            writer.write(f"HTTP/1.0 {answer(head)}\r\n\r\n".encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def looked(wire: Wire, url: str) -> Json:
    """Return what is seen of a URL."""
    await wire.call("probe.register", name="p", url=url)
    return await wire.call("probe.remove", name="p")


# Cameras


async def test_camera_says_its_size_and_rate(wire: Wire) -> None:
    async with camera() as port:
        seen = await looked(wire, f"rtsp://127.0.0.1:{port}/live")
    assert seen["state"] == "up"
    assert seen["frame"] == {"encoding": "H264", "fps": 25.0, "width": 640, "height": 480}


@pytest.mark.parametrize(
    ("answer", "user", "said"),
    [
        ("401 Unauthorized\r\n\r\n", "", "register rtsp://USER:PASSWORD@HOST/"),
        (f"401 Unauthorized\r\nWWW-Authenticate: {DIGEST}\r\n\r\n", "u:p@", "refuses the credentials"),
        ("404 Not Found\r\n\r\n", "", "DESCRIBE with 404: see that the path is right"),
        ("302 Moved\r\nLocation: rtsp://8.8.8.8/\r\n\r\n", "", "it is somewhere else"),
        ("503 Busy\r\n\r\n", "", "DESCRIBE with 503: it cannot be read now"),
        ("200 OK\r\nContent-Length: 5\r\n\r\nv=0\r\n", "", "it offers no video"),
        ("nonsense\r\n\r\n", "", "it answers, but does not speak RTSP"),
        (f"200 OK\r\nContent-Length: {'9' * 5000}\r\n\r\n", "", "it offers no video"),
        ('401 No\r\nWWW-Authenticate: Digest realm="\u65e5", nonce="n"\r\n\r\n', "u:p@", "refuses the cred"),
        (f"401 No\r\nWWW-Authenticate: Digest {'a' * 15000}\r\n\r\n", "u:p@", "refuses the cred"),
    ],
)  # fmt: skip
async def test_camera_that_does_not_give_its_stream_is_down_with_what_to_do(
    wire: Wire, answer: str, user: str, said: str
) -> None:
    async with camera(answer) as port:
        seen = await looked(wire, f"rtsp://{user}127.0.0.1:{port}/live")
    assert seen["state"] == "down"
    assert said in seen["error"]


@pytest.mark.parametrize(
    ("offer", "sent"),
    [
        ('Basic realm="cam"', "Basic dTpwLzE="),
        (DIGEST, 'Digest username="u", realm="cam", nonce="n1", uri="rtsp://127.0.0.1:'),
    ],
)
async def test_camera_is_given_credentials_when_it_asks_for_them(
    wire: Wire, offer: str, sent: str
) -> None:
    heads: list[str] = []

    def answer(head: str) -> str:
        heads.append(head)
        if "Authorization" not in head:
            return f"401 Unauthorized\r\nWWW-Authenticate: {offer}\r\n\r\n"
        return DESCRIBED

    async with camera(answer) as port:
        seen = await looked(wire, f"rtsp://u:p%2F1@127.0.0.1:{port}/live")
    assert seen["state"] == "up"
    _options, asked, told = heads[:3]
    assert "u:p" not in asked
    assert f"Authorization: {sent}" in told


async def test_camera_that_is_busy_for_a_moment_is_asked_again(wire: Wire) -> None:
    answers = ["503 Service Unavailable\r\n\r\n", DESCRIBED]
    async with camera(lambda _: answers.pop(0)) as port:
        assert (await looked(wire, f"rtsp://127.0.0.1:{port}/live"))["state"] == "up"


def test_digests_are_those_of_the_standards(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples of RFC 2069 (as corrected) and RFC 2617, 3.5."""
    monkeypatch.setattr(exchange, "CNONCE", "0a4f113b")
    offer = 'realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    for password, more, response in (
        ("CircleOfLife", "", "1949323746fe6a43ef61f9606e7febea"),
        ("Circle Of Life", ', qop="auth,auth-int"', "6629fae49393a05397450978507c4ef1"),
    ):
        said = exchange._digest(offer + more, ("Mufasa", password), "GET", "/dir/index.html")
        assert said is not None
        assert f'response="{response}"' in said
    assert exchange._digest(f"{offer}, algorithm=SHA-256", ("a", "b"), "GET", "/") is None


def test_description_without_figures_says_nothing_of_them() -> None:
    said = "v=0\nm=audio 0 RTP/AVP 0\na=framerate:8\nm=video 0 RTP/AVP 26\nm=application 0 x\na=framerate:9\n"
    assert facts_of(said) == {}
    assert facts_of("m=video 0 RTP/AVP 96\na=framesize:96 320-240\n") == {
        "width": 320,
        "height": 240,
    }


def test_digest_has_users_in_utf_8_and_the_realm_as_it_came() -> None:
    """RFC 7616, 3.4; a quotation mark in a name does not end it."""
    realm = "caf\xe9".encode("latin-1")
    said = exchange._digest(
        f'realm="{realm.decode("latin-1")}", nonce="n"', ('\xe4d"m', "p"), "GET", "/"
    )
    assert said is not None
    sent = said.encode("latin-1")
    assert b'username="\xc3\xa4d\\"m", realm="caf\xe9"' in sent
    mine, asked = (hashlib.md5(each, usedforsecurity=False).hexdigest()
                   for each in (b'\xc3\xa4d"m:caf\xe9:p', b"GET:/"))  # fmt: skip
    whole = hashlib.md5(f"{mine}:n:{asked}".encode(), usedforsecurity=False).hexdigest()
    assert f'response="{whole}"' in said


def test_no_name_of_a_user_begins_another_header() -> None:
    assert exchange._digest('realm="r", nonce="n"', ("u\r\nX: y", "p"), "GET", "/") is None


async def test_camera_is_given_a_user_whose_name_is_not_ascii(wire: Wire) -> None:
    def answer(head: str) -> str:
        known = 'username="ädm", realm="cam"' in head
        return DESCRIBED if known else f"401 No\r\nWWW-Authenticate: {DIGEST}\r\n\r\n"

    async with camera(answer) as port:
        assert (await looked(wire, f"rtsp://%C3%A4dm:p@127.0.0.1:{port}/live"))["state"] == "up"


@pytest.mark.parametrize("offer", ["a" * 16000, "a" + " " * 16000, 'a="' * 5000, "a= " * 5000])
def test_no_challenge_takes_longer_to_read_than_its_length_says(offer: str) -> None:
    """A pattern that tries again from each character takes a million times as long."""
    harmless = effort(lambda: exchange._digest('realm="r", nonce="n"', ("u", "p"), "GET", "/"))
    assert effort(lambda: exchange._digest(offer, ("u", "p"), "GET", "/")) < 5000 * harmless


@pytest.mark.parametrize(
    "attribute",
    [f"framesize:96 {'9' * 5000}-480", f"framesize:96 640-{'9' * 5000}", f"x-dimensions:{'9' * 25},480",
     "framesize:96 65537-480", "x-dimensions:0,480", f"framerate:{'9' * 25}"],
)  # fmt: skip
async def test_figures_that_no_picture_has_are_not_passed_on(wire: Wire, attribute: str) -> None:
    sdp = f"v=0\r\nm=video 0 RTP/AVP 96\r\na={attribute}\r\n"
    async with camera(f"200 OK\r\nContent-Length: {len(sdp)}\r\n\r\n{sdp}") as port:
        seen = await looked(wire, f"rtsp://127.0.0.1:{port}/live")
    assert seen["state"] == "up"
    assert seen.get("frame", {}).items() <= {"height": 480}.items()


# Web servers


@pytest.mark.parametrize("kind", ["\x1b[31mevil", "video/\0mp4", "x" * 65])
async def test_words_that_cannot_be_shown_are_not_passed_on(wire: Wire, kind: str) -> None:
    async with web(lambda _: f"200 OK\r\nContent-Type: {kind}") as port:
        seen = await looked(wire, f"http://127.0.0.1:{port}/mjpeg")
    assert (seen["state"], "frame" in seen) == ("up", False)


@pytest.mark.parametrize(
    ("answer", "state", "said"),
    [
        ("200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x", "up", ""),
        ("206 Partial\r\nContent-Type: video/mp4", "up", ""),
        (
            "200 OK\r\nContent-Type: text/html",
            "down",
            "answers with text/html, which is no picture",
        ),
        ("404 Not Found", "down", "GET with 404: see that the path is right"),
        ("301 Moved\r\nLocation: http://8.8.8.8/", "down", "it is somewhere else"),
        ("401 Unauthorized", "down", "register http://USER:PASSWORD@HOST/"),
    ],
)
async def test_web_server_has_pictures_or_not(
    wire: Wire, answer: str, state: str, said: str
) -> None:
    async with web(lambda _: answer) as port:
        seen = await looked(wire, f"http://127.0.0.1:{port}/mjpeg?n=1")
    assert seen["state"] == state
    assert said in seen.get("error", "")


async def test_web_server_is_given_credentials_on_another_connection(wire: Wire) -> None:
    def answer(head: str) -> str:
        if "Authorization: Basic dTpw\r\n" in head:
            return "200 OK\r\nContent-Type: video/mp4"
        return '401 Unauthorized\r\nWWW-Authenticate: Basic realm="cam"'

    async with web(answer) as port:
        assert (await looked(wire, f"http://u:p@127.0.0.1:{port}/"))["state"] == "up"
        assert (await looked(wire, f"http://u:q@127.0.0.1:{port}/"))["state"] == "down"


async def test_server_without_tls_is_told_so(wire: Wire) -> None:
    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        seen = await looked(wire, f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert "does not speak TLS" in seen["error"]


async def test_silent_one_is_not_waited_for_longer_than_a_moment(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("operatord.streams.looks.TIMEOUT", 0.1)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with server:
        seen = await looked(wire, f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    assert "it says nothing within 0.1 s" in seen["error"]


# Who may know


async def test_ports_are_not_found_by_schemes_that_only_connect(tmp_path: Path) -> None:
    """Where there are users, igtl: would tell them of any port whether somebody listens there."""
    async with guarded(tmp_path) as lab, camera() as port:
        wire = await lab.wire("ada", "user")
        there = await looked(wire, f"igtl://127.0.0.1:{port}")
        assert (there["state"], "error" in there) == ("unknown", False)


async def test_nobody_else_has_a_guess_at_credentials_confirmed(tmp_path: Path) -> None:
    async with guarded(tmp_path) as lab:
        ada, bob = await lab.wire("ada", "user"), await lab.wire("bob", "user")
        await ada.call("probe.register", name="cam", url="igtl://u:geheim@127.0.0.1")
        for guess in ("geheim", "wrong"):
            url = f"igtl://u:{guess}@127.0.0.1"
            refused = await bob.refusal("probe.register", name="cam", url=url)
            assert (refused.type, "belongs to ada" in refused.message) == ("forbidden", True)


async def test_scanner_that_answers_is_up(wire: Wire) -> None:
    async with camera() as port:
        assert (await looked(wire, f"igtl://127.0.0.1:{port}?device=Image"))["state"] == "up"
    assert (await looked(wire, f"igtl://127.0.0.1:{port}"))["state"] == "down"


async def test_folders_and_pipes_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    async with in_process(tmp_path, {"probes": {"allow": [f"file:{tmp_path}"]}}) as lab:
        wire = await lab.wire()
        for name in ("pipe", "folder"):
            seen = await looked(wire, f"file:{tmp_path}/{name}")
            assert (seen["state"], "is no file" in seen["error"]) == ("down", True)


@pytest.mark.parametrize(
    ("head", "state", "said"),
    [
        (b"", "down", "is empty"),
        ("Grüße\n".encode() * 200, "unknown", "seems to be text; a session"),
        (b"RIFF\x24\x08\0\0WAVEfmt \x10\0\0\0", "unknown", "seems to be audio; a session"),
        (b"ID3\x04\0\0\0\0\0", "unknown", "seems to be audio; a session"),
        (b"YUV4MPEG2 W4 H1 F30:1 Cmono\nFRAME\nABCD", "up", None),
        (b"\0\0\0\x20ftypisom\0\0\2\0", "up", None),
    ],
)
async def test_file_that_is_hardly_a_recording_is_not_up(
    tmp_path: Path, head: bytes, state: str, said: str | None
) -> None:
    (tmp_path / "file").write_bytes(head)
    async with in_process(tmp_path, {"probes": {"allow": [f"file:{tmp_path}"]}}) as lab:
        seen = await looked(await lab.wire(), f"file:{tmp_path}/file")
    assert (seen["state"], (said or "") in seen.get("error", "")) == (state, True)
    assert ("error" in seen) == (said is not None)


async def test_file_that_cannot_be_seen_from_here_is_neither_up_nor_down(tmp_path: Path) -> None:
    """The engine is on another machine, or the daemon in a container beside it."""
    async with in_process(tmp_path, {"probes": {"allow": ["file:/srv/rec"]}}) as lab:
        lab.daemon._machine.shows_files = False
        assert (await looked(await lab.wire(), "file:/srv/rec/scan"))["state"] == "unknown"
