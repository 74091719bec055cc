# SPDX-License-Identifier: MIT
"""What an earlier version has written down is read, also where a request that says so is refused now."""

from __future__ import annotations

import msgspec

from operatord.machine.clock import Clock
from operatord.session.snapshot import from_row, stand_in, to_row
from operatord.store.schema import SessionRow
from operatord.streams.probes import StoredProbe
from operatord_protocol.messages import SessionStartParams


async def test_a_session_with_control_characters_goes_on() -> None:
    params = SessionStartParams(
        owner="ada\0", request_key="a\nb", env={"probe": {"a": "\x9b", "b": 1, "c": 0.5, "d": True}}
    )
    row = SessionRow("EE705B6538693C50", "running", "ada\0", "a\nb", 1.0, None, b"")
    record = stand_in(row, 2.0)
    record.params, record.result = params, None
    record.phases = {"queued": 1.0, "starting": 1.0, "running": 1.0}
    record.phase = "running"
    again, _ = from_row(to_row(record, None, Clock()))
    assert (again.phase, again.owner, again.params) == ("running", "ada\0", params)


def test_a_probe_with_control_characters_stays() -> None:
    stored = StoredProbe(name="us-1", host="127.0.0.1", port=1, labels={"room": "\x1b[2J"})
    assert msgspec.json.decode(msgspec.json.encode(stored), type=StoredProbe) == stored
