# SPDX-License-Identifier: MIT
"""What stages write and use, as the daemon passes it on."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_lab import Lab, Wire, in_process, until

from operatord.engines.base import EngineUnavailable, LogLine
from operatord.lifecycle.inspection import LINE_OVERHEAD, LOGS_BYTES, newest_lines


async def test_logs_of_all_stages_or_one(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    sid = session["session_id"]
    for stage in ("probe", "stream"):
        for number in range(3):
            lab.fake.world.write(session[stage], f"{stage} {number}")
    lines = (await wire.call("session.logs", session_id=sid))["lines"]
    assert {tuple(sorted(line)) for line in lines} == {("line", "stage", "time")}
    assert len(lines) == 6
    lines = (await wire.call("session.logs", session_id=sid, stage="probe", tail=2))["lines"]
    assert [line["line"] for line in lines] == ["probe 1", "probe 2"]
    assert (await wire.call("session.logs", session_id=sid, tail=0))["lines"] == []
    refused = await wire.refusal("session.logs", session_id=sid, stage="prob")
    assert refused.type == "not_found"


async def test_logs_stay_readable_after_the_end(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    lab.fake.world.write(session["stream"], "last words", "stderr")
    sid = session["session_id"]
    await wire.call("session.stop", session_id=sid)
    lines = (await wire.call("session.logs", session_id=sid, stage="stream"))["lines"]
    assert [line["line"] for line in lines] == ["last words"]
    followed = await wire.call("session.logs", session_id=sid, stage="stream", follow=True)
    assert [line["line"] for line in followed["lines"]] == ["last words"]


async def test_last_words_are_bounded_in_size(lab: Lab, wire: Wire) -> None:
    """A11: they are kept in memory and on disk for as long as the session is remembered."""
    session = await wire.call("session.start")
    sid = session["session_id"]
    for number in range(100):
        lab.fake.world.write(session["stream"], f"{number} {'x' * 8000}")
    lab.fake.world.write(session["probe"], "x" * 80_000)
    await wire.call("session.stop", session_id=sid)
    lines = (await wire.call("session.logs", session_id=sid, stage="stream"))["lines"]
    assert [line["line"].split()[0] for line in lines] == [str(n) for n in range(92, 100)]
    assert len((await wire.call("session.logs", session_id=sid, stage="probe"))["lines"]) == 1


async def test_one_answer_has_no_more_lines_than_fit_and_says_so(lab: Lab, wire: Wire) -> None:
    """A1: to put together megabytes of lines takes everybody's time; who follows gets them all."""
    session = await wire.call("session.start")
    sid = session["session_id"]
    for number in range(1000):
        lab.fake.world.write(session["stream"], f"{number} {'x' * 1000}")
    answer = await wire.call("session.logs", session_id=sid, tail=10_000)
    lines = answer["lines"]
    assert answer["truncated"] is True
    numbers = [int(line["line"].split()[0]) for line in lines]
    assert numbers == list(range(1000 - len(numbers), 1000))
    assert (
        LOGS_BYTES - 1200 < sum(len(each["line"]) + LINE_OVERHEAD for each in lines) <= LOGS_BYTES
    )
    assert "truncated" not in await wire.call("session.logs", session_id=sid, tail=100)


def test_lines_of_all_stages_come_in_the_order_of_their_times() -> None:
    def at(*seconds: int) -> list[LogLine]:
        return [LogLine(time=f"{each:02}", stream="stdout", line=str(each)) for each in seconds]

    found = newest_lines({"a": at(1, 4, 5), "b": at(2, 3, 6), "c": []})
    assert [(line.stage, line.line) for line in found.lines] == [
        ("a", "1"), ("b", "2"), ("b", "3"), ("a", "4"), ("a", "5"), ("b", "6"),
    ]  # fmt: skip


async def test_followers_are_bounded_over_all_connections(tmp_path: Path) -> None:
    """A1: with containers each takes a thread and descriptors, of which the daemon has only so many."""
    async with in_process(tmp_path / "s", {"limits": {"log_followers": 4}}) as lab:
        one, other = await lab.wire(), await lab.wire()
        sid = (await one.call("session.start"))["session_id"]
        await one.call("session.logs", session_id=sid, follow=True)
        refused = await other.refusal("session.logs", session_id=sid, follow=True)
        assert refused.type == "too_many_requests"
        assert "limits.log_followers" in refused.message
        await other.call("session.logs", session_id=sid, stage="probe", follow=True)
        await one.close()
        await until(lambda: lab.daemon.services.followed == 1, "it follows no more")
        ended = await other.call("session.logs", session_id=sid, follow=True)
        await other.call("events.unsubscribe", subscription=ended["subscription"])
        await until(lambda: lab.daemon.services.followed == 1, "nor does this one")


async def test_followed_logs_come_as_notifications_until_the_end(lab: Lab, wire: Wire) -> None:
    session = await (await lab.wire()).call("session.start")
    sid = session["session_id"]
    lab.fake.world.write(session["probe"], "before")
    number = (await wire.call("session.logs", session_id=sid, follow=True))["subscription"]
    note = await wire.note()
    assert (note["subscription"], note["stage"], note["line"]) == (number, "probe", "before")
    lab.fake.world.write(session["stream"], "after")
    assert (await wire.note())["line"] == "after"
    await (await lab.wire()).call("session.stop", session_id=sid)
    assert (await wire.note(lambda note: "end" in note))["end"] is True


async def test_following_ends_on_demand(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    followed = await wire.call("session.logs", session_id=session["session_id"], follow=True)
    await wire.call("events.unsubscribe", subscription=followed["subscription"])
    lab.fake.world.write(session["probe"], "unheard")
    await wire.call("system.ping")
    assert [note for note in wire.notes if "line" in note["params"]] == []


async def test_following_a_start_that_comes_to_nothing_just_ends(lab: Lab, wire: Wire) -> None:
    gate = lab.fake.script.hold("create_network")
    session = await wire.call("session.start", wait="accepted")
    await gate.reached.wait()
    lab.fake.script.fail("connect_stage", EngineUnavailable("gone"))
    await wire.call("session.logs", session_id=session["session_id"], follow=True)
    gate.open.set()
    assert (await wire.note())["end"] is True


async def test_following_shows_what_a_stage_says_while_it_starts(lab: Lab, wire: Wire) -> None:
    lab.fake.mute = True
    start = wire.begin("session.start")
    await wire.note(lambda note: note["stage"] == "verify")
    other = await lab.wire()
    [session] = (await other.call("session.list"))["sessions"]
    await other.call("session.logs", session_id=session["session_id"], follow=True)
    lab.fake.world.write(session["stream"], "still waiting for the probe")
    assert (await other.note())["line"] == "still waiting for the probe"
    await other.call("session.stop", session_id=session["session_id"])
    assert (await wire.line())["id"] == start


async def test_stats_by_stage_with_the_frames_that_it_reports(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    report = '{"type":"report","stage":"stream","frames":30,"dropped":1,"consumers":2,"blocked":1}'
    lab.fake.world.write(session["stream"], report)
    stats = await wire.call("session.stats", session_id=session["session_id"])
    assert set(stats["stages"]) == {"probe", "stream", "segmentation"}
    stream = stats["stages"]["stream"]
    assert stream["memory"] == 1 << 20
    assert (stream["frames"], stream["dropped"], stream["blocked"]) == (30, 1, 1)
    assert "frames" not in stats["stages"]["probe"]


@pytest.mark.parametrize("value", ["true", "-5", "1e23", "NaN", '"\\ud800"', "9" * 5000, "[[1]]"])
async def test_stage_that_reports_nonsense_is_passed_over(lab: Lab, wire: Wire, value: str) -> None:
    """A10: neither statistics nor the session, nor what is told of it later, show what is no number."""
    session = await wire.call("session.start")
    sid, last = session["session_id"], session["segmentation"]
    members = ",".join(f'"{name}":{value}' for name in ("frames", "consumers", "dice_mean"))
    lab.fake.world.write(last, f'{{"type":"report",{members},"dropped":7}}')
    used = (await wire.call("session.stats", session_id=sid))["stages"]["segmentation"]
    assert used["dropped"] == 7
    assert not {"frames", "consumers", "dice_mean"} & set(used)
    await wire.call("session.stop", session_id=sid)
    assert "frames" not in await wire.call("session.get", session_id=sid)


async def test_stats_of_what_has_ended_are_a_conflict(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    await wire.call("session.stop", session_id=session["session_id"])
    refused = await wire.refusal("session.stats", session_id=session["session_id"])
    assert refused.type == "conflict"


async def test_engine_that_is_away_is_said(lab: Lab, wire: Wire) -> None:
    session = await wire.call("session.start")
    for operation, method in (("logs", "session.logs"), ("stats", "session.stats")):
        for _ in range(3):
            lab.fake.script.fail(operation, EngineUnavailable("/run/engine.sock"))
        refused = await wire.refusal(method, session_id=session["session_id"])
        assert refused.type == "engine_unavailable"
        assert "sock" not in str(refused)


async def test_follower_whose_connection_is_closing_does_not_hold_up_the_daemon(
    lab: Lab, wire: Wire
) -> None:
    session = await (await lab.wire()).call("session.start")
    await wire.call("session.logs", session_id=session["session_id"], follow=True)
    wire.writer.transport.pause_reading()
    for _ in range(20_000):
        lab.fake.world.write(session["probe"], "x" * 1000)
    connection = max(lab.daemon.server._connections, key=lambda c: len(c.dispatcher._kept))
    await until(lambda: not connection._out.writable, "the buffers are full")
    connection.end()
    lab.fake.world.write(session["probe"], "one more")
    assert (await (await lab.wire()).call("system.ping"))["pong"]
    wire.reset()


async def test_slow_follower_gets_every_line_and_the_end(lab: Lab, wire: Wire) -> None:
    session = await (await lab.wire()).call("session.start")
    sid = session["session_id"]
    await wire.call("session.logs", session_id=sid, follow=True, stage="probe")
    wire.writer.transport.pause_reading()
    for number in range(20_000):
        lab.fake.world.write(session["probe"], f"{number} {'x' * 1000}")
    await (await lab.wire()).call("session.stop", session_id=sid)
    wire.writer.transport.resume_reading()
    for number in range(20_000):
        assert (await wire.note())["line"].startswith(f"{number} ")
    assert (await wire.note())["end"] is True
