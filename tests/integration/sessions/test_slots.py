# SPDX-License-Identifier: MIT
"""Slots that are made before anybody asks: claimed once, refilled, given up for who needs the room."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import pytest
from daemon_lab import Json, Lab, StillClock, Wire, in_process, left_of, receive, settings, until

from operatord.engines.base import EngineUnavailable, NotThere
from operatord.engines.process.child import signal_group
from operatord.engines.process.engine import ProcessEngine
from operatord.lifecycle import slot_images
from operatord.lifecycle import slots as slots_module
from operatord.lifecycle.slot_kinds import SPARE
from operatord.provision import slot_faults
from operatord.provision.steps import Interrupted
from operatord.session.record import Ending, SessionRecord

MIB = 1 << 20
WARM: Json = {"pipelines": {"segmented": {"warm": 2}}}


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have slots made soon after they are wanted: how long the daemon holds back is no matter here."""
    monkeypatch.setattr(slots_module, "PAUSE", 0.01)
    monkeypatch.setattr(slots_module, "REST", 0.05)


@pytest.fixture
async def warm(tmp_path: Path) -> AsyncIterator[Lab]:
    async with in_process(tmp_path / "w", WARM) as lab:
        await filled(lab)
        yield lab


def ready(lab: Lab, pipeline: str = "segmented") -> list[str]:
    return [slot.id for slot in lab.daemon.supervisor.slots.ready(pipeline)]


async def filled(lab: Lab, count: int = 2) -> None:
    await until(lambda: len(ready(lab)) == count, "the slots are ready")


async def gone(lab: Lab, slot_id: str) -> None:
    supervisor = lab.daemon.supervisor
    await until(lambda: supervisor.slots.get(slot_id) is None, "the slot is gone")


def told(lab: Lab, session: Json, stage: str) -> Json:
    """Return the environment that a stage was sent."""
    said = lab.fake.world.containers[session[stage]].said
    env: Json = json.loads(said)["env"]
    return env


async def test_request_is_given_a_slot_and_each_stage_its_line(warm: Lab) -> None:
    wire = await warm.wire()
    slots = ready(warm)
    before, asked = len(warm.fake.script.calls), time.time()
    session = await wire.call("session.start", count=7, env={"probe": {"fps": 5}})
    assert (session["warm"], session["session_id"]) == (True, slots[0])
    record = warm.daemon.supervisor.registry.get(slots[0])
    assert record.created >= asked, "and not when the slot was made"
    assert record.expected_seconds == 7 / 5
    assert told(warm, session, "probe")["count"] == "7"
    assert told(warm, session, "probe")["fps"] == "5"
    env = told(warm, session, "segmentation")
    assert (env["stream_ip"], env["OPERATORD_SESSION"]) == ("192.0.2.2", session["session_id"])
    assert set(session["timings"]) >= {"bind", "verify", "total"}
    since = [subject for call, subject in warm.fake.script.calls[before:] if call == "create"]
    assert not [name for name in since if slots[0] in name], "nothing was created for it"
    assert "hold" not in session["timings"], "what was done beforehand is none of its start"


async def test_slots_are_refilled_and_status_says_so(warm: Lab) -> None:
    wire = await warm.wire()
    assert (await wire.call("system.status"))["warm"]["segmented"] == {"ready": 2, "target": 2}
    first = await wire.call("session.start")
    second = await wire.call("session.start")
    await filled(warm)
    assert not {first["session_id"], second["session_id"]} & set(ready(warm))
    listed = {p["name"]: p for p in (await wire.call("pipeline.list"))["pipelines"]}
    assert listed["segmented"]["warm"] == {"ready": 2, "target": 2}


async def test_no_slot_is_used_twice_by_fifty_at_once(tmp_path: Path) -> None:
    overlay = {"pipelines": {"segmented": {"warm": 12}}, "limits": {"sessions": 64}}
    async with in_process(tmp_path / "w", overlay) as warm:
        await filled(warm, 12)
        wires = [await warm.wire() for _ in range(50)]
        begun = [(wire, wire.begin("session.start")) for wire in wires]
        sessions = await asyncio.gather(*(wire.reply(number) for wire, number in begun))
        assert len({s["session_id"] for s in sessions}) == 50
        assert sum(s["warm"] for s in sessions) >= 12
        containers = [s[stage] for s in sessions for stage in ("probe", "stream", "segmentation")]
        assert len(set(containers)) == 150
        for session in sessions:
            if session["warm"]:
                assert warm.fake.world.containers[session["probe"]].said.count(b"\n") == 1


async def test_slot_whose_container_died_is_never_handed_out(warm: Lab) -> None:
    wire = await warm.wire()
    dead, alive = ready(warm)
    [probe] = [
        c for c in warm.fake.world.containers.values()
        if c.plan.labels["operatord.session"] == dead and c.plan.stage == "probe"
    ]  # fmt: skip
    warm.fake.world.end(probe.id, 1)
    session = await wire.call("session.start")
    assert session["session_id"] == alive
    await gone(warm, dead)
    await filled(warm)


def container_of(lab: Lab, slot_id: str, stage: str) -> str:
    [found] = [
        c.id for c in lab.fake.world.containers.values()
        if c.plan.labels["operatord.session"] == slot_id and c.plan.stage == stage
    ]  # fmt: skip
    return found


@pytest.mark.parametrize("told", [True, False], ids=["with an event", "found by a list"])
async def test_slot_of_which_a_stage_was_paused_is_given_up(warm: Lab, told: bool) -> None:
    wire = await warm.wire()
    paused = ready(warm)[0]
    warm.fake.world.pause(container_of(warm, paused, "probe"), told=told)
    if not told:
        warm.daemon.link.watch._missed.set()
    await gone(warm, paused)
    session = await wire.call("session.start")
    assert session["session_id"] != paused
    assert (await wire.call("session.get", session_id=session["session_id"]))["phase"] == "running"
    assert not any(c.paused for c in warm.fake.world.containers.values())


async def test_slot_that_was_disconnected_is_given_up(warm: Lab) -> None:
    """F2: nobody could be told of a location that is gone."""
    wire = await warm.wire()
    disconnected, alive = ready(warm)
    warm.fake.world.containers[container_of(warm, disconnected, "segmentation")].published = None
    await warm.daemon.reconciler.look()
    assert ready(warm) == [alive]
    await gone(warm, disconnected)
    assert (await wire.call("session.start"))["session_id"] == alive


async def test_pause_of_a_session_s_stage_is_not_the_pool_s_business(warm: Lab) -> None:
    wire = await warm.wire()
    session = await wire.call("session.start")
    before = ready(warm)
    warm.fake.world.pause(session["probe"])
    warm.daemon.link.watch._missed.set()
    await filled(warm)
    assert set(before) <= set(ready(warm))
    assert (await wire.call("session.get", session_id=session["session_id"]))["phase"] == "running"


async def test_slots_of_real_stages_serve_exactly_what_is_asked_for(tmp_path: Path) -> None:
    async with in_process(tmp_path / "w", WARM, {"engine": "process"}) as lab:
        await filled(lab)
        wire = await lab.wire()
        for count in (3, 17):
            session = await wire.call("session.start", count=count, env={"probe": {"fps": 0}})
            assert session["warm"] is True
            _, frames, end = await receive(session["location"])
            assert [header["seq"] for header, _ in frames] == list(range(count))
            assert all({"image", "mask"} == set(parts) for _, parts in frames)
            assert (end["frames"], end["dropped"]) == (count, 0)


async def test_registered_probe_takes_the_place_of_the_slots_own(tmp_path: Path) -> None:
    async with in_process(tmp_path / "w", WARM, {"engine": "process"}) as lab:
        await filled(lab)
        wire = await lab.wire()
        lender = await wire.call("session.start", plain_stream=True, count=12)
        location = lender["location"]
        await wire.call("probe.register", name="bed", host=location["host"], port=location["port"])
        session = await wire.call("session.start", probe="bed", count=12)
        assert (session["warm"], "probe" in session) == (True, False)
        engine, label = lab.daemon.engine, session["session_id"]

        async def stages() -> set[str]:
            found = await engine.list_objects(lab.daemon.instance)
            mine = [o for o in found if o.labels["operatord.session"] == label]
            return {o.labels["operatord.stage"] for o in mine if o.kind == "container"}

        async def discarded() -> bool:
            return await stages() == {"stream", "segmentation"}

        await until(discarded, "the probe that was made for it is gone")
        _, frames, end = await receive(session["location"])
        assert (len(frames), end["frames"]) == (12, 12)


async def test_engine_that_does_not_remove_what_a_slot_had_too_much_costs_no_session(
    warm: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the slot goes with the session."""
    asked = asyncio.Event()

    async def not_now(_: SessionRecord) -> None:
        asked.set()
        raise EngineUnavailable("not now")

    monkeypatch.setattr(warm.daemon.supervisor._starter, "discard", not_now)
    wire = await warm.wire()
    session = await wire.call("session.start")
    await asked.wait()
    found = await wire.call("session.get", session_id=session["session_id"])
    assert (found["warm"], found["phase"]) == (True, "running")


async def test_slots_hold_what_they_take_and_give_it_up_for_who_needs_it(tmp_path: Path) -> None:
    huge = {
        "stages": {"only": {"image": "demo-probe", "port": 1, "cpus": 3.95, "memory": 64 * MIB}}
    }
    overlay = {"pipelines": {"segmented": {"warm": 2}, "huge": huge}}
    async with in_process(tmp_path / "w", overlay, clock=StillClock()) as lab:
        await filled(lab)
        wire = await lab.wire()
        status = await wire.call("system.status")
        assert (status["reserved"]["cpus"], status["reserved"]["sessions"]) == (0.12, 0)
        oldest, younger = ready(lab)
        session = await wire.call("session.start", pipeline="huge", on_shortage="refuse")
        assert session["phase"] == "running", "four cores, 0.12 of them with slots"
        await gone(lab, oldest)
        await gone(lab, younger)
        assert (await wire.call("system.status"))["warm"]["segmented"]["ready"] == 0
        await wire.call("session.stop", session_id=session["session_id"])
        await filled(lab)


async def test_slots_are_given_up_under_pressure(tmp_path: Path) -> None:
    async with in_process(tmp_path / "w", WARM, clock=StillClock()) as lab:
        await filled(lab)
        for _ in range(2):
            lab.measure(available=10 * MIB)
        await until(lambda: not list(lab.daemon.supervisor.slots), "all are given up")
        assert lab.fake.empty
        lab.measure(available=8 << 30)
        await filled(lab)


async def test_old_slots_are_replaced(tmp_path: Path) -> None:
    clock = StillClock()
    async with in_process(tmp_path / "w", WARM, clock=clock) as lab:
        await filled(lab)
        old = ready(lab)
        clock.advance(601)
        for each in old:
            await gone(lab, each)
        await filled(lab)


async def test_as_many_slots_are_kept_as_requests_come_while_one_is_made(tmp_path: Path) -> None:
    clock = StillClock()
    config = {"pipelines": {"segmented": {"warm": {"min": 0, "max": 3}}}}
    async with in_process(tmp_path / "w", config, clock=clock) as lab:
        wire = await lab.wire()

        async def target() -> int:
            found: int = (await wire.call("system.status"))["warm"]["segmented"]["target"]
            return found

        assert await target() == 0
        assert not (await wire.call("session.start"))["warm"]
        gate = lab.fake.script.hold("create_network")
        clock.advance(2)
        await gate.reached.wait()
        clock.advance(4)  # so long takes a slot
        gate.open.set()
        await filled(lab, 1)
        assert (await wire.call("session.start"))["warm"]
        for _ in range(4):
            await wire.call("session.start")
        assert await target() == 3, "no more than max"
        clock.advance(100)
        await filled(lab, 1)
        assert await target() == 1
        clock.advance(300)
        await filled(lab, 0)
        assert await target() == 0, "nobody has asked for long enough"


@pytest.mark.parametrize(
    "change",
    [
        {"network": "separate"},
        {"stages": {"probe": {"pids": 31}}},
        {"stages": {"probe": {"volumes": ["models:/models"]}}},
    ],
)
async def test_slots_are_replaced_when_their_pipeline_has_changed(
    tmp_path: Path, change: Json
) -> None:
    state, changed = tmp_path / "w", {"pipelines": {"segmented": change}}
    async with in_process(state, WARM, reread=lambda: settings(state, WARM, changed)) as lab:
        await filled(lab)
        old = ready(lab)
        wire = await lab.wire()
        assert (await wire.call("system.reload"))["changed"] == ["pipelines"]
        for each in old:
            await gone(lab, each)
        await filled(lab)
        assert (await wire.call("session.start"))["warm"]


@pytest.mark.parametrize("sessions", ["stop", "keep"])
async def test_nothing_of_a_slot_is_left_after_the_end(tmp_path: Path, sessions: str) -> None:
    async with in_process(tmp_path / "w", WARM, {"on_shutdown": sessions}) as lab:
        await filled(lab)
        engine = lab.fake
    assert engine.empty


async def test_slot_that_is_being_made_at_the_end_is_removed(tmp_path: Path) -> None:
    async with in_process(tmp_path / "w", WARM) as lab:
        engine = lab.fake
        gate = engine.script.hold("start")
        await gate.reached.wait()
        asyncio.get_running_loop().call_later(0.1, gate.open.set)  # while the daemon is closing
    assert engine.empty


async def test_stages_have_their_line_before_the_claim_is_announced(
    warm: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a death in between leaves a slot that the journal knows, and no session."""
    writer = warm.daemon.supervisor.transitions.writer
    announced = writer.announce
    at: dict[str, set[str]] = {}

    def announce(record: SessionRecord, **fields: object) -> None:
        made = warm.fake.world.containers
        at[record.phase] = {
            n for n, c in record.provisioned.containers.items() if c in made and made[c].said
        }
        announced(record, **fields)

    monkeypatch.setattr(writer, "announce", announce)
    await (await warm.wire()).call("session.start")
    assert at["queued"] == {"probe", "stream", "segmentation"}


async def test_slot_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    from operatord.engines.base import StageRefused

    async with in_process(tmp_path / "w") as lab:
        wire: Wire = await lab.wire()
        assert (await wire.call("system.status"))["warm"]["segmented"] == {"ready": 0, "target": 0}
        for _ in range(3 + 1):  # a second way is tried with other containers
            lab.fake.script.fail("attach_stdin", StageRefused("not this one"))
        slots = lab.daemon.supervisor.slots
        assert await slots._make("segmented") is False
        assert (lab.fake.empty, list(slots)) == (True, [])
        assert not slots._failures.may_try("segmented"), "E4: it is not tried again and again"
        assert (await wire.call("system.status"))["reserved"]["cpus"] == 0


async def test_slot_whose_making_breaks_leaves_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect of the daemon: it would count as one that is being made, and be the last."""
    async with in_process(tmp_path / "w") as lab:
        slots = lab.daemon.supervisor.slots
        monkeypatch.setattr(slots, "_prepare", AsyncMock(side_effect=KeyError))
        with pytest.raises(KeyError):
            await slots._make("segmented")
        assert (lab.fake.empty, list(slots)) == (True, [])
        assert (await (await lab.wire()).call("system.status"))["reserved"]["cpus"] == 0


# Images that are made anew


async def test_slots_of_an_older_image_are_replaced(warm: Lab) -> None:
    """F11: the engine tells, and both are of the image that there is now."""
    old = set(ready(warm))
    warm.fake.world.build("demo-stream")
    await until(lambda: len(ready(warm)) == 2 and not old & set(ready(warm)), "both are new ones")
    slots = warm.daemon.supervisor.slots
    assert {slot.provisioned.image_ids["demo-stream"] for slot in slots} == {"demo-stream@1"}


async def test_image_that_no_event_tells_of_is_found_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11: some builders have their engine say nothing."""
    monkeypatch.setattr(slot_images, "EVERY", 0.01)
    async with in_process(tmp_path / "w", WARM) as lab:
        await filled(lab)
        old = set(ready(lab))
        lab.fake.world.build("demo-probe", told=False)
        await until(lambda: len(ready(lab)) == 2 and not old & set(ready(lab)), "both are new ones")


async def test_no_slot_is_claimed_while_its_image_is_in_doubt(warm: Lab) -> None:
    """F11: from the event on, until the engine has said what the names mean now."""
    old = set(ready(warm))
    gate = warm.fake.script.hold("image_ids")
    warm.fake.world.build("demo-stream")
    await gate.reached.wait()
    assert ready(warm) == []
    session = await (await warm.wire()).call("session.start")
    assert session["warm"] is False
    assert session["session_id"] not in old
    gate.open.set()
    for slot_id in old:
        await gone(warm, slot_id)


async def test_engine_that_cannot_say_is_asked_again(warm: Lab) -> None:
    """F11: until then the doubt stays; if nothing has changed, the slots are good again."""
    old = ready(warm)
    warm.fake.script.fail("image_ids", EngineUnavailable("not now"))
    warm.daemon.supervisor.slots.images.doubt()
    assert ready(warm) == []
    await until(lambda: ready(warm) == old, "they are as they were")


async def test_slot_whose_image_changes_while_it_is_made_is_made_once_more(tmp_path: Path) -> None:
    """F11: it is never ready with the old one."""
    async with in_process(tmp_path / "w", {"pipelines": {"segmented": {"warm": 1}}}) as lab:
        await filled(lab, 1)
        [old] = ready(lab)
        gate = lab.fake.script.hold("create")
        lab.daemon.supervisor.slots.give_up(old)
        await gate.reached.wait()
        lab.fake.world.build("demo-probe", told=False)
        gate.open.set()
        await filled(lab, 1)
        [slot] = [s for s in lab.daemon.supervisor.slots if s.id in ready(lab)]
        assert slot.provisioned.image_ids["demo-probe"] == "demo-probe@1"


async def test_spare_network_is_of_no_image(tmp_path: Path) -> None:
    """F11: nothing is in doubt about it."""
    async with in_process(tmp_path / "w", {"slots": {"networks": 1}}) as lab:
        await until(lambda: len(ready(lab, SPARE)) == 1, "it is there")
        before = ready(lab, SPARE)
        gate = lab.fake.script.hold("image_ids")
        lab.fake.world.build("demo-probe")
        lab.daemon.supervisor.slots.images.doubt()
        assert ready(lab, SPARE) == before
        gate.open.set()


# What holds a slot back


async def test_slot_of_another_kind_of_network_is_not_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S7: before the pool has noticed that the settings have changed."""
    config = settings(tmp_path / "w", WARM)
    async with in_process(tmp_path / "w", WARM, reread=lambda: config) as lab:
        await filled(lab)
        monkeypatch.setattr(slots_module, "PAUSE", 1e6)
        rounds = lab.daemon.supervisor.slots
        monkeypatch.setattr(rounds, "_discard_unfit", lambda: None)
        config = settings(
            tmp_path / "w", WARM, {"pipelines": {"segmented": {"network": "separate"}}}
        )
        wire = await lab.wire()
        await wire.call("system.reload")
        assert len(ready(lab)) == 2
        assert (await wire.call("session.start"))["warm"] is False


@pytest.mark.parametrize(("made", "pause"), [(False, "FAILED_PAUSE"), (True, "PAUSE")])
async def test_pool_rests_longer_after_a_slot_that_could_not_be_made(
    monkeypatch: pytest.MonkeyPatch, made: bool, pause: str
) -> None:
    """S7: an engine that refuses is not asked again at once."""
    pool = slots_module.SlotPool(Mock(), Mock(calm=AsyncMock()), Mock(), Mock())
    monkeypatch.setattr(pool, "_discard_unfit", Mock())
    monkeypatch.setattr(pool, "_lacking", Mock(return_value="segmented"))
    monkeypatch.setattr(pool, "_make", AsyncMock(return_value=made))
    sleep = AsyncMock(side_effect=asyncio.CancelledError)
    monkeypatch.setattr(slots_module.asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await pool.run()
    sleep.assert_awaited_once_with(getattr(slots_module, pause))


async def test_slot_that_is_given_up_in_its_last_step_does_not_stay(tmp_path: Path) -> None:
    """A spare network has no other step; a daemon that ends meanwhile would wait for it in vain."""
    async with in_process(tmp_path / "w") as lab:
        slots = lab.daemon.supervisor.slots
        gate = lab.fake.script.hold("create_network")
        making = asyncio.create_task(slots._make(SPARE))
        await gate.reached.wait()
        slots.close()
        gate.open.set()
        await making
        assert (lab.fake.empty, list(slots)) == (True, [])


class Deaf:
    """The input of a stage that has died, of which nobody has heard."""

    closed = False
    stirred = None
    spoken = 0

    def send(self, data: bytes) -> None:
        raise NotThere("the stage is not there any more")

    def close(self) -> None:
        pass


@pytest.mark.parametrize("network", ["shared", "separate"])
async def test_slot_whose_stage_does_not_hear_is_done_without(tmp_path: Path, network: str) -> None:
    """What was asked for is started, in the slot's network, and nothing of its stages is left."""
    config: Json = {"pipelines": {"segmented": {"network": network}}}
    async with in_process(tmp_path / "w", WARM, config) as warm:
        await filled(warm)
        wire = await warm.wire()
        broken = ready(warm)[0]
        slot = warm.daemon.supervisor.slots.get(broken)
        assert slot is not None
        before = set(slot.provisioned.containers.values())
        slot.provisioned.inputs["stream"] = Deaf()
        session = await wire.call("session.start", count=7)
        assert (session["session_id"], session["warm"]) == (broken, False)
        assert not before & warm.fake.world.containers.keys()
        assert {"slot", "create", "verify"} <= session["timings"].keys()
        for stage in ("probe", "stream", "segmentation"):
            container = warm.fake.world.containers[session[stage]]
            assert bool(container.said) is container.plan.stdin, "who waits has its line"
        probe = warm.fake.world.containers[session["probe"]]
        assert (told(warm, session, "probe") if probe.said else probe.plan.env)["count"] == "7"
        await wire.call("session.stop", session_id=broken)
        await until(lambda: broken[:5] not in str(warm.fake.world.networks), "the network is gone")


@pytest.fixture
def dies(warm: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the probe of a claimed slot end, once it has been told what to do."""

    def begin(code: int, *, then: Callable[[SessionRecord], object] = lambda _: None) -> None:
        starter = warm.daemon.supervisor._starter
        verify = starter._verify

        async def die(record: SessionRecord) -> None:
            if not record.warm:
                await verify(record)
                return
            warm.fake.world.end(record.provisioned.containers["probe"], code)
            await asyncio.shield(record.ending)
            then(record)
            raise Interrupted

        monkeypatch.setattr(starter, "_verify", die)

    return begin


async def test_slot_that_breaks_while_it_is_claimed_is_done_without(
    warm: Lab, dies: Callable[..., None]
) -> None:
    wire = await warm.wire()
    broken = ready(warm)[0]
    dies(137)
    session = await wire.call("session.start")
    assert (session["session_id"], session["warm"]) == (broken, False)
    found = await wire.call("session.get", session_id=broken)
    assert (found["phase"], found.get("exit_codes")) == ("running", None)


async def test_connection_still_has_its_lease_when_the_slot_was_broken(
    warm: Lab, dies: Callable[..., None]
) -> None:
    """N2: a stage's end is not that of a session which goes on without its slot."""
    gone = await warm.wire()
    dies(137)
    session = await gone.call("session.start", lease="connection")
    assert session["warm"] is False
    gone.reset()
    wire = await warm.wire()
    found = await wire.call("session.wait", session_id=session["session_id"])
    assert (found["outcome"], found["cause"]) == ("expired", "lease")


async def test_stage_of_a_broken_slot_that_is_seen_to_end_late_ends_nothing(
    warm: Lab, dies: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one has died, others often end as well, while the daemon writes down that it goes on."""
    wire, writer = await warm.wire(), warm.daemon.supervisor.transitions.writer
    [record, _] = warm.daemon.supervisor.slots.ready("segmented")
    dies(137)
    settle = writer.settled

    async def late() -> None:
        monkeypatch.setattr(writer, "settled", settle)
        await settle()
        record.ask_end(Ending("failed", "exit", "the stage 'stream' ended", stage="stream"))

    monkeypatch.setattr(writer, "settled", late)
    session = await wire.call("session.start")
    assert (session["session_id"], session["phase"]) == (record.id, "running")


async def test_slot_that_is_found_disconnected_is_done_without(
    warm: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2: and not only when its stages have given up."""
    wire = await warm.wire()
    broken = ready(warm)[0]
    starter = warm.daemon.supervisor._starter
    verify = starter._verify

    async def deliver(record: SessionRecord) -> None:
        await (asyncio.Event().wait() if record.warm else verify(record))

    monkeypatch.setattr(starter, "_verify", deliver)
    monkeypatch.setattr(slot_faults, "LATE", 0.01)
    warm.fake.world.containers[container_of(warm, broken, "segmentation")].published = None
    session = await wire.call("session.start")
    assert (session["session_id"], session["warm"]) == (broken, False)


async def test_start_that_a_stage_does_not_like_fails_as_without_a_slot(
    warm: Lab, dies: Callable[..., None]
) -> None:
    wire = await warm.wire()
    dies(2)
    refused = await wire.refusal("session.start")
    assert refused.type == "start_failed"
    assert "ended with code 2" in refused.message


async def test_who_stops_a_session_whose_slot_is_broken_is_heard(
    warm: Lab, dies: Callable[..., None]
) -> None:
    wire = await warm.wire()
    wish = Ending("stopped", "client", "stopped on request")
    dies(137, then=lambda record: record.ask_end(wish))
    refused = await wire.refusal("session.start")
    assert refused.type == "cancelled"
    assert (await wire.call("session.list"))["sessions"][0]["outcome"] == "stopped"


async def test_who_stops_a_session_while_its_slot_is_looked_at_is_heard(
    warm: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No stage has ended by then: whoever stops it is the first to say that it is to end."""
    wire = await warm.wire()
    [slot, _] = warm.daemon.supervisor.slots.ready("segmented")
    slot.provisioned.inputs["stream"] = Deaf()
    faults = warm.daemon.supervisor._starter.slot_faults
    look = faults.fault

    async def and_stop(record: SessionRecord, failed: Exception) -> slot_faults.Fault | None:
        found = await look(record, failed)
        record.ask_end(Ending("stopped", "client", "stopped on request"))
        return found

    monkeypatch.setattr(faults, "fault", and_stop)
    assert (await wire.refusal("session.start")).type == "cancelled"
    assert (await wire.call("session.list"))["sessions"][0]["outcome"] == "stopped"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a claim looked at at once: how long the daemon waits for a stage is no matter here."""
    monkeypatch.setattr(slot_faults, "LATE", 0.01)
    monkeypatch.setattr(slot_faults, "SILENT", 0.02)
    monkeypatch.setattr(slot_faults, "TIMES", 0.0)


async def test_slot_with_a_stage_that_hangs_is_done_without(
    warm: Lab, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: a start without it comes about, and those that were made beside it are made anew."""
    wire = await warm.wire()
    hung, other = ready(warm)
    before = set(warm.fake.world.containers)
    warm.fake.world.containers[container_of(warm, hung, "probe")].hangs = True
    starter = warm.daemon.supervisor._starter
    verify = starter._verify

    async def deliver(record: SessionRecord) -> None:
        await (asyncio.Event().wait() if record.warm else verify(record))

    monkeypatch.setattr(starter, "_verify", deliver)
    session = await wire.call("session.start")
    assert (session["session_id"], session["warm"]) == (hung, False)
    await gone(warm, other)
    assert not before & warm.fake.world.containers.keys()
    await filled(warm)
    await wire.call("session.stop", session_id=hung)


async def test_slow_slot_whose_stages_have_taken_their_lines_is_waited_for(
    warm: Lab, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: on a busy machine as well: a stage that has said something is at work."""
    wire = await warm.wire()
    starter = warm.daemon.supervisor._starter
    verify, faults = starter._verify, starter.slot_faults
    look, looks = faults._may_be_published, 0
    judged = asyncio.Event()

    async def count(record: SessionRecord) -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:
            asyncio.get_running_loop().call_soon(judged.set)
        return await look(record)

    async def deliver(record: SessionRecord) -> None:
        await judged.wait()
        await verify(record)

    monkeypatch.setattr(faults, "_may_be_published", count)
    monkeypatch.setattr(starter, "_verify", deliver)
    session = await wire.call("session.start")
    assert (session["warm"], "slot" in session["timings"]) == (True, False)


@pytest.mark.parametrize(("code", "goes_on"), [(3, True), (2, False), (4, False)])
async def test_stage_that_waited_in_vain_for_one_that_hangs_is_not_to_blame(
    warm: Lab, dies: Callable[..., None], code: int, goes_on: bool
) -> None:
    """F21: and one that could not do what it was told is, whatever the others do."""
    wire = await warm.wire()
    hung = ready(warm)[0]
    warm.fake.world.containers[container_of(warm, hung, "stream")].hangs = True
    dies(code)
    if not goes_on:
        assert (await wire.refusal("session.start")).type == "start_failed"
    else:
        assert (await wire.call("session.start"))["warm"] is False


async def test_processes_that_were_stopped_while_they_waited_cost_no_request(
    tmp_path: Path,
) -> None:
    """F21: each of them, one after the other; nothing of them is left."""
    pipelines = {"stream": {"warm": 2}}
    async with in_process(tmp_path / "p", {"engine": "process", "pipelines": pipelines}) as lab:
        wire = await lab.wire()
        slots = lab.daemon.supervisor.slots
        await until(lambda: len(slots.ready("stream")) == 2, "the slots are ready")
        for slot in slots.ready("stream"):
            state = await lab.daemon.engine.inspect(slot.provisioned.containers["probe"])
            assert state.status == "running"
            signal_group(pid_of(lab, slot.provisioned.containers["probe"]), signal.SIGSTOP)
        for _ in range(2):
            session = await wire.call("session.start", plain_stream=True, count=3)
            assert len((await receive(session["location"]))[1]) == 3
    assert left_of(tmp_path / "p") == []


def pid_of(lab: Lab, container_id: str) -> int:
    engine = lab.daemon.engine
    assert isinstance(engine, ProcessEngine)
    child = engine._stages[container_id].child
    assert child is not None
    return child.pid
