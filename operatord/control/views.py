# SPDX-License-Identifier: MIT
"""Sessions in JSON, encoded once for as long as they are the same.

They are asked for again and again, in lists above all, and what has ended never changes again.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

from msgspec import structs

from operatord.lifecycle.supervisor import Supervisor
from operatord.session.postmortem import post_mortem
from operatord.session.record import SessionRecord
from operatord.session.registry import KnownSession
from operatord.session.view import shown_by, to_session
from operatord_protocol.codec import encode
from operatord_protocol.messages import Session, session_to_wire

KEPT = 4 * 1024**2
"""Bytes that are kept of the sessions that have ended, by themselves and as members of a list each."""


def encode_session(session: Session) -> bytes:
    """Return a session as the wire has it: its stages are members of its own."""
    return encode(session_to_wire(session))


class Views:
    """What is told of each session."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Nothing is encoded yet."""
        self._supervisor = supervisor
        self._clock = supervisor.transitions.clock
        self._living: WeakKeyDictionary[SessionRecord, tuple[object, bytes]] = WeakKeyDictionary()
        self._listed = _Kept()
        self._whole = _Kept()

    def of(self, session_id: str) -> bytes:
        """Return a session, with all that is known of its end if it has ended. Raises `NotFound`."""
        registry = self._supervisor.registry
        if (record := registry.records.get(session_id)) is not None:
            return self.living(record)
        known = self._whole.get(session_id)
        if known is None or not registry.has_ended(session_id):
            known = encode_session(self.whole(registry.get(session_id)))
            self._whole.keep(session_id, known)
        return known

    def whole(self, record: SessionRecord) -> Session:
        """Return a session with all that is known of its end, if it has ended."""
        session = self._supervisor.view(record)
        if record.phase != "ended":
            return session
        return structs.replace(session, post_mortem=post_mortem(record))

    def living(self, record: SessionRecord) -> bytes:
        """Return a session that has not ended."""
        if record.phase != "running":  # something is new each time
            return encode_session(self._supervisor.view(record))
        key = shown_by(record, self._clock)
        known = self._living.get(record)
        if known is None or known[0] != key:
            known = key, encode_session(to_session(record, self._clock))
            self._living[record] = known
        return known[1]

    def listed(self, found: KnownSession) -> bytes:
        """Return a session as a member of a list; nothing if what is written of it cannot be read."""
        if isinstance(found, SessionRecord):
            return self.living(found)
        known = self._listed.get(found.id)
        if known is None:
            record = self._supervisor.registry.recall(found)
            known = b"" if record is None else encode_session(to_session(record, self._clock))
            self._listed.keep(found.id, known)
        return known


class _Kept:
    """Texts by name; those that were not asked for go first when they get too many bytes together."""

    def __init__(self) -> None:
        self._texts: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, name: str) -> bytes | None:
        if (text := self._texts.get(name)) is not None:
            self._texts.move_to_end(name)
        return text

    def keep(self, name: str, text: bytes) -> None:
        self._bytes += len(text) - len(self._texts.pop(name, b""))
        self._texts[name] = text
        while self._bytes > KEPT and len(self._texts) > 1:
            self._bytes -= len(self._texts.popitem(last=False)[1])
