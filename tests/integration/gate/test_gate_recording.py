# SPDX-License-Identifier: MIT
"""Recordings from another machine: by the gate, with its TLS and the session's token."""

from __future__ import annotations

import asyncio
from pathlib import Path

from certificates import Authority
from shared_host import own_address
from test_gate import house

from operatord_client import AsyncClient, Client, Tls
from operatord_protocol.stream import End, StreamParser

COUNT = 10


async def test_stream_is_recorded_by_the_gate_with_tls(tmp_path: Path) -> None:
    host, authority = own_address(), Authority(tmp_path)
    cert, key = authority.sign("gate", host=f"IP:{host}")
    tls = {"cert": str(cert), "key": str(key)}
    async with house(tmp_path, host, tls=tls, engine="process") as daemon:
        port = daemon.lab.daemon.server._listeners[1].address[1]
        address, token = Tls(host, port, ca=str(authority.certificate)), daemon.tokens["ada"]
        async with (
            AsyncClient(address, token=token) as client,
            await client.start(count=COUNT, plain_stream=True) as session,
        ):
            assert session.location is not None
            assert session.location.tls is True
            assert session.location.token
            recorded = await session.record(tmp_path / "async.stream")
        assert (recorded.frames, recorded.ended) == (COUNT, True)

        def block() -> None:
            with (
                Client(address, token=token) as client,
                client.start(count=COUNT, plain_stream=True) as session,
            ):
                session.record(tmp_path / "sync.stream")

        await asyncio.to_thread(block)
    for name in ("async", "sync"):
        *_, end = StreamParser().feed((tmp_path / f"{name}.stream").read_bytes())
        assert end == End(frames=COUNT)
