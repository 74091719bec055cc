# SPDX-License-Identifier: MIT
"""Routes and networks of others that take up the sessions' address ranges, for good or for a while."""

from __future__ import annotations

from pathlib import Path

import pytest
from daemon_lab import Lab, StillClock, Wire, in_process, until

from operatord.engines.base import EngineUnavailable
from operatord.machine.routes import Route
from operatord.provision import subnet_count

VPN = Route("198.18.0.0/15", "tun0")
FULL_TUNNEL = [Route("0.0.0.0/1", "tun0"), Route("128.0.0.0/1", "tun0")]


class Table:
    """A machine's routes."""

    def __init__(self) -> None:
        self.routes: list[Route] = [Route("0.0.0.0/0", "eth0")]

    def __call__(self) -> list[Route]:
        return list(self.routes)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    table = Table()
    monkeypatch.setattr(subnet_count, "host_routes", table)
    return table


async def covered(lab: Lab, wire: Wire, table: Table) -> None:
    """Have a VPN come up, and somebody notice it."""
    table.routes.append(VPN)
    lab.daemon.subnet_count.doubt()
    status = await wire.call("system.status")
    assert status["capacity"]["subnets"] == 0


async def test_route_over_all_subnets_is_named_and_the_request_may_come_again(
    table: Table, lab: Lab, wire: Wire
) -> None:
    """F3: whatever is to be done on a shortage, and when asked what would happen."""
    await covered(lab, wire, table)
    for on_shortage in ("queue", "refuse", "degrade"):
        refused = await wire.refusal("session.start", on_shortage=on_shortage)
        assert (refused.type, refused.data["dimension"]) == ("no_capacity", "subnets")
        assert refused.data["retryable"] is True
        assert "198.18.0.0/15 by tun0" in refused.message
        assert "`subnets`" in refused.message
    plan = await wire.call("session.plan")
    assert (plan["decision"], plan["explanation"]["type"]) == ("refuse", "no_capacity")
    assert "tun0" in plan["explanation"]["reason"]


async def test_subnets_are_counted_anew_when_somebody_is_refused(
    table: Table, lab: Lab, wire: Wire
) -> None:
    """F3: once the route is gone, the very next request finds that."""
    await covered(lab, wire, table)
    assert (await wire.refusal("session.start")).type == "no_capacity"
    table.routes.remove(VPN)
    assert (await wire.call("session.start"))["phase"] == "running"


async def test_networks_of_the_engine_that_are_gone_are_noticed_too(
    table: Table, lab: Lab, wire: Wire
) -> None:
    """F3: the engine is asked when somebody was refused; an engine that fails then is asked again."""
    world = lab.fake.world
    world.foreign_subnets.append("198.18.0.0/15")
    lab.daemon.subnet_count.doubt()

    async def is_refused() -> bool:
        return (await wire.call("session.plan"))["decision"] == "refuse"

    async def is_let_in() -> bool:
        return not await is_refused()

    await until(is_refused, "the engine's network is in the way")
    refused = await wire.refusal("session.start")
    assert "the engine's network 198.18.0.0/15" in refused.message
    world.foreign_subnets.clear()
    lab.fake.script.fail("subnets_in_use", EngineUnavailable("not now"))
    await until(is_let_in, "there is room again")
    assert (await wire.call("session.start"))["phase"] == "running"


async def test_who_waits_goes_on_waiting_when_a_vpn_comes_up(
    table: Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3: it is told why, and has its turn when the route is gone, without anybody asking."""
    monkeypatch.setattr(subnet_count, "INTERVAL", 0.01)
    async with in_process(tmp_path, clock=StillClock()) as lab:
        wire, other = await lab.wire(), await lab.wire()
        lab.measure(available=0)
        waiting = wire.begin("session.start")
        await wire.note(lambda note: note.get("position") == 1)
        table.routes.append(VPN)
        admission = lab.daemon.supervisor.admission
        await until(lambda: admission.machine.no_subnets is not None, "the route is seen")
        lab.measure(available=1 << 40)
        [queued] = (await other.call("session.list", phase="queued"))["sessions"]
        assert "tun0" in queued["reason"]
        table.routes.remove(VPN)
        assert (await wire.reply(waiting))["phase"] == "running"


async def test_full_tunnel_is_a_default_route(table: Table, lab: Lab, wire: Wire) -> None:
    """F3: 0.0.0.0/1 and 128.0.0.0/1, added while the daemon runs."""
    table.routes += FULL_TUNNEL
    lab.daemon.subnet_count.doubt()
    assert (await wire.call("session.start"))["phase"] == "running"
    assert (await wire.call("system.status"))["capacity"]["subnets"] == 4096


async def test_route_that_comes_between_count_and_start_is_named_as_well(
    table: Table, lab: Lab, wire: Wire
) -> None:
    """F3: "widen `subnets`" could not help there."""
    table.routes.append(VPN)  # and nobody has counted since
    refused = await wire.refusal("session.start")
    assert (refused.type, refused.data["retryable"]) == ("no_capacity", True)
    assert "tun0" in refused.message
    assert "widen" not in refused.message
