# SPDX-License-Identifier: MIT
"""What the Docker engine makes of an engine that is absent, hung, broken or ends its streams.

No Docker is needed: the other side is a few lines that speak just enough HTTP on a Unix socket.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest
from daemon_lab import PATIENCE

from operatord.engines.base import (
    LABEL_INSTANCE,
    LABEL_PLAN,
    LABEL_SESSION,
    DiskFull,
    EngineError,
    EngineFailed,
    EngineSilent,
    EngineUnavailable,
    ImageMissing,
    Network,
    NotOurAddress,
    NotThere,
    OutOfMemory,
    PortTaken,
    StagePlan,
    StageRefused,
    SubnetTaken,
)
from operatord.engines.docker import calls as docker_calls
from operatord.engines.docker.bodies import Json
from operatord.engines.docker.client import APIClient
from operatord.engines.docker.engine import DockerEngine
from operatord.engines.docker.errors import refusal
from operatord.engines.docker_host.versions import NEWEST

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]

LIMIT = 3.0
"""Seconds for a call where one is to take too long; those that are answered take a few thousandths."""

VERSION = {
    "Version": "20.10.24",
    "ApiVersion": "1.41",
    "MinAPIVersion": "1.12",
    "Components": [{"Name": "Engine", "Version": "20.10.24"}, {"Name": "runc", "Version": "1.1.5"}],
}
FACTS = {
    "NCPU": 2,
    "MemTotal": 1 << 30,
    "DockerRootDir": "/var/lib/docker",
    "CgroupVersion": "2",
    "DefaultRuntime": "runc",
}
LABELS = {"operatord.instance": "edge", "operatord.stage": "s"}
EVENT = {
    "Type": "container",
    "Action": "die",
    "Actor": {"ID": "abc", "Attributes": {**LABELS, "image": "i"}},
}


@asynccontextmanager
async def engine_that(
    answer: Answer, folder: Path, limit: float = 30.0
) -> AsyncIterator[DockerEngine]:
    """A server whose every request is answered by ``answer(path, writer)``, and an engine on it.

    The engine gives up a call after ``limit`` seconds.
    """

    connections: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[asyncio.current_task()] = writer
        while request := await reader.readline():
            length = 0
            while header := (await reader.readline()).strip():
                if header.lower().startswith(b"content-length:"):
                    length = int(header.partition(b":")[2])
            await reader.readexactly(length)
            await answer(request.split()[1].decode(), writer)

    socket = folder / "engine.sock"
    server = await asyncio.start_unix_server(serve, socket)
    engine = DockerEngine(f"unix://{socket}", "edge", call_timeout=limit, queue_timeout=limit)
    try:
        yield engine
    finally:
        await engine.close()
        server.close()
        for writer in connections.values():
            writer.close()
        await asyncio.gather(*(task for task in connections if task), return_exceptions=True)


def send(writer: asyncio.StreamWriter, body: object) -> None:
    data = json.dumps(body).encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(data), data))


def refuse(writer: asyncio.StreamWriter, status: int, sentence: str) -> None:
    data = json.dumps({"message": sentence}).encode()
    head = b"HTTP/1.1 %d No\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (status, len(data)) + data)


def begin_stream(writer: asyncio.StreamWriter, chunk: bytes) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    writer.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))


async def healthy(path: str, writer: asyncio.StreamWriter) -> None:
    """Answer what `connect` asks."""
    send(writer, VERSION if path.endswith("/version") else FACTS)


async def silent(path: str, writer: asyncio.StreamWriter) -> None:
    """Accept, and never answer: what a stopped dockerd does."""


async def test_many_starts_at_once_ask_once_for_an_image(tmp_path: Path) -> None:
    asked: list[str] = []

    async def counting(path: str, writer: asyncio.StreamWriter) -> None:
        if "/images/" in path:
            asked.append(path)
            send(writer, {"Id": "sha256:0", "Config": {"Cmd": ["p"]}})
        else:
            await healthy(path, writer)

    async with engine_that(counting, tmp_path) as engine:
        await engine.connect()
        looks = [engine.image_ids(["a:1", "b:1"]) for _ in range(30)]
        assert await asyncio.gather(*looks) == [{"a:1": "sha256:0", "b:1": "sha256:0"}] * 30
    assert len(asked) == 2


async def test_many_starts_at_once_share_an_answer_that_is_not_older_than_they_are(
    tmp_path: Path,
) -> None:
    """The name may have come to stand for another image after the first of them was answered."""
    asked: list[str] = []

    async def counting(path: str, writer: asyncio.StreamWriter) -> None:
        if "/images/" in path:
            asked.append(path)
            send(writer, {"Id": f"sha256:{len(asked)}", "Config": {"Cmd": ["p"]}})
        else:
            await healthy(path, writer)

    async with engine_that(counting, tmp_path) as engine:
        await engine.connect()
        first = asyncio.create_task(engine.image_ids(["a:1"]))
        while not asked:
            await asyncio.sleep(0)
        others = await asyncio.gather(*(engine.image_ids(["a:1"]) for _ in range(30)))
        assert await first == {"a:1": "sha256:1"}
        assert others == [{"a:1": "sha256:2"}] * 30
        assert await engine.image_ids(["a:1"]) == {"a:1": "sha256:3"}
    assert len(asked) == 3


async def test_absent_engine_is_unavailable_at_once(tmp_path: Path) -> None:
    engine = DockerEngine(f"unix://{tmp_path}/none.sock", "edge", call_timeout=4 * PATIENCE)
    async with asyncio.timeout(PATIENCE):  # and not after what a call may take
        with pytest.raises(EngineUnavailable):
            await engine.connect()
        with pytest.raises(EngineUnavailable):
            await engine.list_objects("edge")
    await engine.close()


async def test_version_is_pinned_to_what_both_sides_speak(tmp_path: Path) -> None:
    asked: list[str] = []

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        asked.append(path)
        await healthy(path, writer)

    async with engine_that(answer, tmp_path) as engine:
        info = await engine.connect()
    assert (info.version, info.api_version, info.cpus) == ("20.10.24", "1.41", 2.0)
    assert (info.memory, info.root_dir) == (1 << 30, "/var/lib/docker")
    assert (info.cgroup_version, info.runtime) == ("2", "runc 1.1.5")
    assert asked == ["/version", "/v1.41/info"]


async def test_cores_are_asked_for_as_the_runtime_of_the_moment_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """E6: runtime and cgroup version change under the same engine."""
    runtime: Json = {"Name": "runc", "Version": "1.3.1"}
    facts = dict(FACTS)
    asked: list[int] = []

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path == "/version":
            send(writer, VERSION | {"Components": [runtime]})
        elif "/images/" in path:
            send(writer, {"Id": "sha256:0", "Config": {"Cmd": ["p"]}})
        else:
            send(writer, facts)

    def note(client: APIClient, *, body: Json, **_: object) -> str:
        asked.append(body["HostConfig"]["CpuShares"])
        return "id"

    monkeypatch.setattr(docker_calls, "create", note)
    plan = StagePlan("n", "s", "i", Network("1", "net"), env={}, labels={}, port=1, cpus=0.02)
    async with engine_that(answer, tmp_path) as engine:
        for changes in ({}, {"Version": "1.3.2"}):
            runtime |= changes
            await engine.connect()
            await engine.create(plan)
        facts["CgroupVersion"] = "1"
        await engine.connect()
        await engine.create(plan)
    assert asked == [41, 4, 20]


async def test_version_is_one_that_an_engine_with_a_minimum_takes(tmp_path: Path) -> None:
    """E8: as Docker 29 has it."""
    asked: list[str] = []

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        asked.append(path)
        if path == "/version":
            send(writer, VERSION | {"ApiVersion": "1.52", "MinAPIVersion": "1.44"})
        elif path.startswith(("/v1.44/", "/v1.45/")):
            send(writer, FACTS)
        else:
            body = b'{"message":"client version 1.41 is too old. Minimum supported API version is 1.44"}'
            head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
            writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    async with engine_that(answer, tmp_path) as engine:
        assert (await engine.connect()).api_version in ("1.44", "1.45")
        assert asked == ["/version", f"/v{NEWEST}/info"]
        engine._clients.drop()
        engine._clients._version = "1.41"  # of the engine that was there before
        with pytest.raises(EngineUnavailable, match="no longer speaks version 1"):
            await engine.inspect("x")


async def test_whatever_a_library_lets_out_is_the_engines_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """E2, E5: no watch over the engine dies of it, and the log has where it came from."""

    def breaks(*_: object) -> None:
        raise AttributeError("fileno")

    async with engine_that(healthy, tmp_path) as engine:
        await engine.connect()
        monkeypatch.setattr(APIClient, "inspect_container", breaks)
        with pytest.raises(EngineUnavailable, match="unexpected way"):
            await engine.inspect("x")
    assert "AttributeError: fileno" in caplog.text


async def test_hung_engine_is_unavailable_after_the_timeout(tmp_path: Path) -> None:
    async with engine_that(silent, tmp_path, LIMIT) as engine, asyncio.timeout(PATIENCE):
        with pytest.raises(EngineUnavailable):
            await engine.connect()


async def test_engine_that_hangs_later_is_unavailable_and_usable_once_it_is_back(
    tmp_path: Path,
) -> None:
    current: Answer = healthy

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        await current(path, writer)

    async with engine_that(answer, tmp_path, LIMIT) as engine:
        await engine.connect()
        current = silent
        async with asyncio.timeout(PATIENCE):
            calls = [
                engine.inspect("x"),
                engine.stop("x", 0),
                engine.remove("x"),
                engine.start("x"),
            ]
            ends = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(end) for end in ends] == [EngineSilent] * 4
            with pytest.raises(EngineUnavailable):
                await anext(engine.events())
        current = healthy
        assert (await engine.connect()).version == "20.10.24"


async def test_nonsense_instead_of_http_is_unavailable(tmp_path: Path) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")

    async with engine_that(answer, tmp_path) as engine:
        with pytest.raises(EngineUnavailable):
            await engine.connect()


async def test_end_of_the_event_stream_is_not_silent(tmp_path: Path) -> None:
    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if "/events" not in path:
            await healthy(path, writer)
            return
        begin_stream(writer, json.dumps(EVENT).encode() + b"\n{bad}\n")
        writer.close()

    async with engine_that(answer, tmp_path) as engine:
        await engine.connect()
        events = engine.events()
        event = await anext(events)
        assert (event.kind, event.id, event.labels) == ("exited", "abc", LABELS)
        with pytest.raises(EngineUnavailable):
            await anext(events)


async def test_quiet_stream_outlives_the_call_timeout_and_frees_its_thread(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if "/events" not in path:
            await healthy(path, writer)
            return
        begin_stream(writer, b"\n")
        await go_on.wait()
        event = json.dumps(EVENT).encode() + b"\n"
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))

    async with engine_that(answer, tmp_path, LIMIT) as engine:
        await engine.connect()
        async with aclosing(engine.events()) as events:
            first = asyncio.ensure_future(anext(events))
            done, _ = await asyncio.wait([first], timeout=1.5 * LIMIT)
            assert not done
            go_on.set()
            assert (await first).kind == "exited"
            [reader] = [t for t in threading.enumerate() if t.name == "docker-events"]
        await asyncio.to_thread(reader.join, PATIENCE)
        assert not reader.is_alive()


async def test_process_ends_at_once_while_calls_hang(tmp_path: Path) -> None:
    """cpython#111358: threads of an executor would be joined at exit."""
    code = f"""
import asyncio
from operatord.engines.docker.engine import DockerEngine

async def main():
    engine = DockerEngine("unix://{tmp_path}/engine.sock", "edge", call_timeout={4 * PATIENCE})
    hung = asyncio.ensure_future(engine.connect())
    await asyncio.wait([hung], timeout=0.2)
    hung.cancel()
    await engine.close()

asyncio.run(main())
"""
    async with (
        engine_that(silent, tmp_path),
        asyncio.timeout(PATIENCE),
    ):  # and not after what a call may take
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
        assert await process.wait() == 0


@pytest.mark.parametrize(
    ("during", "status", "sentence", "error"),
    [
        ("network", 403, "Pool overlaps with other one on this address space", SubnetTaken),
        ("network", 500, "failed to update store: no space left on device", DiskFull),
        ("create", 500, "mkdir /var/lib/docker/overlay2/0123: no space left on device", DiskFull),
        ("start", 500, "OCI runtime create failed: write x: No space left on device", DiskFull),
        ("remove", 500, "write x: no space left on device", EngineFailed),
        ("network", 500, "subnet … is already used on the host", SubnetTaken),
        ("start", 500, "container init was OOM-killed (memory limit too low?)", OutOfMemory),
        (
            "start",
            500,
            "unable to set memory limit to 6291456 (current usage: 12824576)",
            OutOfMemory,
        ),
        ("create", 404, "No such image: demo-probe:latest", ImageMissing),
        ("create", 404, "network 0123 not found", NotThere),
        ("create", 400, "Minimum memory limit allowed is 6MB", StageRefused),
        ("start", 500, "Bind for 127.0.0.1:80 failed: port is already allocated", PortTaken),
        ("start", 500, "listen tcp4 127.0.0.1:80: bind: address already in use", PortTaken),
        ("start", 400, "OCI runtime create failed: no such file", StageRefused),
        ("start", 500, "OCI runtime create failed: bad cgroup", StageRefused),
        ("create", 400, "No command specified", StageRefused),
        (
            "start",
            404,
            'OCI runtime create failed: exec: "x": executable file not found',
            StageRefused,
        ),
        ("start", 500, "crun: cannot find `` in $PATH: OCI runtime attempted", StageRefused),
        (
            "start",
            500,
            "OCI runtime attempted to invoke a command that was not found",
            StageRefused,
        ),
        (
            "start",
            500,
            "crun: the path `/x` is not executable: OCI permission denied",
            StageRefused,
        ),
        ("start", 500, "unable to find user x: no matching entries in passwd file", StageRefused),
        ("start", 400, "OCI runtime: exec: stat /x: no such file or directory", StageRefused),
        (
            "start",
            400,
            "OCI runtime: lstat /proc/9/ns/net: no such file or directory",
            StageRefused,
        ),
        ("start", 400, "OCI runtime: exec user process caused: exec format error", StageRefused),
        ("start", 400, "OCI runtime: exec: permission denied", StageRefused),
        (
            "start",
            500,
            "listen tcp4 10.9.9.9:0: bind: cannot assign requested address",
            NotOurAddress,
        ),
        ("connect stage", 500, "bind: cannot assign requested address", NotOurAddress),
        ("connect", 400, "Client sent an HTTP request to an HTTPS server.", EngineUnavailable),
        ("start", 500, 'could not select device driver "nvidia"', StageRefused),
        ("start", 409, "cannot join network of a non running container: 0123", StageRefused),
        ("start", 500, "connection error: dial unix containerd.sock", EngineFailed),
        (
            "logs",
            409,
            "can not get logs from container which is dead or marked for removal",
            NotThere,
        ),
        ("stop", 404, "No such container: 0123", NotThere),
        ("remove", 500, "driver failed to remove root filesystem", EngineFailed),
    ],
)
def test_refusals_are_told_apart(
    during: str, status: int, sentence: str, error: type[EngineError]
) -> None:
    """F6, E10: by what the engine says, and in words of ours."""
    raised = refusal(during, status, sentence, "stage-1")
    assert type(raised) is error
    assert sentence not in str(raised)


def test_stage_whose_neighbour_has_ended_is_not_blamed_for_its_program() -> None:
    sentence = "OCI runtime create failed: lstat /proc/9/ns/net: no such file or directory"
    assert "has ended" in str(refusal("start", 400, sentence, "stage-1"))


def test_reaper_that_is_missing_is_not_taken_for_the_stages_program() -> None:
    sentence = 'lookup init binary: exec: "catatonit": executable file not found in $PATH'
    assert "install catatonit" in str(refusal("create", 500, sentence, "stage-1"))


def test_bad_request_that_no_row_knows_is_told_in_the_engines_words_without_paths() -> None:
    """F6: it says what is wrong with the configuration, and no client reads a path of the host."""
    sentence = "invalid mount of /srv/secret/place: \n must be \x1b[31m absolute"
    said = str(refusal("create", 400, sentence, "stage-1"))
    assert said.endswith("as planned: invalid mount of …: must be [31m absolute")
    assert len(str(refusal("create", 400, "x" * 5000, "stage-1"))) < 400


async def test_engines_own_sentence_is_always_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """F6"""

    async def broken(path: str, writer: asyncio.StreamWriter) -> None:
        if path.endswith(("/version", "/info")):
            await healthy(path, writer)
            return
        body = b'{"message":"the graph driver\\nis at /var/lib/x"}'
        head = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(body), body))

    async with engine_that(broken, tmp_path) as engine:
        await engine.connect()
        with pytest.raises(EngineFailed) as caught:
            await engine.start("0123")
    assert "graph driver" not in str(caught.value)
    [entry] = [record.getMessage() for record in caplog.records]
    assert entry.endswith("the engine says, with status 500: the graph driver is at /var/lib/x")


@pytest.mark.parametrize(
    "state", [{"OOMKilled": True}, {"OOMKilled": False, "Status": "created", "ExitCode": 137}]
)
async def test_limit_below_what_a_start_takes_is_told_as_memory(
    tmp_path: Path, state: dict[str, object]
) -> None:
    """E10: whatever the engine's words are, the container says that it was killed for it."""
    there = {"Name": "/stage-1", "State": state}

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path.endswith("/start"):
            refuse(writer, 500, "runtime create failed: broken pipe")
        elif path.endswith("/json"):
            send(writer, there)
        else:
            await healthy(path, writer)

    async with engine_that(answer, tmp_path) as engine:
        await engine.connect()
        with pytest.raises(OutOfMemory, match="stage-1"):
            await engine.start("0123")


async def test_whom_the_start_was_about_is_looked_at_before_the_words(tmp_path: Path) -> None:
    """E9: Docker 28 and Podman have status 500 for what is gone, each in other words."""
    joining = {"Name": "/s", "State": {}, "HostConfig": {"NetworkMode": "container:abc"}}

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path.endswith("/start"):
            refuse(writer, 500, "joining network namespace of container: it is gone")
        elif path.endswith("/0123/json"):
            send(writer, joining)
        elif path.endswith("/json"):
            refuse(writer, 404, "none such")
        else:
            await healthy(path, writer)

    async with engine_that(answer, tmp_path) as engine:
        await engine.connect()
        with pytest.raises(NotThere, match="would share is not there"):
            await engine.start("0123")


async def test_container_that_others_need_is_asked_for_again_until_it_goes(tmp_path: Path) -> None:
    """E3: Podman's ways with a removal: what stands in the way is told with 500, and so is a success."""
    refused = ["has dependent containers which must be removed before it", "network not found"]

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path.endswith("/json"):
            send(writer, {"Id": "0123"}) if refused else refuse(writer, 404, "none such")
        elif "/containers/" in path:
            refuse(writer, 500, refused.pop(0))
        else:
            await healthy(path, writer)

    async with engine_that(answer, tmp_path) as engine:
        await engine.connect()
        await engine.remove("0123")
    assert refused == []


@pytest.mark.parametrize("status", [409, 500])
async def test_name_that_is_taken_is_seen_by_looking(tmp_path: Path, status: int) -> None:
    """E3: a creation whose answer got lost is adopted; what is another's is refused."""
    labels: dict[str, str] = {}

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if "/containers/create" in path:
            refuse(writer, status, "that name is already in use")
        elif "/containers/" in path:
            send(writer, {"Id": "0123", "Config": {"Labels": labels}})
        elif "/images/" in path:
            send(writer, {"Id": "sha256:0", "Config": {"Cmd": ["p"]}})
        else:
            await healthy(path, writer)

    network = Network(id="n", name="n")
    plan = StagePlan(
        name="s", stage="s", image="i", network=network, env={}, port=1,
        labels={LABEL_INSTANCE: "edge", LABEL_SESSION: "A", LABEL_PLAN: "1"},
    )  # fmt: skip
    async with engine_that(answer, tmp_path) as engine:
        await engine.connect()
        with pytest.raises(StageRefused, match="taken by another"):
            await engine.create(plan)
        labels |= plan.labels
        assert await engine.create(plan) == "0123"
