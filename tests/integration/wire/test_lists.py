# SPDX-License-Identifier: MIT
"""Lists come in pieces: nothing is left out, nothing comes twice, whatever happens between two pieces."""

from __future__ import annotations

from typing import Any

import pytest
from daemon_lab import Lab, Wire


async def ended(wire: Wire, number: int, **params: Any) -> list[str]:
    """Have so many sessions that have ended, and return their ids, newest first."""
    ids = []
    for _ in range(number):
        session = await wire.call("session.start", **params)
        await wire.call("session.stop", session_id=session["session_id"])
        ids.insert(0, session["session_id"])
    return ids


async def pieces(wire: Wire, **params: Any) -> list[list[str]]:
    found, more = [], params
    while True:
        result = await wire.call("session.list", **more)
        found.append([session["session_id"] for session in result["sessions"]])
        if "next" not in result:
            return found
        more = {**params, "cursor": result["next"]}


def joined(found: list[list[str]]) -> list[str]:
    return [each for piece in found for each in piece]


@pytest.mark.parametrize("limit", [1, 3, 4, 7, 8, 100])
async def test_list_comes_in_pieces_and_nothing_is_left_out_or_told_twice(
    wire: Wire, limit: int
) -> None:
    """A1: a list is given in pieces of a bounded size, over living and ended sessions alike."""
    ids = await ended(wire, 4)
    for _ in range(3):
        ids.insert(0, (await wire.call("session.start"))["session_id"])
    found = await pieces(wire, limit=limit)
    assert joined(found) == ids
    assert all(len(piece) == limit for piece in found[:-1])
    assert found[-1], "no cursor leads to nothing"


async def test_what_comes_and_goes_between_two_pieces_shifts_nothing(wire: Wire) -> None:
    ids = await ended(wire, 6)
    first = await wire.call("session.list", limit=2)
    await ended(wire, 3)
    rest = await wire.call("session.list", limit=100, cursor=first["next"])
    assert [session["session_id"] for session in rest["sessions"]] == ids[2:]


async def test_pieces_keep_to_phase_and_owner(wire: Wire) -> None:
    anna = await ended(wire, 3, owner="anna")
    await ended(wire, 3, owner="ben")
    living = (await wire.call("session.start", owner="anna"))["session_id"]
    assert joined(await pieces(wire, owner="anna", limit=2)) == [living, *anna]
    assert joined(await pieces(wire, owner="anna", phase="ended", limit=2)) == anna
    assert joined(await pieces(wire, phase="running", limit=1)) == [living]


async def test_without_a_limit_a_hundred_come(lab: Lab, wire: Wire) -> None:
    await ended(wire, 102)
    assert [len(piece) for piece in await pieces(wire)] == [100, 2]


@pytest.mark.parametrize("cursor", ["x", "!", "WzEsMl0", "bm90aGluZw", "é", "WzEsICJBIl0=" * 9])
async def test_cursor_that_no_list_has_given_is_refused(wire: Wire, cursor: str) -> None:
    for method in ("session.list", "probe.list"):
        refused = await wire.refusal(method, cursor=cursor)
        assert (refused.type, refused.data["path"]) == ("invalid_params", "params.cursor")


async def test_session_is_told_as_it_is_now_though_it_was_told_before(wire: Wire) -> None:
    session = await wire.call("session.start", lease={"ttl": 600})
    before = await wire.call("session.get", session_id=session["session_id"])
    after = await wire.call("session.extend", session_id=session["session_id"], ttl=9000)
    found = await wire.call("session.get", session_id=session["session_id"])
    assert found == after != before
    stopped = await wire.call("session.stop", session_id=session["session_id"])
    assert await wire.call("session.get", session_id=session["session_id"]) == stopped
    [listed] = (await wire.call("session.list"))["sessions"]
    assert listed == {
        key: value for key, value in stopped.items() if key not in ("post_mortem", "images")
    }
