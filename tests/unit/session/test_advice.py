# SPDX-License-Identifier: MIT
"""What a person is told to do about a session that ended before its work was done."""

from __future__ import annotations

import typing

import pytest

from operatord.session.advice import ADVICE, EXITS, Case, advise
from operatord.settings.config import Config, to_dict
from operatord_protocol.messages import Cause

MIB = 2**20


def case(cause: str, **more: typing.Any) -> Case:
    given = {"pipeline": "segmented", "stage": "stream", "memory_limit": 96 * MIB, **more}
    return Case(cause, **given)


def test_every_cause_has_its_advice_and_no_other_has() -> None:
    assert ADVICE.keys() == set(typing.get_args(Cause))


def test_nothing_is_advised_where_all_went_as_it_was_wanted() -> None:
    assert {cause for cause in ADVICE if advise(case(cause)) is None} == {"done", "client"}


@pytest.mark.parametrize("cause", ADVICE)
@pytest.mark.parametrize("stage", ["stream", None])
@pytest.mark.parametrize("code", [*EXITS, 0, 1, None])
def test_advice_is_one_sentence_with_nothing_left_open(
    cause: str, stage: str | None, code: int | None
) -> None:
    words = advise(case(cause, stage=stage, code=code))
    if words is not None:
        assert words[0].islower() or words[0] == "`"
        assert not words.endswith(".")
        assert "{" not in words and "None" not in words and "  " not in words


@pytest.mark.parametrize("code", [3, 4])
def test_registered_probe_that_broke_off_has_no_log_to_read(code: int) -> None:
    words = advise(case("exit", code=code, probe="bedside", reads_probe=True))
    assert words is not None
    assert "the registered probe 'bedside', which broke off" in words
    assert "log" not in words
    assert "'bedside'" not in str(advise(case("exit", code=code, probe="bedside")))


@pytest.mark.parametrize(
    ("cause", "code", "said"),
    [
        ("exit", 3, "the adapter lost the source of the registered probe 'cam', or never found it"),
        ("exit", 2, "correct `env` of the request, or sources.rtsp.env"),
        ("oom", None, "raise sources.rtsp.memory_limit"),
        ("probe", None, "see that its source can be read; `operatorctl probe get cam` tries it"),
    ],
)
def test_adapter_has_its_settings_elsewhere(cause: str, code: int | None, said: str) -> None:
    words = advise(case(cause, stage="probe", code=code, probe="cam", scheme="rtsp"))
    assert said in str(words)


def test_file_that_the_adapter_may_not_read_is_said_with_whose_right_it_is() -> None:
    words = advise(case("exit", stage="probe", code=3, probe="rec", scheme="file"))
    assert "its user, nobody unless sources.file.user names another" in str(words)


def test_stage_that_cannot_read_a_format_says_so_in_its_own_log() -> None:
    words = advise(case("exit", stage="segmentation", code=4))
    assert "such as another format of pixels: its own log says which" in str(words)


def test_memory_is_said_with_the_setting_and_what_it_is_now() -> None:
    words = advise(case("oom"))
    assert words is not None
    assert "pipelines.segmented.stages.stream.memory_limit, now 96 MiB" in words


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (2, "pipelines.segmented.stages.stream.env"),
        (3, "found no upstream within its connect_timeout"),
        (4, "the stage before it"),
        (137, "SIGKILL"),
        (0, "as if its work were done"),
        (77, "the code 77 is the program's own"),
        (None, "removed by somebody else"),
    ],
)
def test_exit_code_is_explained_as_the_stage_contract_has_it(code: int | None, said: str) -> None:
    assert said in str(advise(case("exit", code=code)))


def test_a_lease_is_answered_in_its_own_kind() -> None:
    assert "session.extend" in str(advise(case("lease", leased_by="ttl")))
    assert "connection" in str(advise(case("lease")))


def test_a_registered_probe_is_named() -> None:
    assert "operatorctl probe get us-1" in str(advise(case("probe", probe="us-1")))


def test_a_restart_is_another_matter_for_a_session_that_ran() -> None:
    assert advise(case("restart", ran=True)) != advise(case("restart"))


def test_settings_that_are_named_are_there() -> None:
    settings = to_dict(Config())
    for cause, path in (
        ("unread", ("lease", "unread_timeout")),
        ("idle", ("lease", "idle_timeout")),
        ("max_age", ("lease", "max_age")),
        ("start_timeout", ("start_timeout",)),
        ("shutdown", ("on_shutdown",)),
        ("oom", ("pipelines", "segmented", "stages", "stream", "memory_limit")),
    ):
        assert ".".join(path) in str(advise(case(cause)))
        place = settings
        for name in path:
            assert name in place
            place = place[name]
