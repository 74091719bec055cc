# SPDX-License-Identifier: MIT
"""Streams by the gate over IPv6, with TLS over a restart, and of a segmentation that is attached later."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from pathlib import Path

import psutil
import pytest
from certificates import Authority
from daemon_lab import PATIENCE, Json, Wire, in_process, until
from gate_lab import gates_of
from test_gate import House, hello_at, house, opens
from test_gate_lost import Lasting

TIGHT: Json = {
    "engine": "process",
    "stall_timeout": None,
    "system_reserved": {"cpus": round((os.cpu_count() or 1) - 0.3, 3)},
    "pipelines": {"segmented": {"stages": {"segmentation": {"cpus": 0.2}}}},
}
"""Room for one whole session and a plain stream."""
PACED: Json = {"probe": {"fps": 10, "width": 32, "height": 32}}


def own_ipv6() -> str:
    """Return an address of IPv6 at which others could reach this machine."""
    for each in (each for some in psutil.net_if_addrs().values() for each in some):
        if each.family == socket.AF_INET6:
            address = ipaddress.IPv6Address(each.address.partition("%")[0])
            if not address.is_loopback and not address.is_link_local:
                return str(address)
    pytest.skip("this machine has no address of IPv6 but its own and link-local ones")


@pytest.mark.parametrize("allow", ["token", "requester"])
async def test_over_ipv6(tmp_path: Path, allow: str) -> None:
    address = own_ipv6()
    async with house(tmp_path, host=f"[{address}]", streams={"allow": allow}) as daemon:
        wire = await daemon.wire()
        location = (await wire.call("session.start", plain_stream=True))["location"]
        assert location["host"] == address
        assert location["url"] == f"tcp://[{address}]:{location['port']}"
        assert (await hello_at(location, token=location.get("token")))["type"] == "hello"
        if allow == "token":
            assert "not the token" in (await hello_at(location, token="wrong"))["message"]


async def certificate_at(location: Json, context: ssl.SSLContext) -> str:
    """Return the number of the certificate that is shown at a location, which has to open."""
    reader, writer = await asyncio.open_connection(
        location["host"], location["port"], ssl=context, server_hostname=location["host"]
    )
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(f'{{"type":"open","token":"{location["token"]}"}}\n'.encode())
            assert b'"hello"' in await reader.readline()
        return str(writer.get_extra_info("peercert")["serialNumber"])
    finally:
        writer.close()


async def test_certificate_that_was_renewed_while_there_was_no_daemon_is_shown_by_the_gate_that_was_left(
    tmp_path: Path,
) -> None:
    found, engine, authority = House(tmp_path), Lasting(), Authority(tmp_path)
    cert, key = authority.sign("gate", host=f"IP:{found.host}")
    context = ssl.create_default_context(cafile=str(authority.certificate))
    tls = {"cert": str(cert), "key": str(key)}
    async with in_process(
        found.state, found.config(tls=tls, on_shutdown="keep"), engine=engine
    ) as found.lab:
        wire = await found.wire(ssl=context)
        session = await wire.call("session.start", plain_stream=True, lease="pinned")
        location = session["location"]
        assert location["tls"] is True
        first = await certificate_at(location, context)
        (left,) = gates_of(found.state)
    authority.sign("gate", host=f"IP:{found.host}")
    assert await certificate_at(location, context) == first
    async with in_process(found.state, found.config(tls=tls), engine=engine) as found.lab:

        async def renewed() -> bool:
            return await certificate_at(location, context) != first

        await until(renewed, "the new certificate is shown")
        assert gates_of(found.state) == [left]
    await engine.end()
    assert gates_of(found.state) == []


async def degraded(wire: Wire) -> Json:
    """Return a session that is served plain until another one ends."""
    await wire.call("events.subscribe", types=["session.attached"])
    other = await wire.call("session.start", env=PACED)
    plain: Json = await wire.call("session.start", count=10, env=PACED, on_shortage="degrade")
    assert plain["degraded"] is True
    await wire.call("session.stop", session_id=other["session_id"])
    return plain


async def test_segmentation_that_is_attached_has_a_door_of_its_own_and_the_same_token(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, **TIGHT) as daemon:
        wire = await daemon.wire()
        plain = await degraded(wire)
        told = await wire.event("session.attached", plain["session_id"])
        session = await wire.call("session.get", session_id=plain["session_id"])
        assert session["plain_location"] == plain["location"]
        assert session["location"]["port"] != plain["location"]["port"]
        assert session["location"]["token"] == plain["location"]["token"]
        assert "token" not in told["location"]
        for location in (session["location"], session["plain_location"]):
            assert "not the token" in (await hello_at(location, token="wrong"))["message"]
            assert await opens(location)
        assert (await hello_at(session["location"], token=session["location"]["token"]))[
            "stream"
        ] == "segmentation"
