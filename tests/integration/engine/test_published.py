# SPDX-License-Identifier: MIT
"""From `advertise_host` to an address, and what becomes of a stage that is published elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from daemon_lab import OPERATORD, Lab, Wire, clean_env, in_process, run, settings, until
from shared_host import free_port

from operatord.engines.base import NotOurAddress, StageState
from operatord.engines.docker.bodies import stage_state
from operatord.provision import doubt
from operatord.settings import advertised
from operatord.settings.advertised import Advertised
from operatord.settings.advertised import advertised as advertised_as
from operatord.settings.loading import from_dict

LOOPBACK = "127.0.0.1"


def names(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Let any name stand for these addresses."""
    found = [(0, 0, 0, "", (address, 0)) for address in addresses]
    monkeypatch.setattr(advertised.socket, "getaddrinfo", lambda *_, **__: found)


def address(host: str, engine_host: str | None = None) -> str:
    """Return the address that is published on for `advertise_host`."""
    return advertised_as(from_dict({"advertise_host": host}), engine_host).address


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1", "::1"])
def test_address_is_taken_as_it_is(host: str) -> None:
    """F1: only the engine knows what its host has."""
    assert address(host) == host


def test_name_becomes_an_address_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: never a wildcard, nor another machine's; IPv4 where there is a choice."""
    names(monkeypatch, "192.0.2.1", "::", "0.0.0.0", "::1", LOOPBACK)
    assert address("here.example") == LOOPBACK


@pytest.mark.parametrize("addresses", [["192.0.2.1"], ["0.0.0.0", "::"]])
def test_name_of_another_machine_is_the_gates(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    """F1: what translates addresses has it; unless the engine is there."""
    names(monkeypatch, *addresses)
    found = advertised_as(from_dict({"advertise_host": "there.example"}), None)
    assert found == Advertised(LOOPBACK, LOOPBACK, True, "0.0.0.0", "there.example")
    assert address("there.example", engine_host="there.example") in addresses


@pytest.mark.parametrize("command", ["serve", "check-config"])
async def test_name_that_nobody_knows_is_refused_before_anything_is_begun(
    tmp_path: Path, command: str
) -> None:
    """F1: with exit code 2."""
    env = {**clean_env(), "OPERATORD_ADVERTISE_HOST": "no-such-host.invalid"}
    code, _, said = await run(OPERATORD, command, "--state-dir", str(tmp_path / "s"), env=env)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("operatord: advertise_host: no address is known for the name")
    assert not (tmp_path / "s").exists()


async def test_name_can_be_changed_and_a_bad_one_changes_nothing(tmp_path: Path) -> None:
    """F1: a reload looks the new name up."""
    wanted = [settings(tmp_path / "s", {"advertise_host": "no-such-host.invalid"})]
    async with in_process(tmp_path / "s", reread=lambda: wanted[0]) as lab:
        wire = await lab.wire()
        refused = await wire.refusal("system.reload")
        assert (refused.type, "no address is known" in refused.message) == ("conflict", True)
        wanted[0] = settings(tmp_path / "s", {"advertise_host": "localhost"})
        await wire.call("system.reload")
        session = await wire.call("session.start")
        assert session["location"]["host"] == "localhost"


def inspected(asked: str, *given: str) -> dict[str, Any]:
    """Return what an engine says of a container that was to be published on ``asked``."""
    return {
        "Id": "0123",
        "State": {"Status": "running"},
        "HostConfig": {"PortBindings": {"1/tcp": [{"HostIp": asked, "HostPort": ""}]}},
        "NetworkSettings": {
            "Ports": {"1/tcp": [{"HostIp": ip, "HostPort": "49153"} for ip in given]},
            "Networks": {"mine": {"IPAddress": "10.89.0.2"}},
        },
    }


@pytest.mark.parametrize("given", [["0.0.0.0"], ["0.0.0.0", "::"], [LOOPBACK, "::"]])
def test_engine_that_publishes_more_than_was_asked_for_is_not_believed(given: list[str]) -> None:
    """F1: nobody is told of a stage that can be read from everywhere."""
    state = stage_state(inspected(LOOPBACK, *given))
    with pytest.raises(NotOurAddress, match="advertise_host"):
        state.where_published()
    asked = stage_state(inspected(LOOPBACK, LOOPBACK)).where_published()
    assert asked is not None
    assert asked.host == LOOPBACK


@pytest.mark.parametrize("network", ["shared", "separate"])
async def test_start_that_is_published_elsewhere_fails_and_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    """F1"""
    async with in_process(tmp_path / "s", {"pipelines": {"stream": {"network": network}}}) as lab:
        wire, inspect = await lab.wire(), lab.fake.inspect

        async def astray(container_id: str) -> StageState:
            return msgspec.structs.replace(await inspect(container_id), astray=True)

        monkeypatch.setattr(lab.fake, "inspect", astray)
        refused = await wire.refusal("session.start", plain_stream=True)
        assert refused.type == "start_failed"
        assert "another address" in refused.message
        assert lab.fake.empty


async def publish_nowhere(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let stages be published where nobody listens."""
    inspect = lab.fake.inspect
    port = free_port()

    async def elsewhere(container_id: str) -> StageState:
        state = await inspect(container_id)
        if state.published is None:
            return state
        where = msgspec.structs.replace(state.published, port=port)
        return msgspec.structs.replace(state, published=where)

    monkeypatch.setattr(lab.fake, "inspect", elsewhere)
    monkeypatch.setattr(doubt, "SOON", 0.05)
    monkeypatch.setattr(doubt, "EVERY", 0.05)


def looks_of(monkeypatch: pytest.MonkeyPatch) -> list[doubt.PublishedStage]:
    """Return a list that grows with each look."""
    looks: list[doubt.PublishedStage] = []
    refuses = doubt._refuses

    async def look(place: doubt.PublishedStage) -> bool:
        looks.append(place)
        return await refuses(place)

    monkeypatch.setattr(doubt, "_refuses", look)
    return looks


async def test_address_that_refuses_though_the_stage_listens_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F16: long before the start has timed out."""
    async with in_process(tmp_path / "s", {"start_timeout": 600}) as lab:
        await publish_nowhere(lab, monkeypatch)
        monkeypatch.setattr(doubt, "CONNECTS", 0.05)
        looks = looks_of(monkeypatch)
        wire: Wire = await lab.wire()
        start = wire.begin("session.start", plain_stream=True)
        await wire.note(lambda said: said.get("stage") == "verify")
        await until(lambda: len(looks) > 1, "it was refused twice, and may be loading still")
        lab.fake.world.write(lab.fake.stages()["stream"], '{"type":"listening","port":1}')
        with pytest.raises(Exception, match="refuses connections from the daemon"):
            await wire.reply(start)


async def test_address_that_refuses_to_the_end_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F16: also where the stage does not say that it listens."""
    # The last look comes as long before the end of the start as two connections may take.
    async with in_process(tmp_path / "s", {"start_timeout": 3 * doubt.CONNECTS}) as lab:
        await publish_nowhere(lab, monkeypatch)
        wire = await lab.wire()
        refused = await wire.refusal("session.start", plain_stream=True)
        assert refused.type == "start_failed"
        assert "set `advertise_host`" in refused.message
