# SPDX-License-Identifier: MIT
"""The ring of events: what a reader gets equals what happened, or it is told what is missing."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from operatord.machine.clock import Clock
from operatord.store import events
from operatord.store.events import EventLog, Subscription

SIZE = 8


class Reader(Subscription):
    """A peer with room for some notifications at a time, which reads as soon as it is told."""

    def __init__(self, log: EventLog, since: int | None = None, **wanted: Any) -> None:
        self.room = 0
        self.got: list[dict[str, Any]] = []
        super().__init__(log, since, **wanted)

    def due(self) -> None:
        self.pump()

    def send(self, params: dict[str, Any]) -> bool:
        if self.room == 0:
            return False
        self.room -= 1
        self.got.append(params)
        return True


@given(
    st.lists(st.tuples(st.sampled_from(["emit", "read"]), st.integers(1, 12)), max_size=30),
    st.integers(0, 40) | st.none(),
)
def test_every_event_is_delivered_once_in_order_or_told_as_lost(
    steps: list[tuple[str, int]], since: int | None
) -> None:
    log = EventLog(Clock(), size=SIZE)
    for _ in range(20):
        log.emit("probe.up")
    first = 0 if since is not None and since > log.seq else since if since is not None else log.seq
    reader = Reader(log, since)
    for step, number in steps:
        if step == "emit":
            for _ in range(number):
                log.emit("probe.up")
        else:
            reader.room = number
            reader.pump()
    reader.room = 1000
    reader.pump()
    if since is not None and since > 20:
        assert reader.got.pop(0)["type"] == "events.lost"
    last = first
    for event in reader.got:
        if event["type"] == "events.lost":
            assert event["from"] == last + 1
            assert event["to"] >= event["from"]
            last = event["to"]
        else:
            assert event["seq"] == last + 1
            last = event["seq"]
    assert last == log.seq


def test_reader_with_room_gets_events_as_they_happen() -> None:
    log = EventLog(Clock())
    reader = Reader(log, types=frozenset({"a"}), session_id="S")
    reader.room = 10
    log.emit("a", session_id="S", x=1)
    log.emit("a", session_id="T")
    log.emit("b", session_id="S")
    assert [(e["seq"], e["type"], e["session_id"], e["x"]) for e in reader.got] == [
        (1, "a", "S", 1)
    ]
    reader.end()
    reader.end()
    log.emit("a", session_id="S")
    assert len(reader.got) == 1


class Asleep(Subscription):
    """A peer that is told of events and has not come to read them yet."""

    def __init__(self, log: EventLog) -> None:
        self.told = 0
        super().__init__(log)

    def due(self) -> None:
        self.told += 1

    def send(self, params: dict[str, Any]) -> bool:
        return True


async def test_thousands_of_subscriptions_are_told_a_few_at_a_time_and_once_until_they_have_read() -> (
    None
):
    """A1: an event costs those that have nothing to do with it next to nothing, and many cost no more."""
    log = EventLog(Clock())
    peers = [Asleep(log) for _ in range(20 * events.TOLD_AT_ONCE)]
    log.emit("a")
    told = sum(peer.told for peer in peers)
    while told < len(peers):
        before = told
        log.emit("a")
        assert sum(peer.told for peer in peers) == before
        await asyncio.sleep(0)
        told = sum(peer.told for peer in peers)
        assert 0 < told - before <= events.TOLD_AT_ONCE
    peers[0].pump()
    log.emit("a")
    assert [peer.told for peer in peers[:2]] == [2, 1]
