# SPDX-License-Identifier: MIT
"""The table of all checks: what each is called, why it matters, what to do, and who judges it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .judging import flows, formats, lives, sandbox, streams
from .verdict import Evidence, Verdict, unknown

Judge = Callable[[Evidence], Verdict]

EVERY = ("probe", "filter", "sink")
BEHIND = ("filter", "sink")
"""Stages that have an upstream."""


class Check(NamedTuple):
    """One line of the contract."""

    name: str
    title: str
    required: bool
    """Whether sessions fail, or lose frames, where it does not hold."""
    kinds: Sequence[str]
    why: str
    what_to_do: str
    judge: Judge


CHECKS: Sequence[Check] = (
    Check(
        "hello", "says a hello to each connection at once", True, EVERY,
        "The daemon reads it to prove that the stream is there; without it no session starts.",
        "Listen on NAME_ip and NAME_port, and send a line of JSON as section 8 of the protocol has it.",
        streams.hello,
    ),
    Check(
        "hello-after-upstream", "not before its upstream has said one", True, BEHIND,
        "A hello proves the whole chain; an early one makes a session out of a chain that does not work.",
        "Connect to the upstream and read its hello before you send one.",
        streams.hello_after_upstream,
    ),
    Check(
        "brief", "says to its upstream what it wants, and no more", True, BEHIND,
        "An upstream expects short lines; who writes without end is blocked, or takes its time.",
        "Say nothing, or lines as section 7 of the protocol has them.",
        streams.brief,
    ),
    Check(
        "frames-wait", "frames begin with the first consumer", True, ("filter",),
        "Whoever started the session is to get it from the first frame on.",
        "Without a consumer, read no more than what the first frame takes.",
        streams.frames_wait,
    ),
    Check(
        "check", "a check costs no frame", True, EVERY,
        "The daemon connects with a check before any client; frames for it are lost for the client.",
        'Send a connection whose first line is {"type":"check"} the hello and nothing else.',
        streams.check,
    ),
    Check(
        "checked", "checked=True: nobody is served before the check", False, EVERY,
        "On a busy machine the daemon's check may come late, and the start fails if others were served.",
        "Hold all connections back until one has said that it is a check, if checked is True.",
        streams.checked,
    ),
    Check(
        "silent", "a consumer need not say anything", True, EVERY,
        "Simple clients and players only connect and read.",
        "Treat a connection that is silent for 200 ms as a consumer.",
        streams.silent,
    ),
    Check(
        "count", "exactly `count` frames", True, EVERY,
        "Who asks for a number of frames gets that number, each once and in order.",
        "Send the frames in order, each with its hello's size; end after count of them.",
        streams.frames,
    ),
    Check(
        "end", "an end, and then the connection is closed", True, EVERY,
        "A stream that closes without its end counts as cut short.",
        'Send {"type":"end","frames":N,"dropped":0} after the last frame, and close.',
        streams.end,
    ),
    Check(
        "exit-0", "exits with 0 once all is delivered", True, EVERY,
        "A session is `completed` if its last stage exits with 0; else it is `failed`, or goes on.",
        "Exit with 0 when every consumer has everything and has closed, or after 5 s.",
        lives.done,
    ),
    Check(
        "second-consumer", "a slow second consumer loses nothing", True, EVERY,
        "Under policy=lossless the slowest consumer sets the pace.",
        "Read no more from the upstream while a consumer has yet to take what was read.",
        streams.second,
    ),
    Check(
        "back-pressure", "takes and keeps little while its consumer pauses", True, EVERY,
        "A stage that reads on keeps frames in memory until it is killed.",
        "Stop reading when you cannot write; bound every queue by a few frames.",
        flows.bounded,
    ),
    Check(
        "lossless", "no frame is lost when its consumer pauses", True, EVERY,
        "Lossless means that a slow consumer delays the probe, and that it is not disconnected.",
        "Wait for the consumer however long it takes, without a timeout on writing.",
        flows.lossless,
    ),
    Check(
        "late-upstream", "waits for an upstream that comes late", True, BEHIND,
        "All containers of a session are started at once, in no order.",
        "Try again while the connection is refused, or closed before a hello.",
        streams.late_upstream,
    ),
    Check(
        "sigterm", "ends on SIGTERM, with 143", True, EVERY,
        "Every session that is stopped waits for it, and then kills the stage.",
        "Handle SIGTERM, also while a write is blocked; exit with 143.",
        lives.sigterm,
    ),
    Check(
        "read-only", "works with its image's files read-only", True, EVERY,
        "Containers cannot write to their images' files.",
        "Write to /tmp (16 MiB), or give the stage `tmpfs`, or `read_only: false`, in the settings.",
        sandbox.read_only,
    ),
    Check(
        "nobody", "works without being root, and without capabilities", True, EVERY,
        "Containers run as their image's user, or as nobody in place of root.",
        "Make what it reads readable for everybody, or set `user`, or `cap_add`, in the settings.",
        sandbox.nobody,
    ),
    Check(
        "limits", "works within its limits of memory and processes", True, EVERY,
        "A stage that exceeds its memory is killed.",
        "Set `memory`, `memory_limit` or `pids` of the stage to what it needs.",
        sandbox.limits,
    ),
    Check(
        "bad-setting", "exit code 2 for a bad setting", True, EVERY,
        "The reason of a failed start is read from the exit code.",
        "Check all settings before you listen; say on standard error what is wrong; exit with 2.",
        lives.bad_setting,
    ),
    Check(
        "no-upstream", "exit code 3 without an upstream", True, BEHIND,
        "A stage that waits for ever keeps its session's place and says nothing.",
        "Give up after connect_timeout seconds, and exit with 3.",
        lives.no_upstream,
    ),
    Check(
        "broken-upstream", "exit code 4 when the upstream breaks off", True, BEHIND,
        "A stream that was cut short must not look complete.",
        "If the upstream closes without its end, send no end, and exit with 4.",
        lives.broken_upstream,
    ),
    Check(
        "nonsense", "exit code 4 when the upstream sends no stream", True, BEHIND,
        "A wrong address shows at once, and not as a stage that hangs.",
        "If the upstream's first line is no hello, say so and exit with 4.",
        lives.nonsense,
    ),
    Check(
        "unknown-format", "refuses a format that it does not know", True, BEHIND,
        "Pictures that are read as something else are rubbish that looks like a result.",
        "Compare the hello's format with what you take; say which one it is, and exit with 4.",
        lives.unknown_format,
    ),
    Check(
        "left", "exit code 5 when its consumers leave too early", False, ("filter",),
        "It tells a client that has gone from a stream that was delivered.",
        "If the last consumer leaves when the end was due to it, exit with 5.",
        lives.leaving,
    ),
    Check(
        "live", "policy=live waits for nobody", False, BEHIND,
        "A stage that joins a running stream must never hold it up.",
        "Drop whole frames for consumers that do not read, and count them in the end.",
        flows.live,
    ),
    Check(
        "live-consumer", "a live consumer delays nobody", False, BEHIND,
        "Previews say that they are live, so that they cannot slow a recording down.",
        'Drop frames for a connection that says {"type":"consume","policy":"live"}.',
        flows.live_consumer,
    ),
    Check(
        "attached", "attaches to a running stream", False, BEHIND,
        "A stage that joins a stream of others must not begin it, and not hold it up.",
        'With attached=True say {"type":"attach"} upstream, and consume or attach as consumers come and go.',
        formats.attached,
    ),
    Check(
        "passes-on", "passes on what it does not know", False, ("filter",),
        "Spacing, orientation and parts that a later stage needs come through every stage before it.",
        "Copy the upstream's hello and each frame's header and parts, and change what is yours.",
        formats.passing,
    ),
    Check(
        "y4m", "format=y4m: serves players", False, ("filter",),
        "Only a last stage is asked for it; without it, ffplay and OpenCV cannot read the session.",
        "Send YUV4MPEG2, as section 8 has it, if format is y4m.",
        formats.played,
    ),
    Check(
        "late-bind", "is bound late by itself", False, EVERY,
        "Slots are started before anybody asks, and get their settings in a line.",
        "With OPERATORD_LATE_BIND=1, read one line {\"env\":{…}} before you listen or connect.",
        lives.late_bind,
    ),
    Check(
        "unneeded", "exits with 0 if its input ends without a line", False, EVERY,
        "A slot that is not needed any more is ended in this way.",
        "With OPERATORD_LATE_BIND=1, exit with 0 at the end of standard input.",
        lives.unneeded,
    ),
    Check(
        "watch", "sends spectators what others are sent", False, BEHIND,
        "The page shows streams as a spectator, so that looking changes nothing.",
        'Support {"type":"watch"}, and say "watch":true in the hello.',
        streams.watch,
    ),
    Check(
        "listening", "prints `listening`", False, EVERY,
        "With it, a session that nobody has ever read is ended in time.",
        'Print {"type":"listening","stage":NAME,"host":…,"port":…} once you listen.',
        streams.listening,
    ),
    Check(
        "report", "prints reports", False, EVERY,
        "They show whether a stream moves, who reads it, and which stage is at fault when it stalls.",
        'Print {"type":"report","frames":…,"dropped":…,"consumers":…,"blocked":…,"every":1} each second.',
        streams.report,
    ),
    Check(
        "blocked", "reports consumers that everybody waits for", False, EVERY,
        "Else a stage that is held up looks like one that hangs.",
        "Count in `blocked` the consumers with data that they have not read.",
        flows.blocked,
    ),
)  # fmt: skip


class Finding(NamedTuple):
    """A check with its verdict."""

    check: Check
    verdict: Verdict

    @property
    def required(self) -> bool:
        """Whether what does not hold here makes sessions fail."""
        return self.check.required and not self.verdict.minor

    @property
    def advice(self) -> str:
        """What to do; empty where nothing is to be done."""
        if self.verdict.state != "does not hold":
            return self.verdict.advice
        return self.verdict.advice or self.check.what_to_do


def judged(evidence: Evidence) -> list[Finding]:
    """Return a finding for each check that applies to this kind of stage."""
    works = evidence.trial("plain").reading("check").is_greeted
    return [
        Finding(check, check.judge(evidence) if works or check.name in _WITHOUT_HELLO else UNTRIED)
        for check in CHECKS
        if evidence.subject.kind in check.kinds
    ]


_WITHOUT_HELLO = {"hello", "read-only", "nobody", "limits"}
UNTRIED = unknown("not tried: the stage says no hello")


def passes(findings: Sequence[Finding]) -> bool:
    """Tell whether nothing required fails to hold."""
    return not any(each.required and each.verdict.state == "does not hold" for each in findings)
