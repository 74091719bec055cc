# SPDX-License-Identifier: MIT
"""What the daemon says of itself, and that it takes new settings or none."""

from __future__ import annotations

import gc
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from daemon_lab import PATIENCE, Json, Lab, Wire, in_process, served, settings

from operatord.settings.config import Config, ConfigError
from operatord.settings.loading import load

METHODS = {
    "system.ping",
    "system.describe",
    "system.status",
    "system.metrics",
    "system.drain",
    "system.undrain",
    "system.reload",
    "auth.login",
    "pipeline.list",
    "probe.register",
    "probe.list",
    "probe.get",
    "probe.remove",
    "session.start",
    "session.plan",
    "session.get",
    "session.list",
    "session.stop",
    "session.wait",
    "session.extend",
    "session.logs",
    "session.stats",
    "events.subscribe",
    "events.unsubscribe",
    "request.cancel",
}
ERRORS = {
    "unauthorized",
    "forbidden",
    "not_found",
    "conflict",
    "no_capacity",
    "queue_full",
    "deadline_exceeded",
    "never_fits",
    "draining",
    "image_missing",
    "engine_unavailable",
    "start_failed",
    "cancelled",
    "too_many_requests",
    "probe_unreachable",
}


def check_schema(schema: Any, root: Json) -> None:
    """Check that a schema refers to nothing outside of itself."""
    if isinstance(schema, list):
        for each in schema:
            check_schema(each, root)
    elif isinstance(schema, dict):
        if (ref := schema.get("$ref")) is not None:
            name = ref.removeprefix("#/$defs/")
            assert name in root["$defs"]
        for each in schema.values():
            check_schema(each, root)


async def test_describe_has_a_schema_for_every_method(wire: Wire) -> None:
    described = await wire.call("system.describe")
    assert set(described["methods"]) == METHODS
    for method in described["methods"].values():
        for side in ("params", "result"):
            assert method[side]["$ref"] or method[side]["type"]
            check_schema(method[side], method[side])
    assert set(described["errors"]) >= ERRORS
    assert all(described["errors"][name]["code"] > 0 for name in ERRORS)
    assert described["version"]
    assert described["instance"] == "test"


async def test_status_has_the_names_of_the_protocol(wire: Wire) -> None:
    await wire.call("session.start")
    status = await wire.call("system.status")
    names = "engine capacity reserved measured pressure sessions queue warm uptime"
    assert set(names.split()) <= set(status)
    phases = {"queued": 0, "starting": 0, "running": 1, "stopping": 0, "ended": 0}
    assert status["sessions"] == phases
    assert status["queue"]["length"] == 0
    assert set(status["warm"]["segmented"]) == {"ready", "target"}
    assert status["reserved"]["sessions"] == 1
    assert status["reserved"]["cpus"] == pytest.approx(0.06)
    for dimension, amount in status["reserved"].items():
        assert status["free"][dimension] <= status["capacity"][dimension] - amount
    assert status["uptime"] > 0
    assert "root_dir" not in status["engine"], "clients need not know the host's directories"
    assert status["engine"]["name"] == "fake"
    assert {"cgroup_version", "runtime"} <= set(status["engine"])


async def test_reservations_return_to_nothing(wire: Wire) -> None:
    session = await wire.call("session.start")
    await wire.call("session.stop", session_id=session["session_id"])
    status = await wire.call("system.status")
    assert status["reserved"].keys() >= {"sessions", "cpus", "memory"}
    assert set(status["reserved"].values()) == {0}


async def test_pipelines_are_listed_with_their_stages(wire: Wire) -> None:
    listed = {p["name"]: p for p in (await wire.call("pipeline.list"))["pipelines"]}
    assert list(listed) == ["stream", "segmented"]
    assert list(listed["segmented"]["stages"]) == ["probe", "stream", "segmentation"]
    assert listed["segmented"]["stages"]["probe"]["memory"] > 0


async def test_history_keeps_as_many_ended_sessions_as_it_may(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s", {"history": {"keep": 2}}) as lab:
        wire = await lab.wire()
        living = await wire.call("session.start")
        ids = []
        for _ in range(4):
            session = await wire.call("session.start")
            await wire.call("session.stop", session_id=session["session_id"])
            await wire.call("session.get", session_id=session["session_id"])
            ids.append(session["session_id"])
        found = (await wire.call("session.list"))["sessions"]
        assert [s["session_id"] for s in found] == [ids[3], ids[2], living["session_id"]]
        assert (await wire.refusal("session.get", session_id=ids[0])).type == "not_found"


class Reread:
    """A daemon whose next settings the test decides."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.next: Callable[[], Config] = lambda: settings(state_dir)

    def set(self, overlay: Json) -> None:
        self.next = lambda: settings(self.state_dir, overlay)

    def __call__(self) -> Config:
        return self.next()


async def test_reload_takes_new_limits_and_pipelines(tmp_path: Path) -> None:
    reread = Reread(tmp_path / "s")
    async with in_process(tmp_path / "s", reread=reread) as lab:
        wire = await lab.wire()
        assert (await wire.call("system.status"))["generation"] == 1
        assert (await wire.call("system.reload"))["changed"] == []
        reread.set({"limits": {"sessions": 1}, "defaults": {"count": 7}})
        reloaded = await wire.call("system.reload")
        assert reloaded == {"reloaded": True, "changed": ["defaults", "limits"], "generation": 3}
        assert (await wire.call("system.status"))["generation"] == 3
        await wire.call("session.start")
        assert (await wire.refusal("session.start", on_shortage="refuse")).type == "no_capacity"
        [probe] = [c for c in lab.fake.world.containers.values() if c.plan.stage == "probe"]
        assert json.loads(probe.said)["env"]["count"] == "7"


async def test_more_places_let_the_queue_in(tmp_path: Path) -> None:
    reread = Reread(tmp_path / "s")
    async with in_process(tmp_path / "s", {"limits": {"sessions": 1}}, reread=reread) as lab:
        wire, waiting = await lab.wire(), await lab.wire()
        await wire.call("session.start")
        request = waiting.begin("session.start")
        await waiting.note(lambda note: note.get("position") == 1)
        await wire.call("system.reload")
        assert (await waiting.reply(request))["phase"] == "running"


async def test_bad_settings_are_refused_and_the_old_ones_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "operatord.yaml"
    reread = Reread(tmp_path / "s")
    async with in_process(tmp_path / "s", reread=reread) as lab:
        wire = await lab.wire()
        for text in ("limits: {sessions: 0}\n", "nonsense: 1\n", "a: [\n", "limits: 5\n"):
            file.write_text(text)
            reread.next = lambda: load(file, {}, {})
            refused = await wire.refusal("system.reload")
            assert refused.type == "conflict"
            assert str(tmp_path) not in str(refused), "a client is told no path of this host"
            assert caplog.messages[-1] == f"{file}: {refused.message}"
        file.unlink()
        refused = await wire.refusal("system.reload")
        assert str(tmp_path) not in str(refused)
        assert (await wire.call("session.start"))["phase"] == "running"


async def test_reload_holds_up_only_who_asked_for_it(tmp_path: Path) -> None:
    """A1: however long it takes to read the file; nothing that is parsed is garbage, and looked for."""
    may_read, collecting = threading.Event(), list[bool]()
    reread = Reread(tmp_path / "s")

    def read_slowly() -> Config:
        collecting.append(gc.isenabled())
        assert may_read.wait(PATIENCE)
        return settings(tmp_path / "s", {"limits": {"sessions": 1}})

    reread.next = read_slowly
    async with in_process(tmp_path / "s", reread=reread) as lab:
        wire, other = await lab.wire(), await lab.wire()
        request = wire.begin("system.reload")
        for _ in range(3):
            await other.call("system.ping")
        may_read.set()
        assert (await wire.reply(request))["changed"] == ["limits"]
    assert (collecting, gc.isenabled()) == ([False], True)


async def test_reload_waits_for_no_pipe_and_takes_no_key_twice(tmp_path: Path) -> None:
    """N15, N16"""
    async with served(tmp_path / "s", "--engine", "process") as daemon:
        wire, file = await daemon.wire(), tmp_path / "s.yaml"
        before = file.read_text()
        file.unlink()
        os.mkfifo(file)
        assert "regular file" in (await wire.refusal("system.reload")).message
        file.unlink()
        file.write_text("limits: {sessions: 1}\nlimits: {queue: 1}\n")
        assert "in lines 1 and 2" in (await wire.refusal("system.reload")).message
        file.write_text(before)
        assert (await wire.call("system.reload"))["changed"] == []
        await wire.close()


async def test_settings_that_need_a_restart_are_refused_by_name(tmp_path: Path) -> None:
    reread = Reread(tmp_path / "s")
    async with in_process(tmp_path / "s", reread=reread) as lab:
        wire = await lab.wire()
        reread.set({"listen": "127.0.0.1:7799", "limits": {"sessions": 1}})
        refused = await wire.refusal("system.reload")
        assert refused.type == "conflict"
        assert "listen" in refused.message
        assert (await wire.call("system.status"))["generation"] == 1
        assert (await wire.call("system.status"))["capacity"]["sessions"] == 32


async def test_login_without_configured_logins(wire: Wire) -> None:
    login = await wire.call("auth.login", token="t")
    assert (login["user"], login["role"]) == ("local", "operator")
    assert login["note"].startswith("no logins are configured")
    assert (await wire.call("system.status"))["role"] == "operator"


async def test_shutdown_answers_those_who_wait_before_it_closes(tmp_path: Path) -> None:
    async with in_process(tmp_path / "s") as lab:
        wire, waiter, starter = await lab.wire(), await lab.wire(), await lab.wire()
        session = await wire.call("session.start")
        wait = waiter.begin("session.wait", session_id=session["session_id"])
        lab.fake.mute = True
        start = starter.begin("session.start")
        await starter.note(lambda note: note["stage"] == "verify")
        await lab.daemon.stop()
        assert (await waiter.reply(wait))["cause"] == "shutdown"
        with pytest.raises(Exception, match="cancelled"):
            await starter.reply(start)
        assert await waiter.at_end()
        assert await starter.at_end()
        assert lab.fake.empty


async def test_stopping_twice_is_stopping_once(lab: Lab) -> None:
    await lab.daemon.stop()
    await lab.daemon.stop()


def test_config_error_names_its_problems() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Path("/nowhere/operatord.yaml"), {}, {})
    assert caught.value.problems
