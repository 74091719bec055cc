# SPDX-License-Identifier: MIT
"""What only the gateway asks, on a connection of its client's and with its client's rights.

The gateway reads streams for its clients where the stages are published on this machine, whatever way to its
stream a session's requester was told. It is no method of the protocol: nobody else needs it or is answered.
"""

from __future__ import annotations

from operatord.access.identity import RANKS, refusal
from operatord.session.record import SessionRecord
from operatord_protocol import messages as m
from operatord_protocol.checking import convert_params
from operatord_protocol.errors import Conflict, Forbidden
from operatord_protocol.hosts import location_url

from .peer import Call

METHOD = "gateway.location"


def location(call: Call) -> m.Location:
    """Return where the stream of a session is on this machine, for its owner and for operators.

    Raises `Unauthorized`, `Forbidden`, `NotFound`, and `Conflict` for a session without a stream.
    """
    who = call.peer.identity
    if who.rank < RANKS["viewer"]:
        raise refusal(who, "session.get")
    params = convert_params(call.request.params, m.SessionParams)
    record = call.services.supervisor.registry.get(params.session_id)
    if not who.sees(record.owner):
        raise Forbidden(
            f"session {record.id} belongs to {record.owner}: its owner and operators may see its stream"
        )
    return _inner(record)


def _inner(record: SessionRecord) -> m.Location:
    told = record.location
    if told is None or record.phase != "running":
        raise Conflict(f"session {record.id} is {record.phase}, and has no stream")
    for door in record.provisioned.doors.values():
        if door.port == told.port:
            host, port = door.target
            url = location_url(host, port, told.format)
            return m.Location(host=host, port=port, url=url, format=told.format)
    return told
