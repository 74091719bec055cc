# SPDX-License-Identifier: MIT
"""What follows from how a stage treats consumers that do not read."""

from __future__ import annotations

from operatord.conformance.seen import Reading, Seen
from operatord.conformance.trials.flows import LONG, PROBED
from operatord.conformance.verdict import Evidence, Verdict, broken, holds, unknown

from .streams import OTHER, ended, with_sentence

MOST_HELD = 16 * 2**20
"""Bytes that it may have read: as many as a frame of the emulators may have, and the kernel's buffers."""
MOST_GROWN = 12 * 2**20
"""Bytes of memory."""
_MIB = 2**20


def bounded(e: Evidence) -> Verdict:
    """What a stage takes and keeps while its consumer pauses."""
    seen = e.trial("paused")
    if seen.reading("consumer").wire == "nothing":
        return unknown("no consumer could connect")
    if seen.ending.oom:
        return broken("it was killed for want of memory while its consumer paused")
    return _taken(seen) if e.subject.has_upstream else _grown(seen)


def _taken(seen: Seen) -> Verdict:
    """Judge by what it has read from its upstream: what it has not kept it has dropped."""
    held, grown = seen.measured.get("held", 0), _growth(seen)
    text = f"it took {held / _MIB:.1f} MiB while its consumer read nothing"
    if grown is not None and grown > MOST_GROWN:
        return broken(f"{text}, and its memory grew by {grown / _MIB:.0f} MiB")
    if held > MOST_HELD and (grown is None or not seen.reading("consumer").is_gapless):
        return broken(text)
    if seen.measured.get("still reading"):
        return unknown(f"{text}, and still read after some seconds")
    return holds(f"it took {held / _MIB:.1f} MiB and then waited")


def _growth(seen: Seen) -> float | None:
    """Return by how many bytes its memory has grown; None if the engine did not say."""
    if "memory after" not in seen.measured or "memory before" not in seen.measured:
        return None
    return max(0, seen.measured["memory after"] - seen.measured["memory before"])


def _grown(seen: Seen) -> Verdict:
    """Judge a stage that reads from nobody by its memory."""
    if (grown := _growth(seen)) is None:
        return unknown("the engine did not say how much memory it has")
    text = f"its memory grew by {grown / _MIB:.1f} MiB"
    return broken(text) if grown > MOST_GROWN else holds(text)


def lossless(e: Evidence) -> Verdict:
    """What a consumer gets that has paused."""
    seen = e.trial("paused")
    found = seen.reading("consumer")
    if found.wire != "json":
        return unknown(OTHER if found.wire == "other" else "no consumer could connect")
    if found.end is None:
        return _without_end(found, seen)
    if e.subject.kind == "probe" and not found.is_gapless:
        return broken("the frames have gaps", _LIVE, minor=True)
    if not found.seqs or not found.is_gapless:
        return broken(f"frames were lost: {len(found.seqs)} came, of {seen.fed.frames or PROBED}")
    if e.subject.has_upstream and found.seqs[-1] != seen.fed.frames - 1:
        return broken(f"the last of {seen.fed.frames} frames was {found.seqs[-1]}")
    return holds(f"all {len(found.seqs)} frames came after the pause")


_LIVE = "nothing, if its source is live and cannot wait; else hold it up while the consumer pauses"


def _without_end(found: Reading, seen: Seen) -> Verdict:
    if found.closed:
        text = f"the stream broke off after {len(found.seqs)} frames; {ended(seen.ending)}"
        return broken(with_sentence(text, seen))
    if found.fault:
        return broken(f"after {len(found.seqs)} frames: {found.fault}")
    return unknown(f"the stream did not end in time; {len(found.seqs)} frames came")


def blocked(e: Evidence) -> Verdict:
    seen = e.trial("paused")
    said = [line for line in seen.lines if line.get("type") == "report"]
    if not said:
        return broken("there are no reports")
    if any(line.get("blocked") for line in said):
        return holds("a report counts it")
    went_on = len({line.get("frames") for line in said}) == len(said)
    if e.subject.kind == "probe" and went_on:
        return unknown("it was not held up: it sends too little to fill the buffers on the way")
    return broken("no report counts it")


def live(e: Evidence) -> Verdict:
    seen = e.trial("live")
    found = seen.reading("consumer")
    if found.wire == "nothing":
        return unknown("no consumer could connect")
    if seen.measured.get("still reading"):
        return unknown(f"it is slow: it still read after {LONG:g} s, {seen.fed.frames} frames")
    if not seen.measured.get("passed"):
        return broken(f"it stopped reading after {seen.fed.frames} frames")
    if found.wire == "other":
        return holds("it read on")
    if found.fault:
        return broken(found.fault)
    return _counted(found, seen)


def _counted(found: Reading, seen: Seen) -> Verdict:
    if found.end is None:
        return holds("it read on, and disconnected the consumer")
    sent, dropped = found.end
    if sent + dropped != seen.fed.frames:
        text = f"its end says {sent} frames and {dropped} dropped ones, of {seen.fed.frames}"
        return broken(text, minor=True)
    return holds(f"it dropped {dropped} of {seen.fed.frames} frames")


def live_consumer(e: Evidence) -> Verdict:
    seen = e.trial("live-consumer")
    found = seen.reading("reader")
    if found.wire != "json":
        return unknown(OTHER if found.wire == "other" else "no consumer could connect")
    if found.end is None or not found.is_gapless:
        return broken(f"the other consumer got {len(found.seqs)} of {seen.fed.frames} frames")
    return holds("the other consumer got every frame")
