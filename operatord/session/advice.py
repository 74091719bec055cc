# SPDX-License-Identifier: MIT
"""What a person can do about a session that ended before its work was done: one place for the words.

The reason of a session says what happened; the advice says what to change, by the name that it has in the
settings or in a request.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from operatord.core.endings import UPSTREAM_FAILED
from operatord.core.pipelines import PROBE
from operatord.core.sources.url import LOCAL

MIB = 1024**2


class Case(NamedTuple):
    """What the advice depends on."""

    cause: str
    pipeline: str
    stage: str | None = None
    """The stage at fault."""
    code: int | None = None
    """How that stage exited; None when its container was gone."""
    by_others: bool = False
    """Whether something was done to that stage past the daemon."""
    memory_limit: int = 0
    """Bytes that that stage may use."""
    probe: str | None = None
    """The registered probe that the session used."""
    scheme: str | None = None
    """The scheme of that probe's URL, if it has one: its stage ``probe`` is an adapter."""
    reads_probe: bool = False
    """Whether the stage at fault reads from that probe."""
    ran: bool = False
    """Whether its location had been proven."""
    leased_by: str = "connection"
    """What kind of lease it had: ``connection`` or ``ttl``."""

    @property
    def setting(self) -> str:
        """Where the settings speak of the stage at fault."""
        if self.scheme is not None and self.stage == PROBE:
            return f"sources.{self.scheme}"
        return f"pipelines.{self.pipeline}.stages.{self.stage}"

    @property
    def at_fault(self) -> str:
        """The stage at fault, in a sentence."""
        return "the stages" if self.stage is None else f"the stage {self.stage!r}"


EXITS = {
    2: "a setting of {stage} is missing or wrong, and its log names it: correct `env` of the request, or "
    "{setting}.env",
    3: "{stage} found no upstream within its connect_timeout, or could not listen: read its log, then "
    "that of the stage before it",
    4: "the upstream of {stage} broke off, or sent something that {stage} cannot read, such as another "
    "format of pixels: its own log says which; if it broke off, read the log of the stage before it",
    5: "the consumers of {stage} left before they had the stream to its end: read it to its end, or stop the "
    "session when it is no longer wanted",
    126: "the command of {stage} cannot be executed: look at {setting}.command and at the image",
    127: "the command of {stage} is not in its image: look at {setting}.command and at the image",
    130: "{stage} was interrupted from outside the daemon: find out who sent it SIGINT",
    137: "{stage} was killed from outside the daemon, but not for its memory: find out who sent it SIGKILL",
    139: "{stage} crashed (SIGSEGV): its image has a defect, of which its log may say more",
    143: "{stage} was ended from outside the daemon: find out who sent it SIGTERM",
}
"""By exit code: those of the stage contract, and those that shells and kernels give."""


def advise(case: Case) -> str | None:
    """Return a sentence on what to do; None where all went as wanted."""
    words = ADVICE.get(case.cause)
    return words if words is None or isinstance(words, str) else words(case)


def _oom(case: Case) -> str:
    if case.stage is None:
        return "raise the memory_limit of the stage that the reason names"
    now = f"now {case.memory_limit / MIB:.4g} MiB"
    return f"raise {case.setting}.memory_limit, {now}, or ask for smaller frames"


def _exit(case: Case) -> str:
    if case.by_others:
        return (
            "find out who used the engine's own commands on it: stop and start a session as a whole, with "
            "`operatorctl`"
        )
    if case.stage is None or case.code is None:
        return (
            f"the container of {case.at_fault} was removed by somebody else: find out who cleans up "
            "on this engine, and start the session again"
        )
    if case.code == 0:
        return (
            f"{case.at_fault} ended as if its work were done: its log says why it had nothing to do"
        )
    if case.code in UPSTREAM_FAILED and (words := _probe_failed(case)):
        return words
    known = EXITS.get(case.code)
    if known is None:
        return f"the code {case.code} is the program's own: the log of {case.at_fault} says more"
    return known.format(stage=case.at_fault, setting=case.setting)


def _probe_failed(case: Case) -> str | None:
    """Return what to do if the registered probe is what the stage at fault reads."""
    if case.reads_probe:
        return (
            f"{case.at_fault} reads from the registered probe {case.probe!r}, which broke off, was not there "
            "or sent something that is not a stream: check that probe"
        )
    if case.scheme is None or case.stage != PROBE:
        return None
    if case.scheme in LOCAL:
        return (
            f"the adapter could not read what the registered probe {case.probe!r} names: the log of "
            f"{case.at_fault} says why; its user, nobody unless {case.setting}.user names another, must be "
            "allowed to read it"
        )
    return (
        f"the adapter lost the source of the registered probe {case.probe!r}, or never found it: read the "
        f"log of {case.at_fault}, and try it with `operatorctl probe get {case.probe}`"
    )


def _start_timeout(case: Case) -> str:
    return (
        "look in the log for what each stage waited for, beginning with the first; if they are only slow, "
        "raise start_timeout"
    )


def _start_failed(case: Case) -> str:
    if case.stage is None:
        return "the reason names the step; if it says too little, the daemon's log says more"
    return f"compare {case.setting} with what its image and this engine can do"


def _restart(case: Case) -> str:
    if case.ran:
        return (
            "start it again; sessions outlive the daemon in containers only, not as local processes"
        )
    return "start it again: its start was not finished when the daemon ended, so it was undone"


def _lease(case: Case) -> str:
    if case.leased_by == "ttl":
        return 'send session.extend before the time is over, ask for a longer ttl, or for the lease "pinned"'
    return 'keep the connection that started it open, or ask for the lease "pinned"'


def _probe(case: Case) -> str:
    name = case.probe or "NAME"
    if case.scheme is not None:
        return f"see that its source can be read; `operatorctl probe get {name}` tries it"
    return f"see that the probe serves its stream at that address; `operatorctl probe get {name}` tries it"


ADVICE: dict[str, str | Callable[[Case], str] | None] = {
    "done": None,
    "client": None,
    "lease": _lease,
    "unread": "connect to the location sooner, ask with a lease that is extended, or raise "
    "lease.unread_timeout",
    "idle": "connect to the location sooner, or raise lease.idle_timeout",
    "max_age": "raise lease.max_age if sessions should run longer",
    "oom": _oom,
    "exit": _exit,
    "engine_lost": "see from the engine's own log why it was away, and start the session again",
    "restart": _restart,
    "start_timeout": _start_timeout,
    "start_failed": _start_failed,
    "image_missing": "build or pull the image that the reason names; `operatord build-images` makes "
    "the emulators', and with `all` the adapters'",
    "no_capacity": "wait for a session to end, or widen what the reason says is used up",
    "disk": "make room on the disk of the engine or of the daemon's state directory (`docker system df` "
    "shows what the engine has on it), and start the session again",
    "probe": _probe,
    "deadline": "give it a later deadline or a higher priority, or end a session that is not needed",
    "drain": "ask again after system.undrain, or ask another machine",
    "shutdown": "start it again; with on_shutdown: keep, sessions in containers outlive the daemon",
    "internal": "report it, with what the daemon's log says of that moment",
}
"""By cause; None where there is nothing to be done."""
