# SPDX-License-Identifier: MIT
"""Programs of ours that tests start are forked off a process that has loaded them.

To load what `operatord serve` needs takes a quarter of a second of a core, its gateway as much, and a run of
all tests starts them a thousand times. So each process of pytest that starts one has a process that has
loaded them, once, and does nothing else: at each start it has a copy of itself become the program, with the
arguments, environment, folder, mask and descriptors that `subprocess` was asked for. The copy is a child of
pytest's, as if it had been started anew.

What is to be started in any other way is started anew: below another program, say, or with an environment
that the interpreter itself looks at; and everything where ``TESTS_START_ANEW`` is set.

    python preloaded.py DESCRIPTOR
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import inspect
import io
import json
import os
import pkgutil
import platform
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

BIN = Path(sys.executable).parent
PROGRAMS = {
    (str(BIN / "operatord"),): "operatord.cli",
    (str(BIN / "operatorctl"),): "operatord_client.operatorctl",
    (sys.executable, "-P", "-m", "operatord.cli"): "operatord.cli",
    (sys.executable, "-m", "operatord"): "operatord.cli",
    (sys.executable, "-m", "operatord_client.operatorctl"): "operatord_client.operatorctl",
}
"""What commands begin with, and whose ``main`` they run."""
LOADED = (
    "operatord.cli", "operatord.daemon", "operatord.engines.docker.engine",
    "operatord.engines.process.engine", "operatord.gateway.process.serving", "operatord.settings.loading",
    "operatord.settings.yaml_text", "operatord.state.sweep", "operatord.state.upkeep",
    "operatord_client.client", "operatord_client.ctl.refusals", "operatord_client.operatorctl",
)  # fmt: skip
"""What is loaded, besides the commands; most of it is what these need."""
READ_AT_THE_START = (
    "PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "GLIBC_", "TZ", "SSL_", "OPENSSL_", "AIOHTTP_",
)  # fmt: skip
"""How variables begin that are looked at before a program's ``main`` is."""
READS_A_VARIABLE = "operatord.machine.failpoints"
"""A module of ours that looks at one as it is loaded."""
LONGEST = 100_000
"""Bytes of a request: what the kernel sends as one message."""
ANSWER = 20
"""Bytes of an answer, at most."""
DESCRIPTORS = 32
"""That a program is given, at most."""
ASIDE = 500
"""Where descriptors lie until each has the number that it is to have."""
CLONE_PARENT = 0x8000
CLONE = {"x86_64": 56, "aarch64": 220}
"""The number of the system call, which the C library has no function for that takes no stack."""
AS_BY_DEFAULT = {
    "executable": None, "preexec_fn": None, "close_fds": True, "startupinfo": None, "creationflags": 0,
    "shell": False, "restore_signals": True, "gid": None, "gids": None, "uid": None, "umask": -1,
    "process_group": -1,
}  # fmt: skip
"""What arguments of `Popen._execute_child` have to be."""
PIPES = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
GIVEN = {"self", "args", "cwd", "env", "pass_fds", "start_new_session", *PIPES}
"""Its other arguments."""


# In the process of pytest


class Preloaded:
    """The process that is forked off, from here."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip
        theirs.close()
        self._socket, self._turn = ours, threading.Lock()
        self._environment, self._ready = as_read(os.environ), False
        self.pid = self._process.pid

    def start(self, request: Mapping[str, Any], descriptors: Sequence[int]) -> int | None:
        """Have a program started; return its process id, or None if it is to be started anew."""
        raw = json.dumps(request).encode()
        if len(raw) > LONGEST or as_read(request["env"]) != self._environment:
            return None
        with self._turn:
            if not self.has_loaded():
                return None
            socket.send_fds(self._socket, [raw], list(descriptors))
            return int(self._socket.recv(ANSWER))

    def has_loaded(self) -> bool:
        """Return whether it can be asked for something: nobody waits until it can."""
        with contextlib.suppress(BlockingIOError):
            self._ready = self._ready or bool(self._socket.recv(ANSWER, socket.MSG_DONTWAIT))
        return self._ready

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


def as_read(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that count before a program's ``main`` does."""
    return {k: v for k, v in environment.items() if k.startswith(READ_AT_THE_START)}


_preloaded: Preloaded | None = None
_start_anew = subprocess.Popen._execute_child  # type: ignore[attr-defined]


def processes() -> set[str]:
    """Return the process id of what this process forks off, which is no test's."""
    return {str(_preloaded.pid)} if _preloaded else set()


def begin() -> None:
    """From now on, start programs of ours so, where Python and the machine are known."""
    known = inspect.signature(_start_anew).parameters.keys() == AS_BY_DEFAULT.keys() | GIVEN
    if known and platform.machine() in CLONE and not os.environ.get("TESTS_START_ANEW"):
        subprocess.Popen._execute_child = execute_child  # type: ignore[attr-defined]


def end() -> None:
    """Start everything anew again."""
    global _preloaded  # noqa: PLW0603  # a process of pytest has one
    subprocess.Popen._execute_child = _start_anew  # type: ignore[attr-defined]
    if _preloaded:
        _preloaded.close()
        _preloaded = None


def execute_child(self: Any, *args: Any) -> None:
    """Stand in for `Popen._execute_child`."""
    asked = inspect.signature(_start_anew).bind(self, *args).arguments
    pid = None
    if all(asked[name] == value for name, value in AS_BY_DEFAULT.items()):
        pid = fork_off(asked)
    if pid is None:
        _start_anew(self, *args)
        return
    self.pid, self._child_created = pid, True
    self._close_pipe_fds(*(asked[name] for name in PIPES))


def fork_off(asked: Mapping[str, Any]) -> int | None:
    """Return the process id of what was started; None if it is to be started anew."""
    global _preloaded  # noqa: PLW0603  # a process of pytest has one
    args = asked["args"]
    command = [os.fsdecode(each) for each in args] if isinstance(args, list | tuple) else []
    if not any(command[: len(begins)] == list(begins) for begins in PROGRAMS):
        return None
    if _preloaded is None:
        _preloaded = Preloaded()
    given = (asked["p2cread"], asked["c2pwrite"], asked["errwrite"])
    streams = [own if each == -1 else each for own, each in enumerate(given)]
    request = {
        "command": command,
        "env": dict(os.environ if asked["env"] is None else asked["env"]),
        "cwd": str(Path.cwd()) if asked["cwd"] is None else os.fsdecode(asked["cwd"]),
        "mask": mask(),
        "session": asked["start_new_session"],
        "descriptors": [0, 1, 2, *asked["pass_fds"]],
    }
    return _preloaded.start(request, [*streams, *asked["pass_fds"]])


def mask() -> int:
    """Return this process's umask, which can only be asked for by setting it."""
    found = os.umask(0o077)
    os.umask(found)
    return found


# In the process that is forked off


def main(descriptor: int) -> NoReturn:
    """Load everything, and become what is asked for, in a copy, until nobody asks any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in (*LOADED, *_commands()):
        with contextlib.suppress(ImportError):  # what the gateway needs is not everywhere
            importlib.import_module(name)
    gc.collect()
    gc.freeze()
    asking = socket.socket(fileno=descriptor)
    asking.send(b"loaded")
    while asked := _next(asking):
        raw, given = asked
        pid = fork()
        if pid == 0:
            asking.close()
            become(json.loads(raw), given)
        for each in given:
            os.close(each)
        with contextlib.suppress(OSError):
            asking.send(str(pid).encode())
    sys.exit()


def _commands() -> list[str]:
    package = importlib.import_module("operatord.commands")
    return [f"{package.__name__}.{each.name}" for each in pkgutil.iter_modules(package.__path__)]


def _next(asking: socket.socket) -> tuple[bytes, list[int]] | None:
    """Return what is asked for next, and its descriptors; None when pytest has ended."""
    with contextlib.suppress(OSError):
        raw, given, *_ = socket.recv_fds(asking, LONGEST, DESCRIPTORS)
        return (raw, given) if raw else None
    return None


def fork() -> int:
    """Fork a child of the parent's."""
    python, system = ctypes.pythonapi, ctypes.PyDLL(None)
    number = CLONE[platform.machine()]
    python.PyOS_BeforeFork()
    pid = int(system.syscall(number, CLONE_PARENT | signal.SIGCHLD, None, None, None, None))
    if pid == 0:
        python.PyOS_AfterFork_Child()
    else:
        python.PyOS_AfterFork_Parent()
    return pid


def become(request: Mapping[str, Any], given: Sequence[int]) -> NoReturn:
    """Be what was asked for."""
    place(given, request["descriptors"])
    if request["session"]:
        os.setsid()
    os.umask(request["mask"])
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    importlib.reload(importlib.import_module(READS_A_VARIABLE))
    sys.stdin, sys.stdout, sys.stderr = (
        anew(number, each) for number, each in enumerate((sys.stdin, sys.stdout, sys.stderr))
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    command = request["command"]
    begins = next(each for each in PROGRAMS if command[: len(each)] == list(each))
    sys.argv = [begins[0], *command[len(begins) :]]
    leave(importlib.import_module(PROGRAMS[begins]).main())


def place(given: Sequence[int], numbers: Sequence[int]) -> None:
    """Let descriptors have these numbers; 0 to 2 are there already."""
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD, ASIDE) for each in given]
    for each in given:
        os.close(each)
    for each, number in zip(aside, numbers, strict=True):
        os.dup2(each, number)
        os.close(each)


def leave(code: int) -> NoReturn:
    """Exit as the interpreter does, but leave what was loaded: to take it to pieces would copy it first."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


def anew(number: int, loaded: TextIO) -> TextIO:
    """Return what the interpreter makes of a standard stream: of another one, it knew other things."""
    assert isinstance(loaded, io.TextIOWrapper)
    raw = open(  # noqa: SIM115  # for as long as the process lives
        number, "wb" if number else "rb", 0 if isinstance(loaded.buffer, io.RawIOBase) else -1, closefd=False
    )  # fmt: skip
    return io.TextIOWrapper(
        raw, loaded.encoding, loaded.errors, "\n" if number else None,
        line_buffering=number == 2 or os.isatty(number), write_through=loaded.write_through,
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]))
