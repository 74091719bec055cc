# SPDX-License-Identifier: MIT
"""PROTOCOL.md leaves nothing out, and its examples are what they claim to be."""

from __future__ import annotations

import json
import re
import typing
from typing import Any

import msgspec
import pytest
from protocol_vectors import FOLDER, examine

from operatord_protocol import errors, stream
from operatord_protocol import messages as m
from operatord_protocol.codec import Refusal
from operatord_protocol.framing import LINE_BYTES
from operatord_protocol.methods import METHODS, PROTOCOL_VERSION

TEXT = (FOLDER.parent / "PROTOCOL.md").read_text("utf-8")
HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
DESCRIBED_ELSEWHERE = (m.Session, m.Probe)


def sections() -> dict[str, str]:
    """Return the text under each heading, by each name in backticks that the heading has."""
    found: dict[str, str] = {}
    matches = list(HEADING.finditer(TEXT))
    ends = [match.start() for match in matches[1:]] + [len(TEXT)]
    for match, end in zip(matches, ends, strict=True):
        body = TEXT[match.end() : end]
        for name in re.findall(r"`([^`]+)`", match[1]) or [match[1]]:
            found[name] = body
    return found


SECTIONS = sections()


def names(type_: Any) -> tuple[str, ...]:
    fields: tuple[str, ...] = type_.__struct_fields__
    return fields


def missing(words: typing.Iterable[str], text: str) -> list[str]:
    return [word for word in words if f"`{word}`" not in text]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_section_with_every_param_and_result(name: str) -> None:
    method, text = METHODS[name], SECTIONS[name]
    if name == "session.plan":
        assert "Params as for `session.start`" in text
    else:
        assert missing(names(method.params), text) == []
    if method.result not in DESCRIBED_ELSEWHERE:
        assert missing(names(method.result), text) == []


def test_no_section_is_about_a_method_that_is_not() -> None:
    described = {name for name in SECTIONS if re.fullmatch(r"[a-z]+\.[a-z]+", name)}
    assert described == METHODS.keys()


def test_every_param_that_must_be_given_is_not_marked_as_optional() -> None:
    for name, method in METHODS.items():
        optional = set(re.findall(r"^\| `(\w+)` \? \|", SECTIONS[name], re.MULTILINE))
        required = set(re.findall(r"^\| `(\w+)` \|", SECTIONS[name], re.MULTILINE))
        for field in msgspec.structs.fields(method.params):
            if name != "session.plan":
                assert field.name in (required if field.required else optional), name


def test_every_member_of_a_session() -> None:
    text = SECTIONS["A session"]
    assert missing(set(names(m.Session)) - {"stages"}, text) == []
    for words in (m.Phase, m.Outcome, m.Cause):
        assert missing(typing.get_args(words), text) == []


def test_every_member_of_a_post_mortem() -> None:
    text = SECTIONS["A post-mortem"]
    assert missing((*names(m.PostMortem), *names(m.Peak)), text) == []


def test_every_member_of_a_probe_and_a_log_line() -> None:
    assert missing(names(m.Probe), SECTIONS["A probe"]) == []
    assert missing(names(m.StageLine), SECTIONS["session.logs"]) == []


@pytest.mark.parametrize("cls", errors.ALL)
def test_every_error_has_its_row(cls: type[errors.WireError]) -> None:
    retryable = "yes" if cls.retryable else "no"
    row = f"| {cls.code} | `{cls.type}` | {retryable}"
    assert f"{row} |" in SECTIONS["5. Errors"] or f"{row}, but " in SECTIONS["5. Errors"]


def test_every_event_type_and_notification() -> None:
    text = SECTIONS["6. Notifications"]
    notifications = ["session.progress", "session.log", "event", "events.lost"]
    assert missing([*m.EVENT_TYPES, *notifications], text) == []


def test_every_header_of_the_stream() -> None:
    text = SECTIONS["format=json"]
    for type_ in (stream.Hello, stream.FrameHeader, stream.Part, stream.End):
        assert missing(names(type_), text) == []
    assert f"{stream.HEADER_BYTES:,}".replace(",", " ") in text
    assert f"{stream.PAYLOAD_BYTES // 2**20} MiB" in text
    assert f"`{stream.CHECK.decode().strip()}`" in SECTIONS["Conduct"]


def test_numbers_are_those_of_the_code() -> None:
    assert f"Version {PROTOCOL_VERSION}." in TEXT
    assert f"{LINE_BYTES:,}".replace(",", " ") in SECTIONS["1. Wire"]
    assert f"1–{m.COUNT_MAX}" in SECTIONS["session.start"]


REQUESTS = re.findall(r"^→ (.+)$", TEXT, re.MULTILINE)
ANSWERS = re.findall(r"^← (.+)$", TEXT, re.MULTILINE)


@pytest.mark.parametrize("line, answer", re.findall(r"^→ (.+)\n← (.+)$", TEXT, re.MULTILINE))
def test_an_example_is_answered_as_the_text_says(line: str, answer: str) -> None:
    found, _ = examine(line.encode())
    reply = json.loads(answer)
    assert ("jsonrpc" in reply) == (found.dialect == "rpc")
    assert reply.get("id") == found.id
    if isinstance(found, Refusal):
        assert reply["error"] == found.error.to_wire()
    elif found.dialect == "seed":
        assert m.session_from_wire(reply).stages
    elif "error" in reply:
        assert errors.from_wire(reply["error"]).to_wire() == reply["error"]


def test_examples_are_compact_json_as_the_daemon_writes_it() -> None:
    assert len(REQUESTS) >= 6 and len(ANSWERS) >= 10
    for line in ANSWERS:
        assert json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False) == line


def test_commands_for_netcat_send_good_requests() -> None:
    lines = re.findall(r"^ {4}\$ echo '(.+)' \| nc -N", TEXT, re.MULTILINE)
    assert len(lines) >= 4
    for line in lines:
        found, answered = examine(line.encode())
        assert answered and not isinstance(found, Refusal)


def test_streams_in_the_text_can_be_read() -> None:
    headers = re.findall(r"^ {4}(\{\"type\":.+|YUV4MPEG2 .+)\\n$", TEXT, re.MULTILINE)
    assert len(headers) == 5
    for line in headers:
        if '"hello"' in line or line.startswith("YUV"):
            assert stream.parse_hello(line.encode()).width == 256
        else:
            parser = stream.StreamParser()
            hello = b'{"type":"hello","stream":"x","width":256,"height":256}\n'
            parser.feed(hello + line.encode() + b"\n" + bytes(131072))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", TEXT):
        assert (FOLDER.parent / target).exists()
