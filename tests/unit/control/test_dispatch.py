# SPDX-License-Identifier: MIT
"""Requests carried out without any transport: what a door brings, and what it is given to send."""

from __future__ import annotations

import asyncio
import time
from itertools import count
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from operatord.access.audit import Audit
from operatord.access.identity import LOCAL, Identity
from operatord.access.logins import Credentials, Logins
from operatord.access.origin import Origin
from operatord.control.dispatch import Dispatcher
from operatord.control.verbs import NO_LOGINS
from operatord.machine.clock import Clock
from operatord.settings.config import Config
from operatord.store.events import EventLog
from operatord_protocol import codec
from operatord_protocol.codec import Dialect, Request, RequestId
from operatord_protocol.errors import WireError

Json = dict[str, Any]


class Room:
    """A door that opens into a list."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.takes_more = True
        self.woken = asyncio.Event()
        self.waiting: dict[RequestId, Request] = {}
        self.source = Origin("192.0.2.1", 5)

    def reply(self, request: Request, result: bytes) -> None:
        self.sent.append((request.id, msgspec.json.decode(result)))

    def refuse(self, request: Request, error: WireError) -> None:
        self.sent.append((request.id, error.type))

    def notify(self, dialect: Dialect, method: str, params: Json) -> bool:
        if self.takes_more:
            self.sent.append((dialect, method, params))
        return self.takes_more

    def let_in(self) -> None:
        self.sent.append("in")

    async def drained(self) -> None:
        await asyncio.get_running_loop().create_future()

    def begun(self) -> None:
        self.sent.append("begun")

    def wake(self) -> None:
        self.woken.set()

    def cancel_waiting(self, request_id: RequestId) -> Request | None:
        return self.waiting.pop(request_id, None)

    def take(self) -> list[Any]:
        sent, self.sent = self.sent, []
        return sent


class House:
    """A daemon of which `system.reload` takes until it is let go on, and `system.undrain` is broken."""

    def __init__(self, who: Identity = LOCAL) -> None:
        self.go_on = asyncio.Event()
        self.events = EventLog(Clock())
        self.door = Room()
        self.services: Any = SimpleNamespace(
            config=Config(),
            clock=Clock(),
            reload=self._reload,
            supervisor=SimpleNamespace(drain=None, registry=None),
            events=self.events,
            new_subscription=count(1).__next__,
            logins=Logins(Credentials(), Clock().now, Audit(Clock().now)),
            audit=Audit(Clock().now),
        )
        self.dispatcher = Dispatcher(self.services, self.door, who)

    async def _reload(self) -> Json:
        await self.go_on.wait()
        return {"reloaded": True}

    def ask(self, method: str, **members: Any) -> None:
        line = msgspec.json.encode({"jsonrpc": "2.0", "method": method, **members})
        request = codec.decode_line(line)
        assert isinstance(request, Request)
        self.dispatcher.carry_out(request)

    async def answered(self) -> list[Any]:
        while self.dispatcher.has_pending:
            self.door.woken.clear()
            await self.door.woken.wait()
        return self.door.take()


@pytest.fixture
async def house() -> House:
    return House()


async def test_quick_method_is_answered_at_once(house: House) -> None:
    house.ask("auth.login", id=1, params={"token": "t"})
    assert house.door.take() == [(1, {"user": "local", "role": "operator", "note": NO_LOGINS})]


async def test_notification_is_carried_out_and_not_answered(house: House) -> None:
    house.ask("auth.login", params={"token": "t"})
    house.ask("nothing.there")
    assert house.door.take() == []


@pytest.mark.parametrize(
    ("method", "members", "name"),
    [
        ("nothing.there", {}, "method_not_found"),
        ("session.get", {}, "invalid_params"),
        ("events.unsubscribe", {"params": {"subscription": 7}}, "not_found"),
        ("request.cancel", {"params": {"id": 7}}, "not_found"),
        ("system.undrain", {}, "internal_error"),
    ],
)
async def test_error_is_told_by_its_name(
    house: House, method: str, members: Json, name: str
) -> None:
    house.ask(method, id=1, **members)
    assert house.door.take() == [(1, name)]


async def test_slow_method_runs_as_a_task_and_wakes_the_door_when_it_is_done(house: House) -> None:
    house.ask("system.reload", id=1)
    assert house.door.take() == ["begun"]
    house.go_on.set()
    assert await house.answered() == [(1, {"reloaded": True})]


async def test_id_of_a_pending_request_is_not_taken_twice(house: House) -> None:
    house.ask("system.reload", id=1)
    house.ask("system.reload", id=1)
    assert house.door.take() == ["begun", (1, "invalid_request")]
    house.go_on.set()
    assert await house.answered() == [(1, {"reloaded": True})]


async def test_there_is_room_for_as_many_as_the_settings_say(house: House) -> None:
    for number in range(house.services.config.limits.in_flight):
        assert house.dispatcher.has_room
        house.ask("system.reload", id=number)
    assert not house.dispatcher.has_room
    house.ask("request.cancel", params={"id": 0})
    house.ask("request.cancel", params={"id": 1})
    house.go_on.set()
    await house.answered()
    assert house.dispatcher.has_room


async def test_pending_request_can_be_cancelled_before_its_first_step(house: House) -> None:
    house.ask("system.reload", id=1)
    house.ask("request.cancel", id=2, params={"id": 1})
    assert await house.answered() == ["begun", (2, {"cancelled": True}), (1, "cancelled")]


async def test_request_that_the_door_still_has_can_be_cancelled(house: House) -> None:
    request = codec.decode_line(b'{"jsonrpc":"2.0","id":"late","method":"system.reload"}')
    assert isinstance(request, Request)
    house.door.waiting["late"] = request
    house.ask("request.cancel", id=1, params={"id": "late"})
    assert house.door.take() == [("late", "cancelled"), (1, {"cancelled": True})]
    assert house.door.waiting == {}


async def test_subscription_sends_when_the_door_gives_it_time(house: House) -> None:
    house.ask("events.subscribe", id=1)
    house.events.emit("engine.lost", engine="docker")
    [(_, reply)] = house.door.take()
    pump(house.dispatcher)
    [(dialect, method, params)] = house.door.take()
    assert (dialect, method) == ("rpc", "event")
    assert (params["subscription"], params["type"]) == (reply["subscription"], "engine.lost")
    house.ask("events.unsubscribe", id=2, params={"subscription": reply["subscription"]})
    house.events.emit("engine.back", engine="docker")
    assert not house.dispatcher.has_kept
    assert not house.dispatcher.has_due


async def test_subscriptions_are_bounded(house: House) -> None:
    most = Config().limits.subscriptions
    for number in range(most + 1):
        house.ask("events.subscribe", id=number)
    assert house.door.take()[-1] == (most, "too_many_requests")


async def test_end_of_the_peer_ends_what_it_had_under_way(house: House) -> None:
    gone: list[str] = []
    house.ask("system.reload", id=1)
    house.ask("events.subscribe", id=2)
    undo = house.dispatcher.on_close(lambda: gone.append("undone"))
    house.dispatcher.on_close(lambda: gone.append("called"))
    undo()
    house.door.take()
    house.dispatcher.end()
    house.dispatcher.on_close(lambda: gone.append("at once"))
    assert gone == ["called", "at once"]
    while house.dispatcher.has_pending:
        await asyncio.sleep(0)
    house.events.emit("engine.lost", engine="docker")
    assert not house.dispatcher.has_due
    assert house.door.take() == []


async def test_who_waits_for_a_peer_that_goes_is_cancelled(house: House) -> None:
    """Nothing spins: a task that is told that nothing more can be sent waits for its end."""

    async def send() -> None:
        while not house.dispatcher.notify("rpc", "session.log", {}):
            await house.dispatcher.drained()

    house.door.takes_more = False
    task = house.dispatcher.own(send())
    late = asyncio.create_task(send())
    await asyncio.sleep(0)
    house.dispatcher.end()
    await asyncio.wait([task])
    assert task.cancelled()
    late.cancel()
    await asyncio.wait([late])


def pump(dispatcher: Dispatcher) -> None:
    while dispatcher.has_due:
        _, feed = dispatcher.next_due()
        feed.pump(time.perf_counter() + 60)
