# SPDX-License-Identifier: MIT
"""``operatord serve`` as a process of the system: signals, sockets, files, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import sys
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, Wire, clean_env, left_of, netcat, receive, run, served
from shared_host import free_port

from operatord.signals import MEANINGLESS

PROCESS = ("--engine", "process")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
async def test_signal_ends_all_sessions_and_exits_with_0(tmp_path: Path, number: int) -> None:
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        for _ in range(2):
            await wire.call("session.start", plain_stream=True)
        assert left_of(daemon.state_dir) != []
        assert await daemon.stop(number) == 0
        assert left_of(daemon.state_dir) == []
        assert daemon.log[-2]["message"] == "stopped"
        assert await wire.at_end()
        await wire.close()


async def test_another_signal_does_not_cut_the_shutdown_short(tmp_path: Path) -> None:
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        await wire.call("session.start", plain_stream=True)
        daemon.process.send_signal(signal.SIGINT)
        assert await daemon.stop(signal.SIGTERM) == 0
        assert left_of(daemon.state_dir) == []
        await wire.close()


async def test_signal_while_a_session_starts(tmp_path: Path) -> None:
    dumb = {"command": [sys.executable, "-c", "import time; time.sleep(1000)"]}
    config = {"pipelines": {"stream": {"stages": {"stream": dumb}}}}
    async with served(tmp_path / "s", *PROCESS, config=config) as daemon:
        wire = await daemon.wire()
        start = wire.begin("session.start", plain_stream=True)
        await wire.note(lambda note: note["stage"] == "verify")
        assert await daemon.stop() == 0
        with pytest.raises(Exception, match=r"cancelled|instead"):
            await wire.reply(start)
        await wire.close()


async def test_log_is_json_lines_when_asked(tmp_path: Path) -> None:
    async with served(tmp_path / "s", *PROCESS) as daemon:
        assert await daemon.stop() == 0
        entries = [entry for entry in daemon.log if entry]
        assert all({"time", "level", "logger", "message"} <= set(entry) for entry in entries)


async def test_hangup_rereads_the_settings(tmp_path: Path) -> None:
    async with served(tmp_path / "s", *PROCESS, config={"limits": {"sessions": 3}}) as daemon:
        wire = await daemon.wire()
        file = daemon.state_dir.with_suffix(".yaml")
        file.write_text("limits: {sessions: 5}\n")
        daemon.process.send_signal(signal.SIGHUP)
        assert await daemon.logged("settings reread")
        assert (await wire.call("system.status"))["capacity"]["sessions"] == 5
        file.write_text("limits: {sesions: 5}\n")
        daemon.process.send_signal(signal.SIGHUP)
        assert (await daemon.logged("nothing was changed"))["level"] == "error"
        assert (await wire.call("system.status"))["capacity"]["sessions"] == 5
        await wire.close()


async def test_signals_that_mean_nothing_end_no_daemon(tmp_path: Path) -> None:
    """Each is told once, however often it comes."""
    async with served(tmp_path / "s", *PROCESS) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        for number in MEANINGLESS:
            for _ in range(2):
                daemon.process.send_signal(number)
                assert (await wire.call("system.ping"))["pong"]
        stage = await wire.call("session.get", session_id=session["session_id"])
        assert stage["phase"] == "running"
        assert await daemon.stop() == 0
        said = [entry["message"] for entry in daemon.log if entry]
        told = [each for each in said if "is ignored" in each]
        assert len(told) == len(MEANINGLESS)
        assert any(each.startswith("SIGUSR1 ") for each in told)
        await wire.close()


async def serve_fails(*arguments: str) -> str:
    """Run serve where it cannot; return what it says."""
    code, out, err = await run(OPERATORD, "serve", *arguments, env=clean_env())
    assert (code, out) == (1, "")
    assert "Traceback" not in err
    return err


async def test_second_daemon_on_the_same_state_directory_is_refused(tmp_path: Path) -> None:
    async with served(tmp_path / "s", *PROCESS):
        said = await serve_fails(
            "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "s"), *PROCESS
        )
        assert "--state-dir" in said


async def test_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    async with served(tmp_path / "a", *PROCESS) as daemon:
        address = f"127.0.0.1:{daemon.address[1]}"
        said = await serve_fails("--listen", address, "--state-dir", str(tmp_path / "b"), *PROCESS)
        assert f"{address} is in use" in said
        assert "--listen" in said


async def test_state_directory_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = await serve_fails("--state-dir", str(tmp_path / "file" / "s"), "--listen", "127.0.0.1:0")
    assert str(tmp_path / "file") in said


async def test_unix_socket_beside_the_tcp_port(tmp_path: Path, nc: str) -> None:
    path = tmp_path / "o.sock"
    async with served(tmp_path / "s", *PROCESS, "--unix", str(path)) as daemon:
        assert await daemon.logged(str(path))
        assert path.stat().st_mode & 0o777 == 0o660
        wire = await Wire.connect(path)
        assert (await wire.call("system.ping"))["pong"]
        await wire.close()
        out = await netcat(path, '{"method":"system.ping"}\n')
        assert json.loads(out)["result"]["pong"]
    assert not path.exists()


async def test_stale_unix_socket_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "o.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    async with served(tmp_path / "a", *PROCESS, "--unix", str(path)) as daemon:
        assert await daemon.logged(str(path))
        said = await serve_fails(
            "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "b"), *PROCESS,
            "--unix", str(path),
        )  # fmt: skip
        assert str(path) in said
        wire = await Wire.connect(path)
        assert (await wire.call("system.ping"))["pong"]
        await wire.close()


async def test_file_in_the_place_of_the_unix_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    said = await serve_fails(
        "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "s"), *PROCESS, "--unix", str(path)
    )
    assert f"the Unix socket {path} cannot be listened on: exists, and is not a socket" in said
    assert "--unix" in said
    assert path.read_text() == "data"


async def test_unix_socket_that_cannot_be_made_is_not_blamed_on_something_else(
    tmp_path: Path,
) -> None:
    """A link to nowhere looks like an address that is in use; the directory above holds the state as well."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nowhere" / "o.sock")
    for path in (link, tmp_path):
        said = await serve_fails(
            "--listen", "127.0.0.1:0", "--state-dir", str(tmp_path / "s"), *PROCESS,
            "--unix", str(path),
        )  # fmt: skip
        assert f"the Unix socket {path} cannot be listened on" in said


async def test_unix_socket_that_somebody_else_has_put_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "o.sock"
    async with served(tmp_path / "s", *PROCESS, "--unix", str(path)) as daemon:
        assert await daemon.logged(str(path))
        path.rename(tmp_path / "away")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
    assert path.is_socket()


async def test_kill_leaves_stages_that_the_next_start_removes(tmp_path: Path) -> None:
    state = tmp_path / "s"
    async with served(state, *PROCESS) as daemon:
        wire = await daemon.wire()
        session = await wire.call("session.start", plain_stream=True)
        await daemon.stop(signal.SIGKILL)
        await wire.close()
        async with served(state, *PROCESS) as again:
            wire = await again.wire()
            ended = await wire.call("session.wait", session_id=session["session_id"])
            assert (ended["outcome"], ended["cause"]) == ("failed", "restart")
            assert "while the session was running" in ended["reason"]
            assert left_of(state) == [], "local processes cannot go on without their daemon"
            assert (await wire.call("session.start", plain_stream=True))["phase"] == "running"
            await wire.close()


async def test_daemon_listens_without_an_engine_and_says_so(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/no.sock"
    arguments = ("--engine", "docker")
    async with served(tmp_path / "s", *arguments, config={"docker_host": nowhere}) as daemon:
        wire = await daemon.wire()
        assert (await wire.call("system.status"))["engine"]["state"] == "unavailable"
        refused = await wire.refusal("session.start")
        assert refused.type == "engine_unavailable"
        assert "no.sock" not in str(refused)
        await wire.close()
        assert await daemon.stop() == 0


TLS_WITHOUT_FILES = {
    "address": "127.0.0.1:0", "auth": "none", "tls": {"cert": "none.pem", "key": "none.key"},
}  # fmt: skip


async def test_settings_that_cannot_be_used_exit_with_2(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("limits: {sesions: 3}\n")
    for command in (("check-config", str(file)), ("serve", "--config", str(file))):
        code, out, err = await run(OPERATORD, *command, env=clean_env())
        assert (code, out) == (2, "")
        assert "limits.sesions" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("settings", "path"),
    [
        ({"auth": {"tokens": "none"}}, "auth.tokens: there is no such file"),
        ({"listeners": [TLS_WITHOUT_FILES]}, "listeners[0].tls.cert: cannot be read: No such file"),
    ],
)
async def test_files_that_cannot_be_used_are_told_before_the_daemon_is_replaced(
    tmp_path: Path, settings: dict[str, object], path: str
) -> None:
    """`operatord check-config && systemctl restart operatord` is how one changes settings."""
    file = tmp_path / "o.yaml"
    file.write_text(
        json.dumps({"state_dir": str(tmp_path / "s"), "listen": "127.0.0.1:0", **settings})
    )
    for command in (("check-config", str(file)), ("serve", "--config", str(file))):
        code, out, err = await run(OPERATORD, *command, env=clean_env())
        assert (code, out) == (2, "")
        assert path in err
        assert "Traceback" not in err


async def test_check_config_prints_what_serve_would_use(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("limits: {sessions: 3}\nlisten: 127.0.0.1:1\n")
    env = {**clean_env(), "OPERATORD_LISTEN": "127.0.0.1:2"}
    code, out, _ = await run(OPERATORD, "check-config", str(file), env=env)
    assert code == 0
    assert "sessions: 3" in out
    assert "listen: 127.0.0.1:2" in out
    code, out, _ = await run(
        OPERATORD, "check-config", str(file), "--listen", "127.0.0.1:3", env=env
    )
    assert "listen: 127.0.0.1:3" in out
    assert (await run(OPERATORD, "check-config", "-q", str(file), env=env))[:2] == (0, "")


async def test_fixed_port_can_be_used_again_at_once(tmp_path: Path) -> None:
    config = {"listen": f"127.0.0.1:{free_port()}"}
    for _ in range(2):
        async with served(
            tmp_path / "s", *PROCESS, "--listen", config["listen"], config=config
        ) as daemon:
            wire = await daemon.wire()
            assert (await wire.call("system.ping"))["pong"]
            assert await daemon.stop() == 0
            await wire.close()


async def test_signal_while_the_daemon_itself_starts(tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/no.sock"
    async with served(
        tmp_path / "s",
        "--engine",
        "docker",
        config={"docker_host": nowhere},
        wait_for="operatord 0",
    ) as daemon:
        assert await daemon.stop() == 0


async def test_flood_of_connections_leaves_descriptors_for_a_session(tmp_path: Path) -> None:
    limits = ("prlimit", "--nofile=50:150")
    async with served(tmp_path / "s", *PROCESS, below=limits) as daemon:
        first = await daemon.wire()
        await first.call("system.ping")
        flood = await asyncio.gather(*(daemon.wire() for _ in range(140)))
        answered = 0
        for wire in flood:
            with contextlib.suppress(ConnectionError):
                wire.send('{"method":"system.ping"}')
                reply = await wire.line()
                answered += "result" in reply
                assert "result" in reply or reply["error"]["data"]["type"] == "too_many_requests"
        assert 50 < answered <= 150 - 64  # the reserve
        session = await first.call("session.start", plain_stream=True, count=3)
        _, frames, _ = await receive(session["location"])
        assert len(frames) == 3
        for wire in (first, *flood):
            await wire.close()
