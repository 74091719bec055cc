# SPDX-License-Identifier: MIT
"""The methods of the protocol: one function for each, and one table of them. The read-only ones are in
`reads`. A verb takes a call and typed params and returns a typed result, or raises a `WireError`. Plain
functions are quick and answered inline; coroutines may take their time and run as tasks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from operatord.access.identity import LOCAL
from operatord.access.logins import of_token
from operatord.store.events import Subscription
from operatord.streams.probes import Registrant
from operatord_protocol import errors
from operatord_protocol import messages as m
from operatord_protocol.absent import given
from operatord_protocol.checking import suggestion

from . import logs, sessions
from .paging import piece, wanted
from .peer import Call


async def drain(call: Call, params: m.DrainParams) -> m.Drained:
    """Admit no more; with a timeout, wait that long for the sessions to finish."""
    supervisor = call.services.supervisor
    call.audit("drain")
    supervisor.drain(True)
    if timeout := given(params.timeout):
        await sessions.all_ended(supervisor, timeout)
    return m.Drained(
        draining=True, waiting_for=[record.id for record in supervisor.registry.living()]
    )


def undrain(call: Call, params: m.NoParams) -> m.Drained:
    """Admit again."""
    supervisor = call.services.supervisor
    call.audit("undrain")
    supervisor.drain(False)
    return m.Drained(
        draining=False, waiting_for=[record.id for record in supervisor.registry.living()]
    )


async def reload(call: Call, params: m.NoParams) -> m.Reloaded:
    """Reread the configuration. Raises `Conflict` when it cannot be used; then nothing changes."""
    call.audit("reload")
    return await call.services.reload()


def login(call: Call, params: m.LoginParams) -> m.Login:
    """Log in; where there are no tokens, return who the connection already is.

    Raises `Unauthorized`, `TooManyRequests`.
    """
    logins, who = call.services.logins, call.peer.identity
    if (tokens := logins.known.tokens) is None:
        if who.role is None:
            raise errors.Unauthorized("no tokens are configured, so none is right")
        return m.Login(user=who.user, role=who.role, note=NO_LOGINS if who == LOCAL else NO_TOKENS)
    token = logins.identify(tokens, params.token, call.peer.origin)
    call.peer.log_in(of_token(token))
    return m.Login(user=token.user, role=token.role)


NO_LOGINS = "no logins are configured, so the token was not checked: everybody who can connect is an operator"

NO_TOKENS = (
    "no tokens are configured, so this one was not checked: the connection itself says who you are"
)


async def probe_register(call: Call, params: m.ProbeRegisterParams) -> m.Probe:
    """Make a probe known, for good or for as long as this connection lasts."""
    probes, connection = call.services.probes, call.peer.id
    if params.lease == "connection" and probes.is_new_holder(connection):
        call.peer.on_close(lambda: probes.connection_closed(connection))
    target = await probes.register(params, _registrant(call))
    where = {"host": given(params.host), "port": given(params.port)}
    call.audit(
        "register", probe=params.name, **(where if target.source is None else {"url": target.shown})
    )
    return await probes.get(params.name, whole=_is_operator(call))


def _registrant(call: Call) -> Registrant:
    who = call.peer.identity
    return Registrant(who.user, call.peer.id, who.sees)


def _is_operator(call: Call) -> bool:
    return call.peer.identity.is_operator


async def probe_list(call: Call, params: m.ProbeListParams) -> m.Probes:
    """Look at registered probes, a piece of the list at a time."""
    limit, _ = asked = wanted(params.limit, params.cursor)
    names, further = piece(call.services.probes.names(limit + 1, asked.after(str)), limit, str)
    found = await call.services.probes.list(names, whole=_is_operator(call))
    return m.Probes(probes=list(found), next=further)


async def probe_get(call: Call, params: m.ProbeParams) -> m.Probe:
    """Look at one."""
    return await call.services.probes.get(params.name, whole=_is_operator(call))


async def probe_remove(call: Call, params: m.ProbeParams) -> m.Probe:
    """Forget one. Raises `NotFound`, `Forbidden`, `Conflict`."""
    removed = await call.services.probes.remove(params.name, _registrant(call))
    where = {name: value for name in ("host", "port") if (value := given(getattr(removed, name)))}
    call.audit("remove", probe=removed.name, **(where or {"url": given(removed.url)}))
    return removed


class EventFeed(Subscription):
    """Events for one subscription of a connection."""

    __slots__ = ("_dialect", "_peer", "_registry", "number")

    def __init__(self, call: Call, params: m.SubscribeParams, types: frozenset[str] | None) -> None:
        """Send events of these types as notifications, in the dialect of ``call``."""
        self._peer, self._dialect = call.peer, call.request.dialect
        self._registry = call.services.supervisor.registry
        self.number = call.services.new_subscription()
        since, session_id = given(params.since), given(params.session_id)
        super().__init__(call.services.events, since, types, session_id)

    def send(self, params: dict[str, Any]) -> bool:
        """Send one, with the number of the subscription."""
        note = {"subscription": self.number, **params}
        if "location" in note and not self._sees(note["session_id"]):
            del note["location"]
        return self._peer.notify(self._dialect, "event", note)

    def _sees(self, session_id: str) -> bool:
        owner = self._registry.owner_of(session_id)
        return owner is not None and self._peer.identity.sees(owner)

    def due(self) -> None:
        """Ask for a turn."""
        self._peer.due(self.number)


def subscribe(call: Call, params: m.SubscribeParams) -> m.Subscribed:
    """Send events to this connection from now on, or from a number on."""
    call.peer.check_kept()
    feed = EventFeed(call, params, _known_types(params))
    # Events that are already due are sent after the reply, which names the subscription.
    call.peer.keep(feed.number, feed)
    return m.Subscribed(subscription=feed.number, seq=call.services.events.seq)


def _known_types(params: m.SubscribeParams) -> frozenset[str] | None:
    """Return the wanted types; None for all. Unknown types are refused, since a typo would wait for ever."""
    if (types := given(params.types)) is None:
        return None
    for index, name in enumerate(types):
        if name not in m.EVENT_TYPES:
            path = f"params.types[{index}]"
            hint = suggestion(name, m.EVENT_TYPES)
            raise errors.InvalidParams(f"{path}: there is no event {name!r}{hint}", path=path)
    return frozenset(types)


def unsubscribe(call: Call, params: m.UnsubscribeParams) -> m.Unsubscribed:
    """End a subscription of this connection. Raises `NotFound`."""
    if not call.peer.drop(params.subscription):
        raise errors.NotFound(f"this connection has no subscription {params.subscription}")
    return m.Unsubscribed(subscription=params.subscription)


def cancel(call: Call, params: m.CancelParams) -> m.CancelResult:
    """Cancel a pending request of this connection. Raises `NotFound`."""
    if not call.peer.cancel(params.id):
        raise errors.NotFound(f"this connection has no pending request with the id {params.id!r}")
    return m.CancelResult(cancelled=True)


VERBS: dict[str, Callable[[Call, Any], Any]] = {
    "system.drain": drain,
    "system.undrain": undrain,
    "system.reload": reload,
    "auth.login": login,
    "probe.register": probe_register,
    "probe.list": probe_list,
    "probe.get": probe_get,
    "probe.remove": probe_remove,
    "session.start": sessions.start,
    "session.stop": sessions.stop,
    "session.wait": sessions.wait,
    "session.extend": sessions.extend,
    "session.logs": logs.logs,
    "session.stats": sessions.stats,
    "events.subscribe": subscribe,
    "events.unsubscribe": unsubscribe,
    "request.cancel": cancel,
}
TASKS = frozenset(name for name, verb in VERBS.items() if inspect.iscoroutinefunction(verb))
"""Methods that run as tasks."""
