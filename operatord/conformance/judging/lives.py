# SPDX-License-Identifier: MIT
"""What follows from how a stage begins and ends."""

from __future__ import annotations

from operatord.conformance import pictures
from operatord.conformance.seen import Seen
from operatord.conformance.trials.faults import UNKNOWN_FORMAT
from operatord.conformance.verdict import Evidence, Verdict, broken, holds, unknown

from .streams import ended, with_sentence

KILLED = 128 + 9
TERMINATED = 128 + 15


def done(e: Evidence) -> Verdict:
    """The exit after everything was delivered."""
    plain = e.trial("plain")
    if plain.reading("silent").wire == "nothing":
        return unknown("no stream was read to its end")
    code = plain.ending.code
    text = f"{ended(plain.ending)}, {plain.ending.seconds:.1f} s after its consumer had closed"
    return holds(text) if code == 0 else broken(with_sentence(text, plain))


def sigterm(e: Evidence) -> Verdict:
    """SIGTERM while a consumer holds up the stream."""
    ending = e.trial("terminated").ending
    text = f"{ended(ending)} after {ending.seconds:.1f} s"
    if e.trial("terminated").reading("consumer").wire == "nothing":
        return unknown("there was no stream to be ended")
    if ending.code is None or ending.code == KILLED or ending.seconds > e.grace + 1:
        return broken(f"it had to be killed after {e.grace:g} s")
    if ending.code != TERMINATED:
        return broken(text, minor=True)
    return holds(text)


def bad_setting(e: Evidence) -> Verdict:
    return _code(e.trial("bad-setting"), 2)


def no_upstream(e: Evidence) -> Verdict:
    return _code(e.trial("no-upstream"), 3)


def nonsense(e: Evidence) -> Verdict:
    return _code(e.trial("nonsense"), 4)


def broken_upstream(e: Evidence) -> Verdict:
    seen = e.trial("broken-upstream")
    if seen.reading("consumer").end is not None:
        return broken("its consumer was sent an end, as if the stream were whole")
    return _code(seen, 4)


def unknown_format(e: Evidence) -> Verdict:
    seen = e.trial("unknown-format")
    found = seen.reading("consumer")
    if found.hello.get("format") == UNKNOWN_FORMAT and found.end is not None:
        return holds("it passes pictures on that it does not know, as they are")
    if found.seqs:
        return broken(f"it sent {len(found.seqs)} frames of pictures that it cannot know")
    verdict = _code(seen, 4)
    if verdict.state == "holds" and not seen.sentence:
        return broken("it exited with 4, without a sentence on standard error", minor=True)
    return verdict


def _code(seen: Seen, wanted: int) -> Verdict:
    """Return whether a stage has ended with an exit code; any other than 0 tells that something failed."""
    code = seen.ending.code
    if code == wanted:
        return holds(f"it exited with {code}")
    text = with_sentence(f"{ended(seen.ending)}, and not with {wanted}", seen)
    return broken(text, minor=code not in (None, 0))


def leaving(e: Evidence) -> Verdict:
    """The exit after the last consumer has left before it had everything."""
    seen = e.trial("leaving")
    found = seen.reading("consumer")
    if found.wire == "nothing":
        return unknown("no consumer could connect")
    if not seen.fed.ended or seen.ending.code is None:
        return unknown("it waits for another consumer, as it may in mid-stream")
    return _code(seen, 5)


def late_bind(e: Evidence) -> Verdict:
    """Whether the stage waits for its line by itself, and obeys it."""
    fault = late_fault(e.trial("late-bound"))
    return (
        broken(fault, _ADVICE[_without(e.trial("shim"))])
        if fault
        else holds("it waited for its line")
    )


_ADVICE = {
    "shim": "write late_bind: shim: a shell in the image waits in its place",
    "off": "write late_bind: off; it does not work behind the shell (sh) of its image either",
}


def way_of_late_binding(e: Evidence) -> str | None:
    """Return what to write for `late_bind` in the settings; None if that was not tried."""
    if "late-bound" not in e.trials:
        return None
    return _without(e.trial("shim")) if late_fault(e.trial("late-bound")) else "native"


def late_fault(seen: Seen) -> str:
    """Return what is wrong with how it was bound late; empty if it is right."""
    if seen.measured.get("connections before the line"):
        return "it connected to its upstream before its line had come"
    found = seen.reading("consumer")
    if found.wire == "nothing":
        return f"no stream came after its line; {ended(seen.ending)}"
    if found.wire == "json" and len(found.seqs) != pictures.FRAMES:
        return f"{len(found.seqs)} frames came, and its line said {pictures.FRAMES}"
    return ""


def _without(shim: Seen) -> str:
    """Return what to write for a stage that is not bound late by itself."""
    return "off" if late_fault(shim) else "shim"


def unneeded(e: Evidence) -> Verdict:
    """The end of input in place of a line."""
    if late_bind(e).state != "holds":
        return unknown("it is not bound late by itself")
    ending = e.trial("unneeded").ending
    return holds("exit code 0") if ending.code == 0 else broken(ended(ending))
