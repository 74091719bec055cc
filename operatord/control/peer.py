# SPDX-License-Identifier: MIT
"""What a verb knows of its caller, and of the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from operatord.access.audit import Audit
from operatord.access.identity import Identity
from operatord.access.logins import Logins
from operatord.access.origin import Entrance, Origin
from operatord.gate.door import Reach
from operatord.lifecycle.inspection import Inspection
from operatord.lifecycle.supervisor import Supervisor
from operatord.machine.clock import Clock
from operatord.machine.host import HostMonitor
from operatord.metering.meters import Meters
from operatord.settings.config import Config
from operatord.settings.current import CurrentSettings
from operatord.store.events import EventLog
from operatord.streams.probes import ProbeRegistry
from operatord.waking import Turnstile
from operatord_protocol.codec import Dialect, Request, RequestId
from operatord_protocol.messages import Reloaded, Trouble

from .start_rates import StartRates
from .views import Views


class Feed(Protocol):
    """A subscription of a connection."""

    def pump(self, until: float) -> bool:
        """Send what is due until a moment by `time.perf_counter`, at least one thing.

        Return whether more is left.
        """
        ...

    def end(self) -> None:
        """Send no more. Idempotent."""
        ...


class Peer(Protocol):
    """One connection, as verbs see it."""

    id: int
    identity: Identity

    @property
    def origin(self) -> Origin:
        """Where it comes from."""
        ...

    @property
    def entrance(self) -> Entrance:
        """Where on this machine it has connected, and how."""
        ...

    def log_in(self, who: Identity) -> None:
        """Be ``who`` from now on, with the limits of those who have logged in."""
        ...

    def notify(self, dialect: Dialect, method: str, params: dict[str, Any]) -> bool:
        """Send a notification; False, and nothing sent, when the peer takes no more just now."""
        ...

    async def drained(self) -> None:
        """Return when the peer takes more."""
        ...

    def due(self, key: int) -> None:
        """Note that a subscription has something to send, or may have."""
        ...

    def on_close(self, callback: Callable[[], None]) -> Callable[[], object]:
        """Call ``callback`` when the connection has ended; return how to undo it."""
        ...

    def check_kept(self) -> None:
        """Check that there is room for one more subscription. Raises `TooManyRequests`."""
        ...

    def keep(self, key: int, feed: Feed) -> None:
        """Note a subscription, and let it send, first after the reply to the present request.

        The connection stays open for it, and its end is the subscription's.
        """
        ...

    def drop(self, key: int) -> bool:
        """End a subscription; False when there is none."""
        ...

    def cancel(self, request_id: RequestId) -> bool:
        """Cancel a pending request; False when there is none."""
        ...

    def own(self, work: Awaitable[None]) -> asyncio.Task[None]:
        """Run ``work`` until it is done or the connection ends."""
        ...


@dataclass(slots=True)
class Services:
    """The parts of the daemon that verbs use."""

    version: str
    instance: str
    settings: CurrentSettings
    inspection: Inspection
    supervisor: Supervisor
    probes: ProbeRegistry
    events: EventLog
    meters: Meters
    host: HostMonitor
    measures_engine: bool
    """Whether ``host`` is where sessions run: nothing is measured of another machine."""
    clock: Clock
    engine_name: str
    engine_facts: Callable[[], dict[str, Any]]
    troubles: Callable[[], list[Trouble]]
    uptime: Callable[[], float]
    connections: Callable[[], int]
    reload: Callable[[], Awaitable[Reloaded]]
    views: Views
    logins: Logins
    audit: Audit
    reach: Callable[[Origin, Entrance], Reach | None] = lambda origin, entrance: None
    """Returns where whoever asks by a connection is to find a stream; None for who is on this machine."""
    more_warnings: Callable[[], list[str]] = list
    """Returns what else is to be known: of who may read streams, and of certificates."""
    followers: Turnstile = field(default_factory=Turnstile)
    """Lets followers with many log lines send one after the other."""
    followed: int = 0
    """How many stages' logs are followed, over all connections."""
    subscription_serial: int = 0
    start_rates: StartRates = field(default_factory=StartRates)

    @property
    def config(self) -> Config:
        """The settings as they are now."""
        return self.settings.config

    def new_subscription(self) -> int:
        """Return a number that no subscription has had."""
        self.subscription_serial += 1
        return self.subscription_serial


@dataclass(slots=True)
class Call:
    """One request on its way through a verb."""

    services: Services
    peer: Peer
    request: Request
    cancelled: bool = False
    """Set when the client cancelled the request, as opposed to having gone away."""

    def notify(self, method: str, params: dict[str, Any]) -> bool:
        """Send a notification in the manner of the request; False when the peer takes no more just now."""
        return self.peer.notify(self.request.dialect, method, params)

    def audit(self, what: str, **more: Any) -> None:
        """Write down who has done what."""
        self.services.audit.note(what, self.peer.identity, self.peer.origin, **more)
