# SPDX-License-Identifier: MIT
"""What schemathesis sends by the description of what may be asked over HTTP, and what that does not allow.

`test_gateway_openapi` runs this file, in a process of pytest of its own. Each process that collects it makes
all its cases, and loads schemathesis: two seconds of work for each of the processes that tests run in.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest
import schemathesis
from gateway_lab import gatewayed
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import positive_data_acceptance

from operatord.gateway.openapi import description

EXAMPLES = 5
"""Requests of each kind for each method; schemathesis adds those at the bounds."""
LIMITS = {
    "limits": {"sessions": 4000, "queue": 0, "subscriptions": 1},
    "subnets": "198.18.0.0/15",
    "history": {"keep": 10},
}
EXCLUDED = [
    not_a_server_error,  # 503 and 504 are answers, such as that there is no room
    positive_data_acceptance,  # which settings a pipeline allows is in no schema
]
NEVER = ("system.drain", "probe.register")
"""Nothing starts any more after the first; the second connects where it is told to, and waits for that."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon with a gateway, in an event loop of its own: these tests are none of asyncio's."""
    begun: Future[str] = Future()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    async def run() -> None:
        async with gatewayed(tmp_path_factory.mktemp("openapi") / "state", LIMITS) as daemon:
            assert (await daemon.http.get("/healthz")).status == 200  # its process is there
            host, port = daemon.http.address
            begun.set_result(f"http://{host}:{port}")
            await end.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    yield begun.result(60)
    loop.call_soon_threadsafe(end.set)
    thread.join()
    loop.close()


schema = schemathesis.openapi.from_dict(description()).exclude(
    path=[f"/api/v1/{each}" for each in NEVER]
)


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
def test_what_is_described_is_what_happens(case: schemathesis.Case, url: str) -> None:
    case.call_and_validate(base_url=url, timeout=30, excluded_checks=EXCLUDED)
