# SPDX-License-Identifier: MIT
"""The registered probes: any process that speaks the stream format, on this host or another, and what URLs
name."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
from msgspec import UNSET

from operatord.core.plans import Adapted, Source, Upstream
from operatord.settings.config import Config
from operatord.settings.current import CurrentSettings
from operatord.store.events import Emit
from operatord.store.journal import Journal
from operatord.store.journal_file import JournalFailed, not_written
from operatord_protocol import errors
from operatord_protocol.checking import suggestion
from operatord_protocol.messages import Probe, ProbeRegisterParams

from .hello import NotAllowed, Rules
from .looks import Looks, Seen
from .sources.target import Target, checked, target_of

log = logging.getLogger(__name__)

REMEMBERED = 2.0
"""Seconds for which a list reuses an earlier look."""
LIST_PATIENCE = 3.0
"""Seconds that a list waits for its looks: longer than one takes. Of probes that have not had their turn by
then it tells what was seen of them last, and their looks go on."""


class Registrant(NamedTuple):
    """Who registers or removes a probe."""

    user: str
    connection: int
    """The number of the connection that asks."""
    sees: Callable[[str], bool]
    """Tells whether what belongs to a user is theirs to change."""


class StoredProbe(ProbeRegisterParams, frozen=True):
    """What the journal has of a probe."""

    labels: dict[str, str] = msgspec.field(default_factory=dict)
    """As they were written: earlier versions took texts that are refused now."""
    owner: str = ""
    """Who registered it; nobody, where an earlier version wrote it down."""


class _Entry:
    """A registered probe and what was seen of it last."""

    def __init__(self, params: StoredProbe, holder: int | None, target: Target) -> None:
        self.params = params
        self.holder = holder
        """The connection whose end forgets it; None for a pinned one."""
        self.target = target
        self.seen = Seen("unknown")
        self.looked = -math.inf
        """When that was seen, monotonic."""
        self.told = "unknown"
        """Whether it was last found up or down: events report when this changes."""
        self.looking: asyncio.Task[None] | None = None
        """The look under way, which all who want to know share."""


class ProbeRegistry:
    """Names and addresses, each checked by connecting."""

    def __init__(
        self,
        users: Callable[[str], list[str]],
        emit: Emit,
        journal: Journal,
        settings: CurrentSettings,
        *,
        sees_places: Callable[[], bool] = lambda: True,
    ) -> None:
        """``users`` returns the living sessions on a probe; ``emit`` publishes an event; ``sees_places``
        returns what `Rules` have.

        Probes that an earlier life of the daemon was told of are known again, however many there are.
        """
        self._users = users
        self._emit = emit
        self._journal = journal
        self._settings = settings
        self._holders: set[int] = set()
        self._looks = Looks(lambda: rules_of(settings.config, sees_places=sees_places()))
        self._looking: set[asyncio.Task[None]] = set()
        self._entries: dict[str, _Entry] = {}
        for name, data in journal.probes().items():
            try:
                stored = msgspec.json.decode(data, type=StoredProbe)
                self._entries[name] = _Entry(stored, None, target_of(stored))
            except (msgspec.MsgspecError, ValueError) as exc:
                log.error("the probe %s cannot be read from the journal: %s", name, exc)

    async def register(self, params: ProbeRegisterParams, by: Registrant) -> Target:
        """Make a probe known, which belongs to who has registered it first; return where it is.

        Raises `InvalidParams`, `Forbidden` where nobody may connect, or when the name is another user's,
        `Conflict` when the name has another address, `TooManyRequests` when there is no room for another
        probe, `NoCapacity` when it cannot be written down; then nothing has happened.
        """
        params = checked(params, self._settings.config.sources)
        target = target_of(params)
        self._check(params, target, by)
        await self._check_destination(params.name, target, by)
        known = self._check(params, target, by)  # another request may have been quicker
        entry = _Entry(_stored(params, by, known), _holder(params, by), target)
        if known is not None:
            entry.seen, entry.told = (
                known.seen,
                known.told,
            )  # an unchanged registration causes no event
        self._entries[params.name] = entry
        if entry.holder is None or (known is not None and known.holder is None):
            try:
                await self._write(params.name, entry)
            except JournalFailed as exc:
                self._put_back(params.name, known, instead_of=entry)
                raise not_written(exc, f"the probe {params.name!r} is not registered") from exc
        return entry.target

    async def _check_destination(self, name: str, target: Target, by: Registrant) -> None:
        try:
            await self._looks.check(target)
        except NotAllowed as exc:
            log.info("probe %s is not registered: %s", name, exc.detail)
            how = self._how_to_allow(target) if by.sees("") else ""
            raise errors.Forbidden(f"{target.param}: {exc}{how}", path=target.param) from exc

    def _how_to_allow(self, target: Target) -> str:
        """Return what to write where to allow a file or device: for operators, as it tells all that is."""
        source, line = target.source, None
        if source is not None and source.is_local:
            line = self._settings.config.probes.line_that_allows(source.scheme, source.path)
        return "" if line is None else f": in operatord.yaml, `{line}`, then `operatorctl reload`"

    async def _write(self, name: str, entry: _Entry | None) -> None:
        """Write a probe down, or that it is not known any more. Raises `JournalFailed`."""
        self._note(name, entry)
        await self._journal.settled()

    def _note(self, name: str, entry: _Entry | None) -> None:
        kept = None if entry is None or entry.holder is not None else entry.params
        self._journal.note_probe(name, None if kept is None else msgspec.json.encode(kept))

    def _put_back(self, name: str, before: _Entry | None, *, instead_of: _Entry | None) -> None:
        """Undo a change that could not be written, unless somebody has made another one since."""
        if self._entries.get(name) is not instead_of:
            return
        if before is None:
            self._entries.pop(name, None)
        else:
            self._entries[name] = before
        self._note(name, before)

    def is_new_holder(self, connection: int) -> bool:
        """Note that a connection has probes on lease; tell whether that is new."""
        new = connection not in self._holders
        self._holders.add(connection)
        return new

    def _check(self, params: ProbeRegisterParams, target: Target, by: Registrant) -> _Entry | None:
        """Return what is known by the name already. Raises what `register` does."""
        self._check_params(params)
        known, most = self._entries.get(params.name), self._settings.config.limits.probes
        if known is None:
            if len(self._entries) >= most:
                raise errors.TooManyRequests(
                    f"{len(self._entries)} probes are registered, and limits.probes allows {most}; remove "
                    "one that nobody needs"
                )
            return None
        _check_same(known, target, by)
        if known.params.owner:
            _check_owner(known, by)
        return known

    def _check_params(self, params: ProbeRegisterParams) -> None:
        most = self._settings.config.limits.label_bytes
        labels = sum(len(f"{name}{value}".encode()) for name, value in params.labels.items())
        if labels > most:
            raise errors.InvalidParams(
                f"params.labels: {labels} bytes of names and values are more than the "
                f"{most} that limits.label_bytes allows for a probe",
                path="params.labels",
            )

    async def get(self, name: str, *, whole: bool) -> Probe:
        """Look at a probe now, and with ``whole`` say why it is not up. Raises `NotFound`."""
        entry = self._entry(name)
        await asyncio.shield(self._begin(entry))
        return self._describe(entry, whole=whole)

    def names(self, limit: int, after: str | None = None) -> Sequence[str]:
        """Return the first names, in their order, that come after one."""
        return sorted(name for name in self._entries if after is None or name > after)[:limit]

    async def list(self, names: Iterable[str], *, whole: bool) -> Sequence[Probe]:
        """Return the probes of these names, each looked at a moment ago, or on its way to be.

        ``whole`` as for `get`.
        """
        entries = [self._entries[name] for name in names if name in self._entries]
        now = asyncio.get_running_loop().time()
        looks = [self._begin(entry) for entry in entries if now - entry.looked > REMEMBERED]
        if looks:
            await asyncio.wait(looks, timeout=LIST_PATIENCE)
        return [self._describe(entry, whole=whole) for entry in entries]

    async def close(self) -> None:
        """End the looks under way."""
        for look in tuple(self._looking):
            look.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    async def remove(self, name: str, by: Registrant) -> Probe:
        """Forget a probe.

        Raises `NotFound`, `Forbidden` when it is another user's, `Conflict` while sessions use it,
        `NoCapacity` when that cannot be written down.
        """
        entry = self._entry(name)
        _check_owner(entry, by)
        if users := self._users(name):
            raise errors.Conflict(
                f"the probe {name!r} is in use; stop its sessions first", name=name, sessions=users
            )
        del self._entries[name]
        try:
            await self._write(name, None)
        except JournalFailed as exc:
            self._put_back(name, entry, instead_of=None)
            raise not_written(exc, f"the probe {name!r} is still registered") from exc
        return self._describe(entry, whole=by.sees(""))

    def upstream(self, name: str) -> Upstream | Adapted:
        """Return the details that a session needs. Raises `NotFound`, `Conflict` without an adapter."""
        host, port, source = self._entry(name).target
        if source is None:
            return Upstream(name, host, port)
        config = self._settings.config
        if (adapter := config.sources.get(source.scheme)) is None:
            raise errors.Conflict(
                f"`sources` has no adapter for {source.scheme}: any more, which the probe {name!r} has",
                name=name,
            )
        needs = config.probes.places.place_of(source.scheme, source.path)
        return Adapted(Source(name, source.text, needs), adapter.stage)

    def connection_closed(self, connection: int) -> None:
        """Forget the probes whose lease was this connection."""
        self._holders.discard(connection)
        gone = [name for name, entry in self._entries.items() if entry.holder == connection]
        for name in gone:
            del self._entries[name]

    def _entry(self, name: str) -> _Entry:
        try:
            return self._entries[name]
        except KeyError:
            known = suggestion(name, self._entries) if self._entries else "; none is registered"
            raise errors.NotFound(f"there is no probe {name!r}{known}", name=name) from None

    def _begin(self, entry: _Entry) -> asyncio.Task[None]:
        """Return the look at a probe that is under way, or a new one."""
        if entry.looking is None:
            entry.looking = asyncio.create_task(self._look_once(entry))
            self._looking.add(entry.looking)
            entry.looking.add_done_callback(self._looking.discard)
        return entry.looking

    async def _look_once(self, entry: _Entry) -> None:
        try:
            seen = await self._looks.look(entry.target)
        finally:
            entry.looking = None
        if seen.detail is not None and seen.detail != entry.seen.detail:
            log.info("probe %s: %s", entry.params.name, seen.detail)
        entry.seen, entry.looked = seen, asyncio.get_running_loop().time()
        if seen.state not in ("unknown", entry.told):
            entry.told = seen.state
            if self._entries.get(entry.params.name) is entry:
                self._emit(f"probe.{seen.state}", name=entry.params.name)

    def _describe(self, entry: _Entry, *, whole: bool) -> Probe:
        params, seen = entry.params, entry.seen
        return Probe(
            name=params.name,
            host=entry.target.host or UNSET,
            port=entry.target.port or UNSET,
            url=entry.target.shown,
            state=entry.seen.state,
            labels=params.labels,
            lease=params.lease,
            owner=params.owner or UNSET,
            frame=dict(seen.frame) if seen.frame else UNSET,
            error=(seen.detail if whole else None) or seen.error or UNSET,
            sessions=self._users(params.name),
        )


def rules_of(config: Config, *, sees_places: bool) -> Rules:
    """Return what the settings say about connections to probes; ``sees_places`` as in `Rules`.

    Where everybody is an operator, there is nobody who is not to know what listens where.
    """
    probes = config.probes
    return Rules(probes.destinations, config.has_roles, probes.places, sees_places)


def _check_same(known: _Entry, after: Target, by: Registrant) -> None:
    """Raises `Conflict` for a probe that is somewhere else, `Forbidden` if only its credentials differ and it
    is another user's, who would otherwise have guesses confirmed."""
    before = known.target
    if before == after:
        return
    what = f"is registered as {before.shown}"
    if before.source is None:
        what = f"is registered at {before.host}:{before.port}"
    elif before.shown == after.shown:
        _check_owner(known, by)
        what = "is registered with other credentials"
    raise errors.Conflict(
        f"the probe {known.params.name!r} {what}; remove it first or choose another name",
        name=known.params.name,
    )


def _holder(params: ProbeRegisterParams, by: Registrant) -> int | None:
    return by.connection if params.lease == "connection" else None


def _stored(params: ProbeRegisterParams, by: Registrant, known: _Entry | None) -> StoredProbe:
    owner = (known.params.owner if known is not None else "") or by.user
    return StoredProbe(**msgspec.structs.asdict(params), owner=owner)


def _check_owner(entry: _Entry, by: Registrant) -> None:
    """Raises `Forbidden` when a probe is another user's."""
    name, owner = entry.params.name, entry.params.owner
    if not by.sees(owner):
        whose = f"belongs to {owner}" if owner else "was registered before probes had owners"
        hint = "only its owner and operators may change that" if owner else "only operators may"
        raise errors.Forbidden(f"the probe {name!r} {whose}; {hint}", name=name)
