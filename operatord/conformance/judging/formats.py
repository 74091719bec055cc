# SPDX-License-Identifier: MIT
"""What follows from what a stage has passed on."""

from __future__ import annotations

from operatord.conformance.pictures import EXTRA, SAID
from operatord.conformance.verdict import Evidence, Verdict, broken, holds, unknown

from .streams import OTHER

PLAYED = "YUV4MPEG2 "
CONSUME = '{"type":"consume"}'


def passing(e: Evidence) -> Verdict:
    """Members of the hello, and parts of frames, that it does not know."""
    found = e.trial("passing").reading("consumer")
    if found.wire != "json":
        return unknown(OTHER if found.wire == "other" else "no stream came")
    if not found.seqs:
        return broken("frames with one more part did not come through")
    lost = [name for name, value in SAID.items() if found.hello.get(name) != value]
    lost += [] if EXTRA in found.parts else ["the part that it does not know"]
    return broken(f"lost on the way: {', '.join(lost)}") if lost else holds("all of it came")


def played(e: Evidence) -> Verdict:
    """A stream for players."""
    found = e.trial("played").reading("player")
    if not found.greeting.startswith(PLAYED):
        return broken("the first line is no header of YUV4MPEG2" if found.bytes else "nothing came")
    return holds(found.greeting) if found.closed else broken("it was not closed at the end")


def attached(e: Evidence) -> Verdict:
    """What it says to its upstream when it attaches."""
    seen = e.trial("attached")
    if not seen.measured.get("attached"):
        return broken("it did not say so to its upstream")
    if CONSUME not in seen.fed.heard:
        return broken("it did not ask for frames when a consumer had come")
    if not seen.reading("consumer").served:
        return broken("its consumer was sent nothing")
    return holds("it said so, and asked for frames when a consumer had come")
