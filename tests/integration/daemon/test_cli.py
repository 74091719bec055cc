# SPDX-License-Identifier: MIT
"""The daemon's command line: where its output goes to nowhere, and where it may not write."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path

import pytest
from daemon_lab import OPERATORD, Wire, clean_env, run, until

from operatord import cli, logs
from operatord.settings.config import Logging

FULL, CLOSED, USAGE, FAILED = 74, 0, 2, 1


@pytest.mark.parametrize(
    "args", ["check-config", "--help", "--version", "serve --help", "simulate --sessions 50"]
)
@pytest.mark.parametrize(
    ("outputs", "code", "said"),
    [
        (">/dev/full", FULL, 1),
        (">/dev/full 2>/dev/full", FULL, 0),
        (">&-", CLOSED, 0),
        ("2>&-", 0, 0),
    ],
)
async def test_output_that_cannot_be_written_is_a_sentence_and_a_code(
    args: str, outputs: str, code: int, said: int
) -> None:
    """F13: never a traceback; to whom standard output is closed, nothing is to be written."""
    found, _, err = await run("sh", "-c", f"{OPERATORD} {args} {outputs}", env=clean_env())
    assert (found, len(err.splitlines())) == (code, said)
    assert "Traceback" not in err


@pytest.mark.parametrize("outputs", ["2>/dev/full", "2>&-", ">&- 2>&-"])
async def test_settings_that_are_wrong_are_told_by_the_code_at_least(outputs: str) -> None:
    """F13"""
    command = f"{OPERATORD} check-config --listen nowhere {outputs}"
    assert (await run("sh", "-c", command, env=clean_env()))[:2] == (USAGE, "")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
async def test_sockets_of_the_daemon_take_the_place_of_no_standard_stream(
    tmp_path: Path, closed: str
) -> None:
    """F13: or its children, whose standard error is the same, would write to its clients."""
    unix = tmp_path / "socket"
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", f'exec "$@" {closed}', "sh", OPERATORD, "serve", "--engine", "process"),
        *("--listen", "127.0.0.1:0", "--unix", str(unix), "--state-dir", str(tmp_path / "s")),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=clean_env(),
    )
    wire: Wire | None = None

    async def listens() -> bool:
        nonlocal wire
        with contextlib.suppress(
            FileNotFoundError, ConnectionRefusedError
        ):  # bound, and no more yet
            wire = await Wire.connect(unix)
        return wire is not None or process.returncode is not None

    await until(listens, "it listens or has ended")
    assert wire is not None
    assert (await wire.call("system.ping")) is not None
    for number in closed.replace("<&-", "").replace(">&-", "").split():
        assert Path(f"/proc/{process.pid}/fd/{number}").readlink() == Path(os.devnull)
    await wire.close()
    process.terminate()
    await process.communicate()  # or its pipes would be open when the loop is closed
    assert process.returncode == 0


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
async def test_letters_that_the_locale_lacks_are_escaped(locale: dict[str, str]) -> None:
    """F13"""
    env = {**clean_env(), **locale}
    listen = b"M\xfcller\xe2\x80\xa6".decode("utf-8", "surrogateescape")
    code, out, err = await run(OPERATORD, "check-config", "--listen", listen, env=env)
    assert (code, out, len(err.splitlines())) == (USAGE, "", 1)
    assert "HOST:PORT" in err


async def test_state_that_cannot_be_written_is_told_with_what_to_do(tmp_path: Path) -> None:
    """N4: as root, who may write everywhere, a file where a directory should be will do."""
    (tmp_path / "home").write_text("")
    state = str(tmp_path / "home" / "x")
    command = [OPERATORD, "serve", "--engine", "process", "--listen", "127.0.0.1:0"]
    code, out, err = await run(*command, "--state-dir", state, env=clean_env())
    assert (code, out, len(err.splitlines())) == (FAILED, "", 1)
    assert "--state-dir" in err
    assert "not a directory" in err
    assert state in err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["sweep", "--grace", "x"], "--grace: expected 0 to 3600 seconds such as 10, got 'x'"),
        (["demo", "--count", "x"], "--count: expected a whole number such as 100, got 'x'"),
        (["simulate", "--load", "x"], "--load: expected a number such as 0.5, got 'x'"),
    ],
)
def test_value_that_is_none_is_told_with_an_example(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(args) == USAGE
    assert capsys.readouterr().err.endswith(f"argument {said}\n")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ("serv", "did you mean 'serve'?"),
        ("serve --json", "there is no '--json' here; did you mean '--log-format json'?"),
        ("serve --listn a:1", "operatord serve: error: there is no '--listn' here; did you mean '--listen'?"),
        ("backup --port=1 x", "there is no '--port=1' here; known: --config, --engine, --force, --help, "
            "--listen, --log-format, --log-level, --state-dir, --unix"),
        ("backup a b", "there is no 'b' here"),
        ("--listen a:1 serve", "there is no '--listen' here; known: --help, --version (a command's own "
            "options come after it)"),
    ],
)  # fmt: skip
def test_slip_is_told_with_what_there_is(
    args: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """N14"""
    assert cli.main(args.split()) == USAGE
    assert capsys.readouterr().err.endswith(f"{said}\n")


def test_backup_to_standard_output_is_refused_and_no_file_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["backup", "-", "--state-dir", str(tmp_path / "s")]) == USAGE
    assert "is not written to standard output: name a file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_record_of_the_log_is_one_line_whatever_is_in_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """F14: what clients and stages say cannot forge an entry, nor command the terminal."""
    root = logging.getLogger("operatord")
    before = root.handlers[:], root.level, root.propagate
    try:
        logs.configure(Logging(format="text"))
        logging.getLogger("operatord.x").info("owner %s", "a\n2030-01-01 INFO \x1b[2J\r\x9b\u202e")
    finally:
        root.handlers[:], root.propagate = before[0], before[2]
        root.setLevel(before[1])
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("owner a\\n2030-01-01 INFO \\x1b[2J\\r\\x9b\\u202e")
