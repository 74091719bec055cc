# SPDX-License-Identifier: MIT
"""Errors onto the wire and back, also when the wire says strange things."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord_protocol import errors
from operatord_protocol.codec import encode_error
from operatord_protocol.errors import ALL, InvalidParams, NoCapacity, WireError, from_wire


def subclasses(cls: type[WireError]) -> set[type[WireError]]:
    direct = set(cls.__subclasses__())
    return direct.union(*(subclasses(sub) for sub in direct))


def test_every_error_is_in_the_table() -> None:
    kinds = {errors.ProtocolFault, errors.ApplicationError}
    # The gateway has one of its own, which is there if another test has imported it.
    found = {each for each in subclasses(WireError) if each.__module__ == errors.__name__}
    assert found - kinds == set(ALL)
    assert len(ALL) == len(set(ALL))


def test_codes_and_types_are_unique() -> None:
    assert len(errors.BY_CODE) == len(errors.BY_TYPE) == len(ALL)


@pytest.mark.parametrize("cls", ALL)
def test_the_sign_of_the_code_tells_the_kind(cls: type[WireError]) -> None:
    assert (cls.code > 0) == issubclass(cls, errors.ApplicationError)


@pytest.mark.parametrize("cls", ALL)
def test_round_trip(cls: type[WireError]) -> None:
    exc = cls("a sentence", retry_after=1.5, dimension="memory")
    wire = exc.to_wire()
    assert wire["data"]["retryable"] is cls.retryable
    line = encode_error("rpc", 1, exc)
    assert json.loads(line)["error"] == wire
    back = from_wire(wire)
    assert type(back) is cls
    assert (str(back), back.data) == ("a sentence", exc.data)
    assert back.to_wire() == wire


def test_invalid_params_always_have_a_path() -> None:
    assert InvalidParams("no").to_wire()["data"]["path"] == "params"


def test_retryable_may_be_told_otherwise() -> None:
    wire = NoCapacity("never mind", retryable=False).to_wire()
    assert wire["data"]["retryable"] is False
    assert from_wire(wire).retryable is False
    assert NoCapacity.retryable is True


def test_an_error_of_a_later_version_keeps_its_name() -> None:
    wire = {"code": 99, "message": "m", "data": {"type": "out_of_paper", "retryable": True}}
    exc = from_wire(wire)
    assert type(exc) is WireError
    assert (exc.code, exc.type, exc.retryable) == (99, "out_of_paper", True)
    assert exc.to_wire() == wire


def test_a_known_code_with_an_unknown_type_is_of_the_known_kind() -> None:
    exc = from_wire({"code": 5, "message": "m", "data": {"type": "no_gpu"}})
    assert isinstance(exc, NoCapacity) and exc.type == "no_gpu"


def test_a_foreign_server_s_error_without_data() -> None:
    exc = from_wire({"code": -32601, "message": "Method not found"})
    assert isinstance(exc, errors.MethodNotFound)


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
members = st.fixed_dictionaries(
    {},
    optional={
        "code": odd | st.sampled_from(sorted(errors.BY_CODE)),
        "message": odd,
        "data": odd
        | st.dictionaries(
            st.sampled_from(["type", "retryable", "message", "self", "path", "data"]), odd
        ),
    },
)


@given(members | odd)
def test_whatever_a_peer_calls_an_error_can_be_raised(error: Any) -> None:
    exc = from_wire(error)
    assert isinstance(exc, WireError) and isinstance(exc.message, str)
    assert isinstance(exc.to_wire()["code"], int)
