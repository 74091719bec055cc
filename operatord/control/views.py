# SPDX-License-Identifier: MIT
"""Sessions in JSON, encoded once and reused until they change. They are requested often, above all in lists,
and ended sessions never change.
"""

from __future__ import annotations

from collections import OrderedDict
from weakref import WeakKeyDictionary

from msgspec import UNSET, structs

from operatord.access.identity import Identity
from operatord.core.pipelines import PROBE
from operatord.lifecycle.supervisor import Supervisor
from operatord.session.postmortem import post_mortem
from operatord.session.record import SessionRecord
from operatord.session.registry import KnownSession
from operatord.session.view import images_of, shown_by, to_session
from operatord_protocol.codec import encode
from operatord_protocol.messages import PostMortem, Session, Stats, session_to_wire

KEPT = 4 * 1024**2
"""Bytes that are kept of ended sessions: so much for single ones as operators see them, as owners do and as
others do, and so much for members of lists."""

ADAPTER_HIDDEN = "only operators are shown what the adapter says"
"""What others read in place of its log lines."""

TRAFFIC = ("rx_bytes", "tx_bytes")
"""The members of statistics that others are not shown before an adapter has been proven to deliver."""

_Living = WeakKeyDictionary[SessionRecord, tuple[object, bytes]]
"""Sessions that run, with what they were encoded for."""


def encode_session(session: Session) -> bytes:
    """Return a session as the wire has it: its stages are members of its own."""
    return encode(session_to_wire(session))


def without_whereabouts(session: Session) -> Session:
    """Return what users other than its owner and operators may see of a session."""
    return structs.replace(session, location=UNSET, plain_location=UNSET, post_mortem=UNSET)


def hides_adapter(record: SessionRecord, who: Identity) -> bool:
    """Tell whether the log of a session's adapter is kept from somebody: it says what listens where.

    Where nobody logs in, everybody is an operator.
    """
    return record.plan.source is not None and not who.is_operator


def quiet(told: Stats) -> Stats:
    """Return what stages use without their traffic, which tells of an adapter whether anybody answers it.

    Stages may share a network namespace, and then each is said to have all of its traffic.
    """
    stages = {
        stage: {name: value for name, value in used.items() if name not in TRAFFIC}
        for stage, used in told.stages.items()
    }
    return structs.replace(told, stages=stages)


def _post_mortem(record: SessionRecord, who: Identity) -> PostMortem:
    told = post_mortem(record)
    if PROBE in told.log and hides_adapter(record, who):
        return structs.replace(told, log=told.log | {PROBE: [ADAPTER_HIDDEN]})
    return told


def _with_images(text: bytes, record: SessionRecord) -> bytes:
    """Return the text of a session, as it is in lists, with what its stages are made of."""
    images = images_of(record)
    return text if images is UNSET else b'%b,"images":%b}' % (text[:-1], encode(images))


class Views:
    """Views of each session: everything for operators, all but its adapter's log for its owner, and less for
    others."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Nothing is encoded yet."""
        self._supervisor = supervisor
        self._clock = supervisor.transitions.clock
        self._living = _Living()
        self._living_less = _Living()
        self._listed = _Kept()
        self._whole = _Kept()
        """As operators see them …"""
        self._owners = _Kept()
        """… and as owners do who are no operators: without what an adapter says."""
        self._less = _Kept()
        """Of those that have ended, as members of a list and by themselves alike."""

    def of(self, session_id: str, who: Identity) -> bytes:
        """Return a session, with all that is known of its end if it has ended. Raises `NotFound`."""
        registry = self._supervisor.registry
        if (record := registry.records.get(session_id)) is not None:
            text = self.living(record, who)
            return _with_images(text, record) if who.sees(record.owner) else text
        if (owner := registry.owner_of(session_id)) is None:  # or not any more
            return self._in_full(registry.get(session_id), who)
        kept = self._kept_for(who, owner)
        known = kept.get(session_id)
        if not known:
            known = self._in_full(registry.get(session_id), who)
            kept.keep(session_id, known)
        return known

    def whole(self, record: SessionRecord, who: Identity) -> Session:
        """Return a session with its images and, if it has ended, all that is known of its end."""
        session = self._supervisor.view(record)
        if not who.sees(record.owner):
            return without_whereabouts(session)
        told = _post_mortem(record, who) if record.phase == "ended" else UNSET
        return structs.replace(session, images=images_of(record), post_mortem=told)

    def _kept_for(self, who: Identity, owner: str) -> _Kept:
        if who.is_operator:
            return self._whole
        return self._owners if who.sees(owner) else self._less

    def _in_full(self, record: SessionRecord, who: Identity) -> bytes:
        return encode_session(self.whole(record, who))

    def living(self, record: SessionRecord, who: Identity) -> bytes:
        """Return a session that has not ended."""
        sees = who.sees(record.owner)
        if record.phase != "running":  # something is new each time
            session = self._supervisor.view(record)
            return encode_session(session if sees else without_whereabouts(session))
        shown = self._living if sees else self._living_less
        key = shown_by(record, self._clock)
        known = shown.get(record)
        if known is None or known[0] != key:
            session = to_session(record, self._clock)
            known = key, encode_session(session if sees else without_whereabouts(session))
            shown[record] = known
        return known[1]

    def listed(self, found: KnownSession, who: Identity) -> bytes:
        """Return a session as a member of a list; nothing if what is written of it cannot be read."""
        if isinstance(found, SessionRecord):
            return self.living(found, who)
        sees = who.sees(found.owner)
        kept = self._listed if sees else self._less
        known = kept.get(found.id)
        if known is None:
            record = self._supervisor.registry.recall(found)
            known = b"" if record is None else self._recalled(record, sees)
            kept.keep(found.id, known)
        return known

    def _recalled(self, record: SessionRecord, sees: bool) -> bytes:
        session = to_session(record, self._clock)
        return encode_session(session if sees else without_whereabouts(session))


class _Kept:
    """Texts by name; the least recently used go first when there are too many bytes."""

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
