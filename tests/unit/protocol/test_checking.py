# SPDX-License-Identifier: MIT
"""What is said of a value that is wrong: where, and what would be right, for whoever typed it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from operatord_protocol import messages as m
from operatord_protocol.checking import convert_params, likely_choice, suggestion
from operatord_protocol.errors import InvalidParams
from operatord_protocol.methods import METHODS

ADDRESS = {"name": "us-1", "port": 1}


@pytest.mark.parametrize(
    ("word", "known", "hint"),
    [
        ("segmentd", ["segmented", "stream"], "; did you mean 'segmented'?"),
        ("zebra", ["b", "a"], "; known: a, b"),
        ("zebra", [], "; there are none"),
        ("strat", ["start", "stats", "status"], "; did you mean 'start'?"),
        ("STREAM", ["segmented", "stream"], "; did you mean 'stream'?"),
        ("ping", METHODS, "; did you mean 'system.ping'?"),
        ("SESSION.STOP", METHODS, "; did you mean 'session.stop'?"),
        ("list", METHODS, "; did you mean 'pipeline.list', 'probe.list' or 'session.list'?"),
    ],
)
def test_suggestion(word: str, known: list[str], hint: str) -> None:
    assert suggestion(word, known) == hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (
            "argument C: invalid choice: 'lsit' (choose from 'start', 'list')",
            "; did you mean 'list'?",
        ),
        ("argument C: invalid choice: 'lsit' (choose from start, list)", "; did you mean 'list'?"),
        ("argument C: invalid choice: 'zebra' (choose from 'start', 'list')", ""),
        ("the following arguments are required: COMMAND", ""),
    ],
)
def test_likely_choice_in_what_argparse_says(said: str, hint: str) -> None:
    """Python 3.12 lists the choices with quotes, later ones without."""
    assert likely_choice(said) == hint


@pytest.mark.parametrize(
    ("type_", "params", "sentence"),
    [
        (
            m.SessionParams,
            {"session_id": "ee705b6538693c50"},
            "params.session_id: expected 16 hexadecimal digits in upper case",
        ),
        (
            m.ProbeParams,
            {"name": "us 1"},
            "params.name: expected letters and digits, and - _ . after the first",
        ),
        (
            m.ProbeRegisterParams,
            {**ADDRESS, "host": "10.0.0.7/24"},
            "params.host: expected the name or the address of a host, without a port; a URL goes into url",
        ),
        (
            m.SessionStartParams,
            {"env": {"probe": {"fps": "30\n"}}},
            "params.env.probe.fps: expected text without control characters",
        ),
        (
            m.SessionStartParams,
            {"env": {"probe": {"f-p-s": 30}}},
            "params.env.probe: a name in it is wrong: expected letters, digits and _, and no digit first",
        ),
    ],
)
def test_pattern_is_told_by_what_it_means(
    type_: type[m.Params], params: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InvalidParams) as refused:
        convert_params(params, type_)
    assert refused.value.message == sentence


class Undescribed(msgspec.Struct):
    """A type that somebody forgot to describe."""

    word: Annotated[str, Meta(pattern="^a+$")]


def test_pattern_without_a_meaning_is_told_itself() -> None:
    with pytest.raises(InvalidParams, match=r"params.word: expected text that matches '\^a\+\$'"):
        convert_params({"word": "b"}, Undescribed)


@pytest.mark.parametrize(
    "name",
    [
        "a` - at `$.env[...]",
        "a` - at `$[0]",
        "a` - at `$.env[...].x[...]",
        "a` - at `key` in `$.env",
    ],
)
@pytest.mark.parametrize("env", [{}, {"env": {}}, {"env": 5}, {"env": {"probe": {"fps": 5}}}])
def test_name_that_looks_like_a_place_is_refused_as_any_other(
    name: str, env: dict[str, Any]
) -> None:
    """A1: what a client calls a member is no reason for the daemon to break."""
    for type_ in (m.SessionStartParams, m.SessionListParams, m.NoParams):
        with pytest.raises(InvalidParams, match="params"):
            convert_params({name: 1, **env}, type_)
