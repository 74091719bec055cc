# SPDX-License-Identifier: MIT
"""Sessions that run and that no journal knows: somebody may be reading from them, so they are left alone.

That happens when a journal is damaged, moved away, or put back from an older backup: objects with this
instance's label that belong to no session of the journal were recorded in another file. While there may be
such, a session with a running container is not removed until a person runs ``operatord sweep --forgotten``,
or until it has ended by itself. Once a list of all objects has none of them, no unknown session is left: a
later session is in the journal before its first object exists.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import NamedTuple

from operatord.engines import base
from operatord.store.journal import Journal
from operatord.store.schema import UNKNOWN_PAST

log = logging.getLogger(__name__)


class LeftAlone(NamedTuple):
    """Counts of objects that the journal does not know."""

    sessions: int = 0
    objects: int = 0


class Forgotten:
    """Remembers whether there is an unknown past, and what is left of it on the engine."""

    def __init__(self, journal: Journal) -> None:
        """Nothing is known of the engine yet."""
        self._journal = journal
        self._unknown_past = has_unknown_past(journal.fact(UNKNOWN_PAST))
        self.left = LeftAlone()

    def spare(self, unknown: Collection[base.Found]) -> set[str]:
        """Return those of the ``unknown`` objects that are left alone, by id.

        ``unknown`` is all that the engine has of sessions that the journal does not know.
        """
        if not self._unknown_past:
            return set()
        spared = of_running(unknown)
        left = LeftAlone(len({session_of(each) for each in spared}), len(spared))
        if left != self.left:
            self.left = left
            self._say()
        if not spared:
            self._unknown_past = False
            self._journal.note_fact(UNKNOWN_PAST, b"false")
        return {each.id for each in spared}

    def _say(self) -> None:
        if self.left.sessions:
            log.warning(
                "%d objects of %d sessions run that the journal does not know; they are left alone until "
                "they have ended, or until `operatord sweep --forgotten` removes them",
                self.left.objects,
                self.left.sessions,
            )
        else:
            log.info("nothing runs any more that the journal does not know")

    def facts(self) -> dict[str, dict[str, int | str]]:
        """Return what `system.status` says of it; empty when there is nothing to say."""
        if not self.left.sessions:
            return {}
        advice = (
            "these sessions run and are in no journal: they are left alone until they have ended, or until "
            "`operatord sweep --forgotten` removes them"
        )
        return {"left_alone": {**self.left._asdict(), "advice": advice}}


def of_running(unknown: Iterable[base.Found]) -> list[base.Found]:
    """Return the objects of those sessions that still have a container that runs."""
    by_session: dict[str, list[base.Found]] = {}
    for each in unknown:
        by_session.setdefault(session_of(each), []).append(each)
    return [each for objects in by_session.values() if _run(objects) for each in objects]


def _run(objects: Iterable[base.Found]) -> bool:
    return any(each.kind == "container" and each.status == "running" for each in objects)


def session_of(found: base.Found) -> str:
    """Return the id of the session that an object says it belongs to."""
    return found.labels.get(base.LABEL_SESSION, "")


def has_unknown_past(data: bytes | None) -> bool:
    """Tell what the fact `UNKNOWN_PAST` says; journals of before it had none."""
    return data == b"true"
