# SPDX-License-Identifier: MIT
"""`operatord sweep`: one pass of cleaning up, by hand or from cron.

It removes what carries the label of this state directory's instance and belongs to no living session of its
journal. Whatever else is on the engine, it never touches: neither what is foreign, nor another instance's.

Why it is safe beside a running daemon:

- The engine's objects are listed first and the journal is read after that. A session is in the journal
  before its first object exists, and it has ended there only once nothing of it is left: an object whose
  session is not living in a journal that was read later has no owner.
- Nothing is removed on one look. The second one comes after a grace, with the labels listed anew.
- Without a journal that can be read, nobody knows what lives, and nothing is removed.
- A running session that no journal knows (`lifecycle.forgotten`) is not removed, unless that is asked for.

Where no daemon runs, sessions that were being started or removed when the last one died are removed without a
grace. The sweep holds the state directory's lock for that moment, so that no daemon starts meanwhile; it does
not hold the lock during the grace, which would keep a daemon from starting. Sessions that run, or wait in the
queue, are left to the next daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

import msgspec

from operatord.engine_link.ownership import Ownership
from operatord.engines import base
from operatord.lifecycle.forgotten import has_unknown_past, of_running, session_of
from operatord.machine.processes import ProcessId, end
from operatord.settings.choice import Choice, choose_engine
from operatord.settings.config import Config
from operatord.store.journal_file import JOURNAL
from operatord.store.reader import JournalReader, reading
from operatord.store.schema import SLOTS, UNKNOWN_PAST, WrongVersion

from .directory import StateDir
from .identity import StateDirUnusable, read_identity, read_instance
from .lock import StateDirBusy

GRACE = 10.0
"""Seconds between the two looks; a daemon's own pass leaves orphans alone for as long."""
SLOT = "slot"
"""In place of a phase, for a slot."""
UNFINISHED = {
    "starting": "its start was never finished, and no daemon runs",
    "stopping": "its removal was never finished, and no daemon runs",
    SLOT: "it was prepared for a request, and no daemon runs",
}
"""By phase in the journal: why nobody needs a session's objects when no daemon runs."""

Say = Callable[[str], None]
MakeEngine = Callable[[], base.Engine]


class CannotSweep(Exception):
    """Nothing was removed; the text says why."""


class Doomed(NamedTuple):
    """An object that is to go."""

    found: base.Found
    why: str
    at_once: bool = False
    """Nobody can be at work on it: it needs no grace."""

    def __str__(self) -> str:
        session = self.found.labels.get(base.LABEL_SESSION, "nobody")
        return f"{self.found.kind} {self.found.name} of session {session}: {self.why}"


class Options(NamedTuple):
    """How to sweep, and who hears of it."""

    say: Say
    """Hears of each object."""
    note: Say
    """Hears what else there is to know."""
    grace: float = GRACE
    """Seconds between the two looks."""
    forgotten: bool = False
    """Remove sessions that run, too, if no journal knows them."""
    dry_run: bool = False
    """Only say what would be removed."""
    make_engine: MakeEngine | None = None
    """In place of what the settings choose. Called for each look, so that none remembers an earlier one."""


class Sweep:
    """One pass over the objects of one instance."""

    def __init__(
        self, state_dir: Path, instance: str, make_engine: MakeEngine, *, forgotten: bool = False
    ) -> None:
        """``instance`` is the label of everything that may be removed, ``forgotten`` as in `Options`."""
        self._state_dir = state_dir
        self._forgotten = forgotten
        self._journal = state_dir / JOURNAL
        self._instance = instance
        self._make_engine = make_engine

    async def look(self, *, alone: bool) -> dict[str, Doomed]:
        """Return what is to go, by id, as things are now; ``alone``: no daemon runs.

        Raises `base.EngineError`, `CannotSweep`.
        """
        async with self._engine() as engine:
            listed = await engine.list_objects(self._instance)
        found = [o for o in listed if o.labels.get(base.LABEL_INSTANCE) == self._instance]
        known = read_journal(self._journal, {session_of(each) for each in found})
        spared = set() if self._forgotten else known.spared(found)
        judged = (
            _judge(each, known.phases.get(session_of(each)), alone)
            for each in found
            if each.id not in spared
        )
        return {each.found.id: each for each in judged if each is not None}

    async def assure_ours(self) -> None:
        """Raise `CannotSweep` if what is on the engine belongs to another state directory of this name."""
        identity = read_identity(self._state_dir)
        if identity is None:
            return  # an older version runs here, which makes no mark
        async with self._engine() as engine:
            try:
                await Ownership(engine, self._instance, identity.holder).check()
            except base.NotOurs as exc:
                raise CannotSweep(str(exc)) from exc

    async def take_mark_away(self) -> None:
        """Remove the instance's mark if nothing else of it is left, and no daemon runs."""
        with _lock(self._state_dir) as alone:
            identity = read_identity(self._state_dir)
            if alone and identity is not None:
                async with self._engine() as engine:
                    await Ownership(engine, self._instance, identity.holder).end()

    async def remove(self, doomed: Iterable[Doomed], say: Say) -> bool:
        """Remove objects, session by session; return whether all of them are gone."""
        sessions: dict[str | None, list[Doomed]] = {}
        for each in doomed:
            sessions.setdefault(each.found.labels.get(base.LABEL_SESSION), []).append(each)
        async with self._engine() as engine:
            gone = [await remove_session(engine, each, say) for each in sessions.values()]
        return all(gone)

    async def end_relays(self, sessions: Iterable[str]) -> None:
        """End the relays of sessions whose objects have gone. Raises `CannotSweep`."""
        for process in read_relays(self._journal, sessions):
            await end(process)

    @contextlib.asynccontextmanager
    async def _engine(self) -> AsyncIterator[base.Engine]:
        engine = self._make_engine()
        try:
            await engine.connect()
            yield engine
        finally:
            await engine.close()


def _judge(found: base.Found, phase: str | None, alone: bool) -> Doomed | None:
    """Return why an object whose session is in ``phase`` is to go; None: it is not."""
    if phase is None:
        return Doomed(found, "the journal has no such session")
    if phase == "ended":
        return Doomed(found, "the session has ended")
    if alone and phase in UNFINISHED:
        return Doomed(found, UNFINISHED[phase], at_once=True)
    return None


async def remove_session(engine: base.Engine, doomed: list[Doomed], say: Say) -> bool:
    """Remove what there is of a session; return whether all of it is gone.

    Its containers go at the same time, as Podman removes none whose namespace another one shares, and
    before their network.
    """
    containers = [each for each in doomed if each.found.kind == "container"]
    networks = [each for each in doomed if each.found.kind == "network"]
    gone = await asyncio.gather(*(_remove(engine, each, say) for each in containers))
    gone += [await _remove(engine, each, say) for each in networks]
    return all(gone)


async def _remove(engine: base.Engine, doomed: Doomed, say: Say) -> bool:
    found = doomed.found
    remove = engine.remove if found.kind == "container" else engine.remove_network
    try:
        await remove(found.id)
    except base.EngineError as exc:
        say(f"could not remove {doomed} ({exc})")
        return False
    say(f"removed {doomed}")
    return True


class Known(NamedTuple):
    """What the journal says."""

    phases: Mapping[str, str]
    """Of each session that it knows."""
    unknown_past: bool
    """There may be sessions that another one knew."""

    def spared(self, found: Iterable[base.Found]) -> set[str]:
        """Return those of the objects ``found`` that are to be left alone, by id."""
        unknown = [each for each in found if session_of(each) not in self.phases]
        return {each.id for each in of_running(unknown)} if self.unknown_past else set()


def read_journal(journal: Path, sessions: Iterable[str]) -> Known:
    """Return what the journal says of ``sessions``. Raises `CannotSweep`.

    It is only read; a daemon that writes meanwhile is not held up by that.
    """
    with _asked(journal, "what lives") as reader:
        rows, slots = reader.sessions(sessions), reader.fact(SLOTS)
        unknown_past = has_unknown_past(reader.fact(UNKNOWN_PAST))
    unclaimed = [] if slots is None else msgspec.json.decode(slots, type=list[str])
    known = {session: row.phase for session, row in rows.items()}
    return Known(dict.fromkeys(unclaimed, SLOT) | known, unknown_past)


class _Relayed(msgspec.Struct):
    relay: ProcessId | None = None


def read_relays(journal: Path, sessions: Iterable[str]) -> list[ProcessId]:
    """Return the relays that these sessions have by the journal. Raises `CannotSweep`."""
    with _asked(journal, "which relays there are") as reader:
        rows = reader.sessions(sessions)
    found = []
    for row in rows.values():
        with contextlib.suppress(msgspec.MsgspecError):  # without its stages it ends by itself
            found.append(msgspec.json.decode(row.data, type=_Relayed).relay)
    return [each for each in found if each is not None]


@contextlib.contextmanager
def _asked(journal: Path, wanted: str) -> Iterator[JournalReader]:
    """Yield a reader of the journal, to look up ``wanted``. Raises `CannotSweep`."""
    try:
        with reading(journal) as reader:
            yield reader
    except WrongVersion as exc:
        raise CannotSweep(f"the journal {exc}") from exc
    except sqlite3.Error as exc:
        raise CannotSweep(
            f"the journal cannot be read ({exc}), so it is not known {wanted}"
        ) from exc


@contextlib.contextmanager
def _lock(state_dir: Path) -> Iterator[bool]:
    """Hold the state directory's lock if no daemon does; give whether it is held."""
    try:
        state = StateDir(state_dir)
    except StateDirBusy:
        yield False
        return
    except StateDirUnusable as exc:
        raise CannotSweep(str(exc)) from exc
    try:
        yield True
    finally:
        state.close()


async def sweep_once(config: Config, options: Options) -> bool:
    """Sweep; return whether all is gone that was to go.

    Raises `base.EngineError`, `CannotSweep`, `StateDirUnusable`, `OSError`.
    """
    state_dir, (say, note, grace, *_) = config.state_path, options
    instance = read_instance(state_dir)
    if instance is None:
        say(f"nothing is left over: no operatord has ever worked in {state_dir}")
        return True
    make_engine = options.make_engine or _chosen(config, instance, note)
    sweep = Sweep(state_dir, instance, make_engine, forgotten=options.forgotten)
    with _lock(state_dir) as alone:
        await sweep.assure_ours()
        note(f"instance {instance}; " + ("no daemon runs" if alone else "a daemon runs"))
        first = await sweep.look(alone=alone)
        urgent = {key for key, each in first.items() if each.at_once}
        found = await _still(sweep, urgent, alone=alone)
        all_gone = await _dispose(sweep, found, options)
        if not options.dry_run:
            await sweep.end_relays({session_of(each.found) for each in found})
    patient = first.keys() - urgent
    if patient:
        await asyncio.sleep(grace)
    orphans = await _still(sweep, patient, alone=False)
    all_gone &= await _dispose(sweep, orphans, options)
    if not options.dry_run:
        await sweep.take_mark_away()
    if not (found or orphans):
        say("nothing is left over")
    return all_gone


async def _still(sweep: Sweep, seen: Set[str], *, alone: bool) -> list[Doomed]:
    """Look once more at what has been ``seen``, and return what is still to go."""
    again = await sweep.look(alone=alone) if seen else {}
    return [each for key, each in again.items() if key in seen]


async def _dispose(sweep: Sweep, doomed: list[Doomed], options: Options) -> bool:
    if not options.dry_run:
        return await sweep.remove(doomed, options.say) if doomed else True
    for each in doomed:
        options.say(f"would remove {each}")
    return True


def _chosen(config: Config, instance: str, note: Say) -> MakeEngine:
    """Return a factory for the engine of these settings. Another engine would show no objects."""

    def make() -> Choice:
        return choose_engine(config, instance, config.state_path, os.environ)

    chosen = make()
    note(f"engine {chosen.engine.name}: {chosen.because}")
    return lambda: make().engine


def run_sweep(config: Config, options: Options) -> int:
    """Sweep once and return an exit code: 0 done, 1 not, or not all of it."""
    try:
        return 0 if asyncio.run(sweep_once(config, options)) else 1
    except base.EngineError as exc:
        options.note(f"nothing more can be done: {exc}")
    except (CannotSweep, StateDirUnusable) as exc:
        options.note(str(exc))
    except OSError as exc:
        options.note(f"the state directory cannot be used: {exc.strerror}: {exc.filename}")
    return 1
