# SPDX-License-Identifier: MIT
"""Who may look: the session's owner and operators, by a login's token, in whichever place it stands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import aiohttp
import pytest
from daemon_lab import Json
from guarded_lab import Guarded, guarded
from streams_lab import Site, a_site

from operatord.access import tokens
from operatord.gateway.streams import finding


class House(NamedTuple):
    """A daemon with logins, its gateway, a session of Ada's, and everybody's tokens."""

    door: Guarded
    site: Site
    path: str
    tokens: dict[str, str]


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with guarded(tmp_path) as door, a_site(door.lab.address) as site:
        who: dict[str, Json] = {
            "ada": "user",
            "grace": "user",
            "olga": "operator",
            "vera": "viewer",
        }
        tokens = {user: door.token(user, role)[1] for user, role in who.items()}
        ada = await door.wire("ada", "user")
        session = await ada.call("session.start", plain_stream=True)
        yield House(door, site, f"/sessions/{session['session_id']}", tokens)


@pytest.mark.parametrize("user", ["ada", "olga"])
async def test_its_owner_and_operators_look(house: House, user: str) -> None:
    session_id = house.path.rpartition("/")[2]
    async with house.site.viewer(session_id, token=house.tokens[user]) as viewer:
        assert (await viewer.hello())["stream"] == "fake"
    bearer = {"Authorization": f"Bearer {house.tokens[user]}"}
    for path, more in (
        ("/stream.y4m", {"headers": bearer}),
        (f"/stream.y4m?token={house.tokens[user]}", {}),
        ("/snapshot.png", {"headers": bearer}),
    ):
        status, _, _ = await house.site.get(house.path + path, "HEAD", **more)
        assert status == 200


@pytest.mark.parametrize("user", ["grace", "vera"])
async def test_nobody_else_does(house: House, user: str) -> None:
    session_id = house.path.rpartition("/")[2]
    async with house.site.viewer(session_id, token=house.tokens[user]) as viewer:
        assert await viewer.close_code() == 4403
    assert "its owner and operators" in viewer.notes[0]["error"]["message"]
    for kind in ("stream.y4m", "snapshot.png"):
        status, error = await house.site.refused(f"{house.path}/{kind}?token={house.tokens[user]}")
        assert (status, error["data"]["type"]) == (403, "forbidden")


@pytest.mark.parametrize("said", [{}, {"token": "wrong"}])
async def test_who_has_no_token_learns_nothing(house: House, said: Json) -> None:
    told = set()
    known, query = house.path.rpartition("/")[2], "?token=wrong" if said else ""
    # Four wrong tokens: who has sent five has to wait.
    for session_id, kind in ((known, "stream.y4m"), ("0000000000000000", "snapshot.png")):
        async with house.site.viewer(session_id, **said) as viewer:
            assert await viewer.close_code() == 4401
        told.add(viewer.notes[0]["error"]["message"])
        status, error = await house.site.refused(f"/sessions/{session_id}/{kind}{query}")
        assert status == 401
        told.add(error["message"])
    assert len(told) == 1


async def test_who_may_not_look_any_more_is_let_go(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = asyncio.Event()

    async def pause(_: float) -> None:
        await again.wait()

    monkeypatch.setattr(finding, "asyncio", SimpleNamespace(sleep=pause))
    session_id, token = house.path.rpartition("/")[2], house.tokens["ada"]
    async with house.site.viewer(session_id, token=token) as viewer:
        await viewer.hello()
        path = f"{house.site.url}{house.path}/stream.y4m?token={token}"
        async with house.site.http.get(path) as player:
            assert await player.content.readline()
            logins = house.door.lab.daemon.logins
            logins.known = logins.known._replace(tokens=tokens.Tokens())
            again.set()
            assert await viewer.close_code() == 4401
            with pytest.raises((aiohttp.ClientPayloadError, ConnectionResetError)):
                await player.read()


async def test_tokens_are_not_logged(house: House, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    token = house.tokens["ada"]
    await house.site.get(f"{house.path}/snapshot.png?token={token}&mask=7")
    await house.site.get(f"{house.path}/stream.y4m?token={token}", "HEAD")
    assert token not in caplog.text
