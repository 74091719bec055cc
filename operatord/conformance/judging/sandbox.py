# SPDX-License-Identifier: MIT
"""What follows for the bounds of a container."""

from __future__ import annotations

from operatord.conformance.verdict import Evidence, Verdict, broken, holds, unknown

_MIB = 2**20
LOCAL = "local processes have no such bounds: check it on a container engine"


def _comes_up(e: Evidence, trial: str) -> bool:
    return e.trial(trial).reading("check").is_greeted


def _only_if(e: Evidence, trial: str, otherwise: str) -> Verdict:
    if not e.contained:
        return unknown(LOCAL)
    if _comes_up(e, "plain"):
        return holds("it came up")
    if _comes_up(e, trial):
        return broken(otherwise)
    return unknown("it does not come up otherwise either")


def read_only(e: Evidence) -> Verdict:
    return _only_if(e, "writable", "it says a hello only if its image's files can be written to")


def nobody(e: Evidence) -> Verdict:
    if _comes_up(e, "writable") and not _comes_up(e, "plain"):
        return holds("it came up, with files that can be written to")
    return _only_if(e, "as-root", "it says a hello only as root")


def limits(e: Evidence) -> Verdict:
    """Memory and the number of processes."""
    if not e.contained:
        return unknown(LOCAL)
    stage = e.subject.stage
    bounds = f"{stage.most_memory // _MIB} MiB and {stage.pids} processes"
    if killed := [name for name, seen in e.trials.items() if seen.ending.oom]:
        return broken(f"it was killed for want of memory ({bounds}) in the trial {killed[0]!r}")
    verdict = _only_if(e, "roomy", f"it says a hello only with more than {bounds}")
    used = e.trial("paused").measured.get("memory after")
    if verdict.state == "holds" and used is not None:
        return holds(f"it had {used / _MIB:.0f} MiB, of {bounds}")
    return verdict
