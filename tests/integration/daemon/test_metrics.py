# SPDX-License-Identifier: MIT
"""`system.metrics` of a running daemon: what happens is counted, where it happens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import Json, Lab, Refused, StillClock, Wire, in_process, until
from guarded_lab import guarded

from operatord.engines import base
from operatord.metering.families import FAMILIES


async def told(wire: Wire) -> dict[str, list[Json]]:
    return {
        each["name"]: each["samples"] for each in (await wire.call("system.metrics"))["metrics"]
    }


def sample(samples: list[Json], **labels: str) -> Json:
    """Return the one sample with these labels, among others."""
    found = [each for each in samples if labels.items() <= each["labels"].items()]
    assert len(found) == 1, f"{labels}: {found}"
    return found[0]


async def value(wire: Wire, name: str, **labels: str) -> float:
    found: float = sample((await told(wire))[name], **labels)["value"]
    return found


async def test_life_of_a_session_is_counted(lab: Lab, wire: Wire) -> None:
    running: dict[str, Any] = {"pipeline": "segmented", "phase": "running"}
    assert await value(wire, "operatord_sessions", **running) == 0
    session = await wire.call("session.start")
    assert await value(wire, "operatord_sessions", **running) == 1
    metrics = await told(wire)
    whole = sample(metrics["operatord_start_seconds"], pipeline="segmented", warm="false")
    assert whole["buckets"][-1] == 1
    assert whole["sum"] == pytest.approx(session["timings"]["total"] / 1000)
    for step in ("images", "network", "create", "start", "verify"):
        taken = sample(metrics["operatord_start_step_seconds"], step=step, warm="false")
        assert taken["buckets"][-1] == 1
    assert sample(metrics["operatord_queue_wait_seconds"], left="started")["buckets"][-1] == 1
    assert sample(metrics["operatord_engine_call_seconds"], operation="start")["buckets"][-1] == 3
    await wire.call("session.stop", session_id=session["session_id"])
    assert await value(wire, "operatord_sessions", **running) == 0
    ended = {"pipeline": "segmented", "outcome": "stopped", "cause": "client"}
    assert await value(wire, "operatord_sessions_ended_total", **ended) == 1
    assert await value(wire, "operatord_events_total", type="session.ended") == 1


async def test_samples_have_the_labels_of_their_families(wire: Wire) -> None:
    await wire.call("session.start")
    answer = await wire.call("system.metrics")
    for metric in answer["metrics"]:
        family = FAMILIES[metric["name"]]
        assert (metric["type"], metric["help"]) == (family.type, family.help)
        assert metric.get("bounds", []) == list(family.bounds)
        for each in metric["samples"]:
            assert tuple(each["labels"]) == family.labels
            shape = {"buckets", "sum"} if family.type == "histogram" else {"value"}
            assert each.keys() == {"labels", *shape}
            assert len(each.get("buckets", [])) in (0, len(family.bounds) + 1)


async def test_start_that_fails_is_counted_by_its_step(lab: Lab, wire: Wire) -> None:
    lab.fake.script.fail("create", base.DiskFull("the disk is full"))
    with pytest.raises(Refused):
        await wire.call("session.start")
    metrics = await told(wire)
    assert sample(metrics["operatord_start_failures_total"], step="create")["value"] == 1
    refused = {"operation": "create", "error": "refused"}
    assert sample(metrics["operatord_engine_errors_total"], **refused)["value"] == 1
    ended = {"pipeline": "segmented", "outcome": "failed", "cause": "disk"}
    assert sample(metrics["operatord_sessions_ended_total"], **ended)["value"] == 1


async def test_refusal_for_room_and_a_wait_in_the_queue(tmp_path: Path) -> None:
    clock = StillClock()
    async with in_process(tmp_path / "s", {"limits": {"sessions": 1}}, clock=clock) as lab:
        wire = await lab.wire()
        first = await wire.call("session.start")
        with pytest.raises(Refused):
            await wire.call("session.start", on_shortage="refuse")
        assert await value(wire, "operatord_starts_refused_total", type="no_capacity") == 1
        waiting = await lab.wire()
        request = waiting.begin("session.start")
        await waiting.note(lambda note: note["stage"] == "queue")
        assert await value(wire, "operatord_queue_length") == 1
        clock.advance(20)
        await wire.call("session.stop", session_id=first["session_id"])
        await waiting.reply(request)
        waits = sample((await told(wire))["operatord_queue_wait_seconds"], left="started")
        assert waits["buckets"][-1] == 2
        assert waits["sum"] == pytest.approx(20)


async def test_request_that_leaves_the_queue_without_a_start(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"limits": {"sessions": 1}}) as lab:
        wire = await lab.wire()
        await wire.call("session.start")
        second = await wire.call("session.start", wait="accepted")
        await wire.call("session.stop", session_id=second["session_id"])
        waits = (await told(wire))["operatord_queue_wait_seconds"]
        assert sample(waits, left="stopped")["buckets"][-1] == 1


async def test_sessions_of_an_earlier_life_are_counted(tmp_path: Path) -> None:
    keep: Mapping[str, Any] = {"on_shutdown": "keep"}
    async with in_process(tmp_path / "s", keep) as lab:
        engine = lab.fake
        await (await lab.wire()).call("session.start")
        lab.daemon.engine.close = _nothing  # type: ignore[method-assign]
    async with in_process(tmp_path / "s", keep, {"on_shutdown": "stop"}, engine=engine) as lab:
        wire = await lab.wire()
        assert await value(wire, "operatord_sessions", pipeline="segmented", phase="running") == 1


async def _nothing() -> None:
    pass


async def test_reconciling_is_counted_with_what_it_removes(lab: Lab, wire: Wire) -> None:
    lab.daemon.reconciler.grace = 0.0
    plan = base.NetworkPlan("stray", "198.18.9.0/28", {base.LABEL_INSTANCE: "test"})
    await lab.fake.create_network(plan)
    await lab.daemon.reconciler.look()
    metrics = await told(wire)
    assert sample(metrics["operatord_orphans"])["value"] == 1
    assert sample(metrics["operatord_orphans_removed_total"], kind="network")["value"] == 1
    assert sample(metrics["operatord_reconcile_seconds"], result="done")["buckets"][-1] >= 1


async def test_events_that_somebody_missed_are_counted(lab: Lab, wire: Wire) -> None:
    await wire.call("events.subscribe", since=10**6)
    await until(lambda: lab.daemon.meters.events.lost.sums[()] == 1, "the gap is told")
    assert await value(wire, "operatord_events_lost_total") == 1


async def test_nothing_looks_at_sessions_one_by_one(
    lab: Lab, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand of them would hold up everybody each time that somebody looks."""

    class Untouchable(dict[str, Any]):
        def __iter__(self) -> Any:
            raise AssertionError("the sessions are gone through")

        values = items = keys = __iter__

    registry = lab.daemon.supervisor.registry
    monkeypatch.setattr(registry, "records", Untouchable())
    monkeypatch.setattr(registry, "counts", Untouchable().__iter__)
    assert "operatord_sessions" in await told(wire)


async def test_how_the_daemon_itself_is(wire: Wire) -> None:
    metrics = await told(wire)
    assert sample(metrics["operatord_process_resident_memory_bytes"])["value"] > 1 << 20
    assert sample(metrics["operatord_process_open_fds"])["value"] >= 3
    assert sample(metrics["operatord_process_cpu_seconds_total"])["value"] > 0
    assert sample(metrics["operatord_process_start_time_seconds"])["value"] > 1e9
    assert sample(metrics["operatord_connections"])["value"] == 1


async def test_viewer_may_read_them_and_sees_nobody(tmp_path: Path) -> None:
    async with guarded(tmp_path) as door:
        ada = await door.wire("ada", "user")
        session = await ada.call("session.start", wait="accepted")
        text = str(await (await door.wire("vic", "viewer")).call("system.metrics"))
        assert "operatord_sessions" in text
        assert "ada" not in text
        assert session["session_id"] not in text
