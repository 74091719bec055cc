# SPDX-License-Identifier: MIT
"""A session as it is written into the journal, and made anew from it.

Everything that is needed to go on with a session after the daemon has died is here, and everything that
its post-mortem says. What belongs to one life of the daemon only, such as who waits for it, is not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from operatord.core.endings import Meddling
from operatord.core.pipelines import Stage
from operatord.core.plans import SessionPlan
from operatord.core.resources import Vector, minus
from operatord.core.scheduling.learning import StageUse
from operatord.core.units import custom, plain
from operatord.engines.base import LogLine, Network, StageState
from operatord.gate.door import Door, Reach, without_token
from operatord.machine.clock import Clock
from operatord.machine.processes import ProcessId
from operatord.store.schema import SessionRow
from operatord.streams.relay import Relay
from operatord.streams.reports import checked
from operatord_protocol.absent import given
from operatord_protocol.messages import Location, Outcome, Phase, SessionStartParams

from .moments import Written, guessed
from .record import Ending, Observed, Provisioned, SessionRecord

UNKNOWN = "unknown"
"""The pipeline, and the one stage, of a session of which only its row's columns can be read."""
LOST = "its entry in the daemon's journal cannot be read, so it cannot be continued"


class Unreadable(Exception):
    """What is written of a session cannot be read. The text is for people."""


class SavedResult(msgspec.Struct, frozen=True):
    """How it ends, or ended."""

    outcome: Outcome
    cause: str
    reason: str
    stage: str | None = None
    grace: float | None = None


class SavedHolding(msgspec.Struct, frozen=True):
    """What admission has debited for it."""

    need: Vector
    extra: Vector | None = None
    gpus: tuple[str, ...] = ()


class SavedParams(SessionStartParams, frozen=True):
    """As they were written: earlier versions took texts that are refused now."""

    request_key: str | UnsetType = UNSET
    owner: str | UnsetType = UNSET
    env: dict[str, dict[str, str | int | float | bool]] = msgspec.field(default_factory=dict)

    @property
    def asked(self) -> SessionStartParams:
        """What a request has asked for."""
        names = SessionStartParams.__struct_fields__
        return SessionStartParams(**{name: getattr(self, name) for name in names})


class Snapshot(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All of a session, as plain data."""

    plan: SessionPlan
    params: SavedParams
    phases: dict[Phase, float]
    expires: float | None = None
    """Its end by the time of day, for people who read the journal, and for rows without ``written``."""
    written: Written | None = None
    ttl: float | None = None
    unread_limit: float | None = None
    missing: tuple[str, ...] = ()
    attached: tuple[str, ...] = ()
    expected_seconds: float | None = None
    fps: float = 0.0
    timings: dict[str, float] = {}
    subnet: str | None = None
    network: Network | None = None
    relay: ProcessId | None = None
    reach: Reach | None = None
    doors: dict[str, Door] = {}
    addresses: dict[str, tuple[str, int]] = {}
    containers: dict[str, str] = {}
    image_ids: dict[str, str] = {}
    gpus: dict[str, tuple[str, ...]] = {}
    location: Location | None = None
    plain_location: Location | None = None
    warm: bool = False
    runs: dict[str, float] = {}
    by_others: dict[str, Meddling] = {}
    exits: dict[str, StageState] = {}
    oom: set[str] = set()
    reports: dict[str, dict[str, Any]] = {}
    """As they were written: earlier versions kept whatever a stage had said."""
    log_tails: dict[str, list[LogLine]] = {}
    usage: dict[str, StageUse] = {}
    result: SavedResult | None = None
    holding: SavedHolding | None = None


_HIDDEN = ("location", "plain_location", "plan")
"""Written without the tokens that they have, which `gate.keys` works out again, and once the session has
ended without where its source was, which nobody needs any more."""
_OTHER = ("written", "relay", "reports", "result", "holding")
_SAME = tuple(name for name in Snapshot.__struct_fields__ if name not in _OTHER)
"""Members that a record and its snapshot both have."""
_PROVISIONED = frozenset(each.name for each in fields(Provisioned))
_OBSERVED = frozenset(each.name for each in fields(Observed))
_encode = msgspec.json.Encoder(enc_hook=plain).encode
decode = msgspec.json.Decoder(Snapshot, dec_hook=custom).decode


class _Brief(Snapshot, kw_only=True, omit_defaults=True):
    log_tails: msgspec.Raw = msgspec.Raw(b"{}")  # type: ignore[assignment]  # passed over, unread


_read_briefly = msgspec.json.Decoder(_Brief, dec_hook=custom).decode


def _decode_briefly(data: bytes) -> Snapshot:
    snapshot = _read_briefly(data)
    snapshot.log_tails = {}  # type: ignore[assignment]
    return snapshot


def to_row(record: SessionRecord, holding: SavedHolding | None, clock: Clock) -> SessionRow:
    """Return what the journal is to remember of ``record``."""
    result = record.result
    snapshot = Snapshot(
        **{name: getattr(_part(record, name), name) for name in _SAME if name not in _HIDDEN},
        plan=record.plan.without_credentials() if record.phase == "ended" else record.plan,
        location=without_token(record.location),
        plain_location=without_token(record.plain_location),
        written=None if record.phase == "ended" else Written.of(record, clock),
        relay=None if record.provisioned.relay is None else record.provisioned.relay.process,
        reports={
            stage: msgspec.to_builtins(said) for stage, said in record.observed.reports.items()
        },
        result=None if result is None else _result(result),
        holding=holding,
    )
    return SessionRow(
        record.id,
        record.phase,
        record.owner,
        given(record.params.request_key),
        record.created,
        record.ended,
        _encode(snapshot),
    )


def _part(record: SessionRecord, name: str) -> SessionRecord | Provisioned | Observed:
    """Return which part of a session has a member of that name."""
    if name in _PROVISIONED:
        return record.provisioned
    return record.observed if name in _OBSERVED else record


def from_row(row: SessionRow, *, logs: bool = True) -> tuple[SessionRecord, SavedHolding | None]:
    """Return the session that a row speaks of, and what it held. Raises `Unreadable`.

    Without ``logs`` its log lines are left out, which are most of it.
    """
    try:
        return _from_row(row, decode if logs else _decode_briefly)
    except (msgspec.MsgspecError, ValueError, LookupError, TypeError) as exc:
        text = f"session {row.id} cannot be read from the journal: {exc}"
        raise Unreadable(text) from exc


def _from_row(
    row: SessionRow, read: Callable[[bytes], Snapshot]
) -> tuple[SessionRecord, SavedHolding | None]:
    snapshot = read(row.data)
    record = SessionRecord(row.id, snapshot.plan, snapshot.params, row.owner, snapshot.phases)
    for name in _SAME:
        setattr(_part(record, name), name, getattr(snapshot, name))
    record.params = snapshot.params.asked
    record.phase = msgspec.convert(row.phase, Phase)
    record.restored = True
    lease_end = None if snapshot.ttl is None else snapshot.expires
    record.written = snapshot.written or guessed(snapshot.phases, lease_end)
    record.observed.reports = {stage: checked(said) for stage, said in snapshot.reports.items()}
    if snapshot.relay is not None:
        # It passes everything on already: where to, it knows itself.
        record.provisioned.relay = Relay("", 0, snapshot.relay)
    if snapshot.result is not None:
        record.result = Ending(**msgspec.structs.asdict(snapshot.result))
    if "queued" not in snapshot.phases or (row.phase == "stopping" and record.result is None):
        raise ValueError("it does not say how it came to its phase")
    if snapshot.subnet is not None:
        ipaddress.ip_network(snapshot.subnet)
    return record, _held(snapshot)


def stand_in(row: SessionRow, wall: float) -> SessionRecord:
    """Return a session that has failed and is being removed, for a row of which only the columns are known.

    Its location, its bounds and its resources are unknown. A stream that nobody can find, extend or count
    must not run for ever, so it is ended, and its owner is told. Its request's key is given up: the same
    request may be made again. ``wall`` is the time now.
    """
    stage = Stage(image=UNKNOWN, port=1)
    plan = SessionPlan(UNKNOWN, "shared", {UNKNOWN: stage}, {UNKNOWN: {}}, "json")
    phases: dict[Phase, float] = {"queued": row.created, "stopping": wall}
    record = SessionRecord(row.id, plan, SessionStartParams(), row.owner, phases)
    record.phase, record.restored = "stopping", True
    record.result = Ending("failed", "internal", LOST)
    return record


def _held(snapshot: Snapshot) -> SavedHolding | None:
    """Return what it holds without its missing stages: their start ended with the daemon."""
    holding = snapshot.holding
    if holding is None or holding.extra is None or not snapshot.missing:
        return holding
    return SavedHolding(minus(holding.need, holding.extra))


def _result(ending: Ending) -> SavedResult:
    return SavedResult(ending.outcome, ending.cause, ending.reason, ending.stage, ending.grace)
