# SPDX-License-Identifier: MIT
"""The sessions' networks: each on a subnet of its own that overlaps with nobody's."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from operatord.core.subnets import SubnetPool, SubnetsExhausted
from operatord.engines import base
from operatord.machine.clock import Clock
from operatord.session.record import SessionRecord

from .subnet_count import occupants

SUBNET_TRIES = 32
"""How many subnets are tried when others on the engine take them at the same moment."""
REMEMBERED = 10.0
"""Seconds for which the engine's list of networks is cached. If it is outdated, a creation is refused, which
costs as much as asking each time would."""


class Networks:
    """Makes networks on one engine, and knows which subnets are taken."""

    def __init__(
        self, engine: base.Engine, subnets: SubnetPool, clock: Clock, *, here: bool = True
    ) -> None:
        """Nothing is asked before the first network is wanted.

        ``here``: the engine is on this machine, whose routes count.
        """
        self._here = here
        self._engine = engine
        self._subnets = subnets
        self._clock = clock
        self._foreign: list[str] | None = None
        """All CIDRs on the engine, when it was last asked; None before that."""
        self._asked_at = 0.0

    async def make(self, record: SessionRecord, labels: Mapping[str, str]) -> None:
        """Give ``record`` a network, and the subnet that it holds until `give_back`.

        If the engine's answer gets lost, it still holds the subnet. Raises `SubnetsExhausted`,
        `base.EngineError`.
        """
        taken: list[str] = []
        fresh = False
        for _ in range(SUBNET_TRIES):
            foreign = [*await self._others(fresh), *taken]
            try:
                record.provisioned.subnet = subnet = self._subnets.take(foreign)
            except SubnetsExhausted:
                if fresh:
                    raise self._exhausted(taken) from None
                fresh = True  # some of those that were there may have gone
                continue
            plan = base.NetworkPlan(record.network_name, subnet, labels, record.provisioned.way_out)
            try:
                record.provisioned.network = await self._engine.create_network(plan)
                return
            except base.SubnetTaken:
                taken.append(subnet)
                self.give_back(record)
                fresh = True
        raise SubnetsExhausted(f"{SUBNET_TRIES} subnets in a row were taken by others; try again")

    async def has(self, record: SessionRecord) -> bool:
        """Tell whether the network that was made for ``record`` is still there.

        Others may have removed it: ``docker network prune`` removes each that has no container. If so, it is
        forgotten. Raises `base.EngineError`.
        """
        in_use = await self._engine.subnets_in_use()
        if in_use is None or record.provisioned.subnet in in_use:
            return True
        self.give_back(record)
        record.provisioned.network = None
        return False

    async def _others(self, fresh: bool) -> list[str]:
        """Return the subnets that are taken, by the engine's list and the host's routes."""
        now = self._clock.now()
        if fresh or self._foreign is None or now - self._asked_at > REMEMBERED:
            in_use = await self._engine.subnets_in_use()
            if in_use is None:
                return []
            self._foreign, self._asked_at = in_use, now
        return list(occupants(self._foreign, here=self._here))

    def _exhausted(self, taken: Sequence[str]) -> SubnetsExhausted:
        """Return why there is no subnet, and what to do about it."""
        foreign = self._subnets.others([*(self._foreign or ()), *taken])
        problem = self._subnets.obstacle(occupants(foreign, here=self._here)) or (
            f"sessions hold all {self._subnets.capacity} subnets of `subnets` that nothing else uses: "
            "widen it, or wait for a session to end"
        )
        return SubnetsExhausted(problem)

    def hold(self, record: SessionRecord) -> None:
        """Note that a session of an earlier life of the daemon has its subnet."""
        if record.provisioned.subnet is not None:
            self._subnets.hold(record.provisioned.subnet)

    def give_back(self, record: SessionRecord) -> None:
        """Give the subnet of ``record`` back. Idempotent."""
        if record.provisioned.subnet is not None:
            self._subnets.give_back(record.provisioned.subnet)
            record.provisioned.subnet = None

    async def reaches(self, host: str, network: base.Network) -> bool:
        """Tell whether stages in ``network`` can reach ``host``, an address as this machine knows it.

        They cannot if their network has no way out, if it is this machine itself, or on a bridge that the
        engine isolates from others.
        """
        if network.gateway is None:
            return True
        if network.way_out != "open":
            return False
        return not _only_the_host_reaches(host, await self._engine.subnets_in_use() or ())


def _only_the_host_reaches(host: str, engine_subnets: Sequence[str]) -> bool:
    """Tell whether ``host`` is the host itself, or on a bridge that engines isolate from others."""
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_loopback:
        return True
    return any(address in ipaddress.ip_network(cidr, strict=False) for cidr in engine_subnets)
