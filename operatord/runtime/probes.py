# SPDX-License-Identifier: MIT
"""The registered probes: any process that speaks the stream format, on this host or another."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from operatord.core.plans import Upstream
from operatord_protocol import errors
from operatord_protocol.checking import suggestion
from operatord_protocol.messages import Probe, ProbeRegisterParams
from operatord_protocol.stream import Hello

from .hello import NoHello, read_hello
from .journal import Journal, JournalFailed

log = logging.getLogger(__name__)

CHECK_TIMEOUT = 2.0
"""Seconds a probe has to say hello when it is looked at."""


class _Entry:
    """A registered probe and what was seen of it last."""

    def __init__(self, params: ProbeRegisterParams, holder: int | None) -> None:
        self.params = params
        self.holder = holder
        """The connection whose end forgets it; None for a pinned one."""
        self.hello: Hello | None = None
        self.error: str | None = None
        self.state = "unknown"


class ProbeRegistry:
    """Names and addresses, each checked by connecting."""

    def __init__(
        self, users: Callable[[str], list[str]], emit: Callable[..., None], journal: Journal
    ) -> None:
        """``users`` returns the living sessions on a probe; ``emit`` publishes an event.

        Probes that an earlier life of the daemon was told of are known again.
        """
        self._users = users
        self._emit = emit
        self._journal = journal
        self._entries: dict[str, _Entry] = {}
        for name, data in journal.probes().items():
            try:
                self._entries[name] = _Entry(
                    msgspec.json.decode(data, type=ProbeRegisterParams), None
                )
            except msgspec.MsgspecError as exc:
                log.error("the probe %s cannot be read from the journal: %s", name, exc)

    async def register(self, params: ProbeRegisterParams, connection: int) -> Probe:
        """Make a probe known and look at it. Raises `Conflict` when the name has another address."""
        known = self._entries.get(params.name)
        if known and (known.params.host, known.params.port) != (params.host, params.port):
            raise errors.Conflict(
                f"the probe {params.name!r} is registered at {known.params.host}:"
                f"{known.params.port}; remove it first or choose another name",
                name=params.name,
            )
        entry = _Entry(params, connection if params.lease == "connection" else None)
        if known:
            entry.state = known.state  # that it is as it was is no news
        self._entries[params.name] = entry
        if entry.holder is None:
            self._journal.note_probe(params.name, msgspec.json.encode(params))
            with contextlib.suppress(JournalFailed):  # that is told elsewhere
                await self._journal.settled()
        return await self._look(entry)

    async def get(self, name: str) -> Probe:
        """Look at a probe now. Raises `NotFound`."""
        return await self._look(self._entry(name))

    async def list(self) -> list[Probe]:
        """Look at all probes now, at the same time."""
        return list(await asyncio.gather(*map(self._look, tuple(self._entries.values()))))

    def remove(self, name: str) -> Probe:
        """Forget a probe. Raises `NotFound`, and `Conflict` while sessions use it."""
        entry = self._entry(name)
        if users := self._users(name):
            raise errors.Conflict(
                f"the probe {name!r} is in use; stop its sessions first", name=name, sessions=users
            )
        del self._entries[name]
        self._journal.note_probe(name, None)
        return self._describe(entry)

    def upstream(self, name: str) -> Upstream:
        """Return the details that a session needs. Raises `NotFound`."""
        params = self._entry(name).params
        return Upstream(params.name, params.host, params.port)

    def connection_closed(self, connection: int) -> None:
        """Forget the probes that this connection had on lease."""
        gone = [name for name, entry in self._entries.items() if entry.holder == connection]
        for name in gone:
            del self._entries[name]

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            known = suggestion(name, self._entries) if self._entries else "; none is registered"
            raise errors.NotFound(f"there is no probe {name!r}{known}", name=name) from None

    async def _look(self, entry: _Entry) -> Probe:
        params = entry.params
        try:
            hello = await read_hello(params.host, params.port, CHECK_TIMEOUT)
            self._note(entry, "up", hello, None)
        except NoHello as exc:
            self._note(entry, "down", None, str(exc))
        return self._describe(entry)

    def _note(self, entry: _Entry, state: str, hello: Hello | None, error: str | None) -> None:
        changed = entry.state != state
        entry.state, entry.hello, entry.error = state, hello, error
        if changed and self._entries.get(entry.params.name) is entry:
            self._emit(f"probe.{state}", name=entry.params.name)

    def _describe(self, entry: _Entry) -> Probe:
        params = entry.params
        return Probe(
            name=params.name,
            host=params.host,
            port=params.port,
            state=entry.state,
            labels=params.labels,
            lease=params.lease,
            frame=_frame(entry.hello) if entry.hello else UNSET,
            error=entry.error or UNSET,
            sessions=self._users(params.name),
        )


def _frame(hello: Hello) -> dict[str, Any]:
    described: dict[str, Any] = msgspec.to_builtins(hello)
    return {key: value for key, value in described.items() if key != "type" and value is not None}
