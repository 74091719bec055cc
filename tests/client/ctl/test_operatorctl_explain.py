# SPDX-License-Identifier: MIT
"""start --explain, get --explain: where the time of a start went."""

from __future__ import annotations

from typing import Any

import pytest
from client_stub import SESSION_ID, Run, StubDaemon

from operatord_client.ctl import exits
from operatord_client.ctl.verbs.explain import BAR_WIDTH, explanation

COLD: dict[str, Any] = {
    "session_id": SESSION_ID,
    "pipeline": "segmented",
    "phase": "running",
    "created": "2024-05-17T09:30:00.120Z",
    "started": "2024-05-17T09:30:00.920Z",
    "timings": {
        "probe": 0.0,
        "network": 100.0,
        "start.segmentation": 400.0,
        "start.probe": 100.0,
        "start": 500.0,
        "verify": 198.0,
        "total": 800.0,
    },
    "warm": False,
}
WARM = {**COLD, "warm": True, "timings": {"probe": 0.0, "bind": 0.5, "verify": 9.5, "total": 10.0}}


def with_timings(timings: dict[str, float], **changes: Any) -> dict[str, Any]:
    return {**COLD, "timings": timings, **changes}


def names(text: str) -> list[str]:
    """Return the first column, without what is said below the table."""
    table, _, _ = text.partition("\n\n")
    return [line.partition("  ")[0] or line.split()[0] for line in table.splitlines()[1:]]


def test_steps_parts_and_what_was_waited_for_besides() -> None:
    assert explanation(COLD, 1000.0).splitlines() == [
        "STEP                MS",
        "probe              0.0",
        "network          100.0  ####",
        "start            500.0  ####################",
        "  segmentation   400.0  ----------------",
        "  probe          100.0  ----",
        "verify           198.0  ########",
        "between steps      2.0",
        "total            800.0",
        "queue, journal     0.0",
        "on the way       200.0  ########",
        "waited          1000.0",
        "",
        "cold: no warm slot was ready for it; pipelines.segmented.warm prepares some",
    ]


def test_bars_are_drawn_to_one_scale() -> None:
    text = explanation(COLD, 1000.0)
    assert sum(line.count("#") for line in text.splitlines()) == BAR_WIDTH


def test_a_warm_start_has_its_own_steps_and_says_so() -> None:
    text = explanation(WARM)
    assert names(text)[:4] == ["probe", "bind", "verify", "total"]
    assert text.splitlines()[-1].startswith("warm: ")


def test_steps_of_a_later_daemon_are_shown_too() -> None:
    text = explanation(with_timings({"thaw": 30.0, "warp.deep": 4.0, "verify": 1.0, "total": 35.0}))
    assert names(text)[:4] == ["thaw", "warp.deep", "verify", "total"]


def test_what_was_attached_later_is_no_part_of_the_start() -> None:
    later = {"attach": 450.0, "start.segmentation": 440.0}
    text = explanation(with_timings({"start.probe": 9.0, "start": 10.0, "total": 10.0, **later}))
    assert names(text) == [
        "start",
        "probe",
        "total",
        "queue, journal",
        "later: attach",
        "later: start.segmentation",
    ]
    assert "total                       10.0\n" in text


def test_a_start_that_failed_is_explained_as_far_as_it_came() -> None:
    failed = {k: v for k, v in COLD.items() if k != "started"}
    text = explanation({**failed, "timings": {"network": 5.0, "create": 2.5}})
    assert text.splitlines()[1:4] == [
        f"network  5.0  {'#' * 27}",
        f"create   2.5  {'#' * 13}",
        "so far   7.5",
    ]
    assert "no step" in explanation({**failed, "timings": {}})


@pytest.mark.parametrize(
    ("timings", "waited", "word"),
    [
        ({"probe": 2.0, "total": 100.0}, None, "waiting in the queue"),
        ({"probe": 790.0, "total": 800.0}, None, "registered probe"),
        ({"turn": 790.0, "total": 800.0}, None, "other sessions"),
        ({"start": 790.0, "total": 800.0}, 2000.0, "between client and daemon"),
    ],
)
def test_what_takes_most_of_the_time_is_named(
    timings: dict[str, float], waited: float | None, word: str
) -> None:
    assert word in explanation(with_timings(timings), waited).splitlines()[-1]


def test_an_answer_that_was_there_already_is_not_explained_by_the_start() -> None:
    text = explanation(COLD, 2.0)
    assert "waited" not in names(text)
    assert text.endswith("the answer came after 2.0 ms: an earlier request had started it")


def test_start_and_get_print_it_below_the_session(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.start", {"result": COLD})
    daemon.on("session.get", {"result": WARM})
    started, got = ctl("start", "--explain"), ctl("get", SESSION_ID, "--explain")
    assert (started.code, got.code) == (0, 0)
    assert started.out.startswith(f"session   {SESSION_ID}\n")
    assert "\n\nSTEP " in started.out
    assert "\nwarm: " in got.out
    assert all(line == line.rstrip() for line in (started.out + got.out).splitlines())


def test_json_stays_the_wire_s_own_document(daemon: StubDaemon, ctl: Run) -> None:
    daemon.on("session.start", {"result": COLD})
    assert ctl("start", "--explain", "-o", "json").json == COLD


def test_a_start_that_is_not_waited_for_cannot_be_explained(ctl: Run) -> None:
    ran = ctl("start", "--explain", "--no-wait")
    assert (ran.code, ran.out) == (exits.USAGE, "")
    assert "--explain" in ran.err
