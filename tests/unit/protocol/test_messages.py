# SPDX-License-Identifier: MIT
"""What each method's params may be, and a session's way onto the wire and back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord_protocol import messages as m
from operatord_protocol.checking import convert_params
from operatord_protocol.errors import InvalidParams
from operatord_protocol.methods import METHODS

ID = "EE705B6538693C50"
REGISTER = {"name": "us-1", "host": "10.0.0.7", "port": 12345}

GOOD: list[tuple[type[m.Params], dict[str, Any]]] = [
    (m.NoParams, {}),
    (m.DrainParams, {}),
    (m.DrainParams, {"timeout": 0}),
    (m.DrainParams, {"timeout": 31_536_000}),
    (m.LoginParams, {"token": "t"}),
    (m.LoginParams, {"token": "t" * 4096}),
    (m.ProbeRegisterParams, REGISTER),
    (m.ProbeRegisterParams, {**REGISTER, "host": "fe80::1%eth0", "port": 1}),
    (m.ProbeRegisterParams, {**REGISTER, "host": "us-1.lab.example", "port": 65535}),
    (m.ProbeRegisterParams, {**REGISTER, "labels": {"room": ""}, "lease": "connection"}),
    (m.ProbeRegisterParams, {"name": "a", "url": "rtsp://ada:pw@cam.lab/1?x=2"}),
    (m.ProbeParams, {"name": "a" * 64}),
    (m.ProbeParams, {"name": "0_.-"}),
    (m.SessionStartParams, {}),
    (m.SessionStartParams, {"count": 1}),
    (m.SessionStartParams, {"count": m.COUNT_MAX, "priority": -10}),
    (m.SessionStartParams, {"lease": {"ttl": 0.1}, "deadline": 0.001, "priority": 10}),
    (m.SessionStartParams, {"env": {"probe": {}}}),
    (m.SessionStartParams, {"env": {"probe": {"a": "", "_B2": 1, "c": -0.5, "d": False}}}),
    (m.SessionStartParams, {"env": {"probe": {"a": "x" * 4096, "b": 2**63 - 1, "c": -(2**63)}}}),
    (m.SessionStartParams, {"request_key": "k" * 256, "owner": "o" * 64}),
    (
        m.SessionStartParams,
        {"request_key": "\u043a\u043b\u044e\u0447 1", "owner": "M\u00fcller, \u4e2d"},
    ),
    (m.SessionParams, {"session_id": ID}),
    (m.ProbeListParams, {"limit": 10, "cursor": "WzEsIkEiXQ"}),
    (m.SessionListParams, {"phase": "ended", "owner": "ada", "limit": 10_000}),
    (m.SessionStopParams, {"session_id": ID, "grace": 0}),
    (m.SessionWaitParams, {"session_id": ID, "phase": "running", "timeout": 0.5}),
    (m.SessionExtendParams, {"session_id": ID, "ttl": 60}),
    (m.SessionLogsParams, {"session_id": ID, "stage": "probe", "tail": 10_000, "follow": True}),
    (m.SubscribeParams, {}),
    (m.SubscribeParams, {"session_id": ID, "types": [], "since": 2**53}),
    (m.UnsubscribeParams, {"subscription": 0}),
    (m.CancelParams, {"id": ""}),
    (m.CancelParams, {"id": -(2**63)}),
]

CONTROL = ("\0", "\t", "\n", "\r", "\x1b[2J", "\x7f", "\x80", "\x9b31m")

BAD: list[tuple[type[m.Params], dict[str, Any], str]] = [
    (m.DrainParams, {"timeout": -0.1}, "timeout"),
    (m.DrainParams, {"timeout": 31_536_001}, "timeout"),
    (m.DrainParams, {"timeout": 10**400}, "timeout"),
    (m.DrainParams, {"timeout": None}, "timeout"),
    (m.DrainParams, {"timeout": "5s"}, "timeout"),
    (m.LoginParams, {}, "token"),
    (m.LoginParams, {"token": ""}, "token"),
    (m.LoginParams, {"token": "t" * 4097}, "token"),
    (m.ProbeRegisterParams, {"host": "h", "port": 1}, "name"),
    (m.ProbeRegisterParams, {"name": "a", "url": ""}, "url"),
    (m.ProbeRegisterParams, {"name": "a", "url": "file:/a b"}, "url"),
    (m.ProbeRegisterParams, {"name": "a", "url": "rtsp://h/\n"}, "url"),
    (m.ProbeRegisterParams, {"name": "a", "url": "u" * 2049}, "url"),
    (m.ProbeRegisterParams, {**REGISTER, "name": "-a"}, "name"),
    (m.ProbeRegisterParams, {**REGISTER, "name": "a" * 65}, "name"),
    (m.ProbeRegisterParams, {**REGISTER, "name": "a/b"}, "name"),
    (m.ProbeRegisterParams, {**REGISTER, "host": ""}, "host"),
    (m.ProbeRegisterParams, {**REGISTER, "host": "a b"}, "host"),
    (m.ProbeRegisterParams, {**REGISTER, "host": "h" * 254}, "host"),
    (m.ProbeRegisterParams, {**REGISTER, "host": "h\n"}, "host"),
    (m.ProbeRegisterParams, {**REGISTER, "port": 0}, "port"),
    (m.ProbeRegisterParams, {**REGISTER, "port": 65536}, "port"),
    (m.ProbeRegisterParams, {**REGISTER, "port": True}, "port"),
    (m.ProbeRegisterParams, {**REGISTER, "labels": {"room": "r" * 257}}, "labels.room"),
    (m.ProbeRegisterParams, {**REGISTER, "labels": {"a b": "r"}}, "labels"),
    (m.ProbeRegisterParams, {**REGISTER, "lease": "forever"}, "lease"),
    (m.ProbeParams, {}, "name"),
    (m.ProbeParams, {"name": ""}, "name"),
    (m.SessionStartParams, {"count": 0}, "count"),
    (m.SessionStartParams, {"count": m.COUNT_MAX + 1}, "count"),
    (m.SessionStartParams, {"count": 10**400}, "count"),
    (m.SessionStartParams, {"count": 5.0}, "count"),
    (m.SessionStartParams, {"count": True}, "count"),
    (m.SessionStartParams, {"count": None}, "count"),
    (m.SessionStartParams, {"plain_stream": 1}, "plain_stream"),
    (m.SessionStartParams, {"pipeline": ".hidden"}, "pipeline"),
    (m.SessionStartParams, {"probe": "us-1\n"}, "probe"),
    (m.SessionStartParams, {"format": "JSON"}, "format"),
    (m.SessionStartParams, {"request_key": "k" * 257}, "request_key"),
    (m.SessionStartParams, {"priority": 11}, "priority"),
    (m.SessionStartParams, {"priority": -11}, "priority"),
    (m.SessionStartParams, {"owner": ""}, "owner"),
    *((m.SessionStartParams, {"owner": f"a{bad}b"}, "owner") for bad in CONTROL),
    (m.SessionStartParams, {"owner": "ada\n"}, "owner"),
    *((m.SessionStartParams, {"request_key": f"{bad}k"}, "request_key") for bad in CONTROL),
    *((m.SessionStartParams, {"env": {"probe": {"a": bad}}}, "env.probe.a") for bad in CONTROL),
    *((m.ProbeRegisterParams, {**REGISTER, "labels": {"a": bad}}, "labels.a") for bad in CONTROL),
    (m.SessionStartParams, {"lease": 30}, "lease"),
    (m.SessionStartParams, {"lease": {"ttl": 0}}, "lease.ttl"),
    (m.SessionStartParams, {"lease": {"ttl": 1, "more": 1}}, "lease.more"),
    (m.SessionStartParams, {"on_shortage": ""}, "on_shortage"),
    (m.SessionStartParams, {"deadline": 0}, "deadline"),
    (m.SessionStartParams, {"wait": "done"}, "wait"),
    (m.SessionStartParams, {"env": {"a b": {}}}, "env"),
    (m.SessionStartParams, {"env": {"probe": {"": "1"}}}, "env.probe"),
    (m.SessionStartParams, {"env": {"probe": {"a=b": "1"}}}, "env.probe"),
    (m.SessionStartParams, {"env": {"probe": {"a\n": "1"}}}, "env.probe"),
    (m.SessionStartParams, {"env": {"probe": {"a" * 129: "1"}}}, "env.probe"),
    (m.SessionStartParams, {"env": {"probe": {"a": "x" * 4097}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"probe": {"a": "x\ny=1"}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"probe": {"a": "x\n"}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"probe": {"a": "x\r"}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"probe": {"a": "x\0"}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"probe": {"a": "x\ty"}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"probe": {"a": [1]}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"a.b": {}, "probe": {"b": 1, "a": None}}}, "env.probe.a"),
    (m.SessionStartParams, {"env": {"probe": {"b": 1}, "a.b": {"a": None}}}, "env.a.b.a"),
    (m.SessionStartParams, {"env": {"a": {}, "probe": 1}, "wait": "?"}, "env.probe"),
    (m.SessionStartParams, {"env": {"a": dict.fromkeys(map("a{}".format, range(65)), 1)}}, "env.a"),
    (m.SessionStartParams, {"env": {f"s{n}": {} for n in range(17)}}, "env"),
    (
        m.SessionStartParams,
        {"env": {f"s{n}": dict.fromkeys(map("a{}".format, range(64))) for n in range(16)}},
        "env[...][...]",
    ),
    (m.SessionParams, {}, "session_id"),
    (m.SessionParams, {"session_id": ID.lower()}, "session_id"),
    (m.SessionParams, {"session_id": ID[:-1]}, "session_id"),
    (m.SessionParams, {"session_id": ID + "\n"}, "session_id"),
    (m.SessionParams, {"session_id": int(ID, 16)}, "session_id"),
    (m.SessionListParams, {"phase": "gone"}, "phase"),
    (m.SessionListParams, {"limit": 0}, "limit"),
    (m.SessionListParams, {"cursor": ""}, "cursor"),
    (m.ProbeListParams, {"limit": 0}, "limit"),
    (m.SessionListParams, {"limit": 10_001}, "limit"),
    (m.SessionStopParams, {"session_id": ID, "grace": -1}, "grace"),
    (m.SessionWaitParams, {"session_id": ID, "phase": "done"}, "phase"),
    (m.SessionExtendParams, {"session_id": ID}, "ttl"),
    (m.SessionExtendParams, {"session_id": ID, "ttl": 0}, "ttl"),
    (m.SessionLogsParams, {"session_id": ID, "tail": -1}, "tail"),
    (m.SessionLogsParams, {"session_id": ID, "follow": "yes"}, "follow"),
    (m.SubscribeParams, {"since": -1}, "since"),
    (m.SubscribeParams, {"since": 2**53 + 1}, "since"),
    (m.SubscribeParams, {"types": [1]}, "types[0]"),
    (m.UnsubscribeParams, {"subscription": 10**400}, "subscription"),
    (m.CancelParams, {}, "id"),
    (m.CancelParams, {"id": None}, "id"),
    (m.CancelParams, {"id": True}, "id"),
    (m.CancelParams, {"id": 2**63}, "id"),
    (m.CancelParams, {"id": "i" * 257}, "id"),
]


def test_the_tables_leave_no_type_out() -> None:
    used = {method.params for method in METHODS.values()}
    assert {type_ for type_, _ in GOOD} == used
    assert {type_ for type_, _, _ in BAD} == used - {m.NoParams}


@pytest.mark.parametrize("type_, params", GOOD)
def test_good_params(type_: type[m.Params], params: dict[str, Any]) -> None:
    value = convert_params(params, type_)
    sent = msgspec.to_builtins(value)
    assert {name: sent[name] for name in params} == params


@pytest.mark.parametrize("type_, params, path", BAD)
def test_bad_params_name_the_member(
    type_: type[m.Params], params: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidParams) as caught:
        convert_params(params, type_)
    assert caught.value.data["path"] == f"params.{path}"
    assert caught.value.message.startswith(f"params.{path}: ")


@pytest.mark.parametrize("type_, params", GOOD)
def test_an_unknown_member_is_refused_everywhere(
    type_: type[m.Params], params: dict[str, Any]
) -> None:
    with pytest.raises(InvalidParams) as caught:
        convert_params({**params, "surprise": 1}, type_)
    assert caught.value.data["path"] == "params.surprise"


@pytest.mark.parametrize("type_, params", GOOD)
def test_params_are_frozen(type_: type[m.Params], params: dict[str, Any]) -> None:
    value = convert_params(params, type_)
    for name in type_.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, None)


def test_integers_of_the_environment_have_64_bits() -> None:
    """Not in the table: JSON Schema does not tell a large integer from a number."""
    for number in (2**63, -(2**63) - 1, 10**400):
        with pytest.raises(InvalidParams):
            convert_params({"env": {"probe": {"a": number}}}, m.SessionStartParams)


def test_defaults_are_what_the_text_promises() -> None:
    start = convert_params({}, m.SessionStartParams)
    assert (start.format, start.lease, start.on_shortage, start.wait, start.priority) == (
        "json",
        "pinned",
        "queue",
        "ready",
        0,
    )
    assert start.count is start.plain_stream is start.deadline is msgspec.UNSET
    assert convert_params({"session_id": ID}, m.SessionWaitParams).phase == "ended"
    assert convert_params({"session_id": ID}, m.SessionLogsParams).tail == 100


# --- sessions --------------------------------------------------------------------------------

words = st.text(min_size=1, max_size=8)
maybe: dict[str, st.SearchStrategy[Any]] = {
    "network": words,
    "location": st.just(m.Location(host="h", port=1, url="tcp://h:1", format="json")),
    "outcome": st.sampled_from(["completed", "stopped", "failed", "expired", "refused"]),
    "reason": words,
    "cause": words,
    "owner": words,
    "started": words,
    "ended": words,
    "expires": words,
    "unread_since": words,
    "position": st.integers(1, 1000),
    "estimate": st.floats(0, 1e6),
    "plain_location": st.just(m.Location(host="h", port=2, url="tcp://h:2", format="json")),
    "registered_probe": words,
    "timings": st.dictionaries(words, st.floats(0, 1e6)),
    "warm": st.booleans(),
    "degraded": st.booleans(),
    "joined": st.booleans(),
    "images": st.dictionaries(words, st.builds(m.ImageUsed, name=words, id=words)),
    "exit_codes": st.dictionaries(words, st.none() | st.integers(0, 255)),
    "count": st.integers(1, 2**31 - 1),
    "frames": st.integers(0, 2**31),
    "post_mortem": st.builds(
        m.PostMortem,
        phases=st.dictionaries(st.sampled_from(m.PHASES), words),
        stage=words,
        advice=words,
        usage=st.dictionaries(
            words, st.builds(m.Peak, cpus=st.floats(0, 64), memory=st.integers(0))
        ),
        log=st.dictionaries(words, st.lists(words)),
    ),
}
stage_names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True).filter(
    lambda name: name not in m.Session.__struct_fields__
)
sessions = st.builds(
    lambda members, phase, stages: m.Session(
        session_id=ID, pipeline="segmented", phase=phase, created="now", stages=stages, **members
    ),
    st.fixed_dictionaries({}, optional=maybe),
    st.sampled_from(m.PHASES),
    st.dictionaries(stage_names, words, max_size=4),
)


@given(sessions)
def test_a_session_survives_the_wire(session: m.Session) -> None:
    wire = m.session_to_wire(session)
    assert m.session_from_wire(wire) == session
    assert m.session_from_wire(msgspec.json.decode(msgspec.json.encode(wire))) == session


def test_the_strategy_leaves_no_member_out() -> None:
    always = {"session_id", "pipeline", "phase", "created", "stages"}
    assert maybe.keys() | always == set(m.Session.__struct_fields__)


def test_stages_are_members_of_the_session_itself() -> None:
    session = m.Session(
        session_id=ID, pipeline="stream", phase="running", stages={"probe": "c1", "stream": "c2"}
    )
    wire = m.session_to_wire(session)
    assert (wire["probe"], wire["stream"]) == ("c1", "c2")
    assert "stages" not in wire and "segmentation" not in wire


def test_absent_members_are_absent_not_null() -> None:
    wire = m.session_to_wire(m.Session(session_id=ID, pipeline="stream", phase="queued"))
    assert wire == {"session_id": ID, "pipeline": "stream", "phase": "queued", "created": ""}


def test_a_wire_that_says_stages_itself_is_not_believed() -> None:
    wire = {"session_id": ID, "pipeline": "p", "phase": "queued", "stages": {"probe": "x"}}
    assert m.session_from_wire(wire).stages == {}


def test_event_types_cover_the_phases() -> None:
    assert {f"session.{phase}" for phase in m.PHASES} < set(m.EVENT_TYPES)
