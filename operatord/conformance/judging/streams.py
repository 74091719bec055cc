# SPDX-License-Identifier: MIT
"""What follows from what consumers were sent."""

from __future__ import annotations

from operatord.conformance import pictures
from operatord.conformance.seen import Ending, Reading, Seen
from operatord.conformance.verdict import Evidence, Verdict, broken, holds, unknown

AT_ONCE = 3.0
"""Seconds after the upstream's hello in which a stage says its own, be the machine as busy as it may."""
FEW = 8
"""Frames that may be sent to whoever has connected, before a line is there that says what it is."""
READ_AHEAD = 5 * 2**19
"""Bytes that a stage may take for its first frame: what it reads at a time, and the kernel's buffer."""
_AS_LIVE = "as a live source may"
OTHER = "its port speaks another protocol than the stream format"


def ended(ending: Ending) -> str:
    """Return how a stage has ended, as a phrase."""
    if ending.oom:
        return "it was killed for want of memory"
    return "it still runs" if ending.code is None else f"it exited with {ending.code}"


def with_sentence(text: str, seen: Seen) -> str:
    """Return a phrase with the last thing that the stage has said to people."""
    return f"{text}; it said: {seen.sentence}" if seen.sentence else text


def hello(e: Evidence) -> Verdict:
    plain = e.trial("plain")
    found = plain.reading("check")
    if found.wire == "nothing":
        text = f"no hello came from port {e.subject.stage.port}; {ended(plain.ending)}"
        return broken(with_sentence(text, plain), _silence(e))
    if found.wire == "other":
        return holds(OTHER) if e.subject.kind == "sink" else broken(OTHER, _SINK)
    if not found.is_greeted:
        return broken(f"its first line is no hello: {found.fault or dict(found.hello)}")
    return _soon(e, found)


def _silence(e: Evidence) -> str:
    """Return what to do about a stage that says no hello; empty where there is nothing special."""
    plain = e.trial("plain")
    if plain.ending.code is not None:
        return "see why it ends; settings that it needs are given by --env, --stage and --upstream"
    if e.subject.has_upstream and not plain.fed.connections:
        return _NOT_CONNECTED.format(e.subject.before[-1])
    return ""


_NOT_CONNECTED = (
    "it has not connected to its upstream either: see that it reads {0}_ip and {0}_port (or give --upstream) "
    "and that no firewall of this machine blocks the engine's networks"
)
_SINK = "if it is to speak another protocol to viewers, check it with --kind sink"


def _soon(e: Evidence, found: Reading) -> Verdict:
    late = e.trial("checked").measured.get("hello after the upstream's")
    if late is None:
        return holds(f"{_said(found)}")
    text = f"{_said(found)}, {late * 1000:.0f} ms after the upstream's"
    return holds(text) if late <= AT_ONCE else broken(text, minor=True)


def _said(found: Reading) -> str:
    said = found.hello
    return f"{said.get('width')}×{said.get('height')} {said.get('format', 'gray8')}"


def hello_after_upstream(e: Evidence) -> Verdict:
    early = e.trial("checked").measured.get("bytes before the upstream's hello")
    if early is None:
        return unknown("it did not connect to its upstream")
    return broken(f"{early:.0f} bytes came before") if early else holds("nothing came before")


def brief(e: Evidence) -> Verdict:
    """What a stage says to its upstream, in any trial."""
    flooded = [name for name, seen in e.trials.items() if seen.fed.flooded]
    if flooded:
        return broken(f"it said more than an upstream reads, in the trial {flooded[0]!r}")
    if not e.trial("plain").fed.connections:
        return unknown("it did not connect to its upstream")
    return holds(f"{len(e.trial('plain').fed.heard)} characters")


def frames_wait(e: Evidence) -> Verdict:
    plain = e.trial("plain")
    if plain.measured.get("watched before a consumer", 0) > FEW:
        return broken("a spectator was sent frames before there was a consumer")
    taken = plain.measured.get("taken before a consumer")
    if taken is None:
        return unknown("it has no upstream to read from")
    text = f"{taken / 2**20:.1f} MiB were read before there was a consumer"
    return holds(text) if taken <= READ_AHEAD else broken(text)


def check(e: Evidence) -> Verdict:
    plain = e.trial("plain")
    found, silent = plain.reading("check"), plain.reading("silent")
    if found.wire == "other":
        return broken("a check was sent more than a greeting") if found.served else _counted(plain)
    if len(found.seqs) > FEW or found.end is not None:
        return broken(f"a check was sent {len(found.seqs)} frames")
    if silent.wire == "nothing":
        return broken(f"nobody could connect after a check; {ended(plain.ending)}")
    return _after_check(found, silent, e)


def _after_check(found: Reading, silent: Reading, e: Evidence) -> Verdict:
    """Judge by which frame the first consumer after a check begins with."""
    if not silent.seqs:
        return unknown("no frames came")
    began = f"began with frame {silent.seqs[0]}"
    if silent.seqs[0] == 0:
        return holds(f"the next consumer {began}")
    if _skips(silent, e) and not found.served and len(silent.seqs) == pictures.FRAMES:
        return holds(f"the next consumer got all that it asked for; it {began}, {_AS_LIVE}")
    return broken(f"the consumer after a check {began}")


def checked(e: Evidence) -> Verdict:
    seen = e.trial("checked")
    first, second = seen.reading("first"), seen.reading("second")
    if first.wire != "json":
        return unknown(OTHER if first.wire == "other" else "no hello came")
    if early := seen.measured.get("frames before the check"):
        return broken(f"{early:.0f} frames were sent before the daemon's check")
    if seen.reading("check").wire == "nothing":
        return broken("the check itself got no hello")
    if len(seen.reading("check").seqs) > FEW:
        return broken("the check was sent frames")
    if not (first.seqs and second.seqs):
        return broken("no frames came after the check")
    began = {first.seqs[0], second.seqs[0]}
    return holds("nobody before it got any") if began == {0} else broken(f"{_both(first, second)}")


def _both(first: Reading, second: Reading) -> str:
    return (
        f"consumers that had come before it began with frames {first.seqs[0]} and {second.seqs[0]}"
    )


def silent(e: Evidence) -> Verdict:
    found = e.trial("plain").reading("silent")
    if found.wire == "other":
        return holds("it was sent data") if found.bytes else broken("it was sent nothing")
    if found.first_after is None:
        return broken("a consumer that said nothing was sent no frame")
    text = f"the first frame came after {found.first_after * 1000:.0f} ms"
    return holds(text) if found.first_after <= AT_ONCE else broken(text, minor=True)


def frames(e: Evidence) -> Verdict:
    """Exactly ``count`` of them, well-formed and in order."""
    found = e.trial("plain").reading("silent")
    if found.wire == "other":
        return _counted(e.trial("plain"))
    if found.fault:
        return broken(f"after {len(found.seqs)} frames: {found.fault}")
    if list(found.seqs) == list(range(pictures.FRAMES)):
        return holds(f"{pictures.FRAMES} of {pictures.FRAMES}")
    if _skips(found, e) and len(found.seqs) == pictures.FRAMES:
        return holds(f"{pictures.FRAMES} of {pictures.FRAMES}, with gaps, {_AS_LIVE}")
    begun = f", the first of them {found.seqs[0]}" if found.seqs and found.seqs[0] else ""
    gaps = "" if found.is_gapless else ", with gaps"
    return broken(f"{len(found.seqs)} of {pictures.FRAMES}{begun}{gaps}")


def _counted(seen: Seen) -> Verdict:
    """Judge a stage that speaks another protocol by what it says itself."""
    if seen.counted == pictures.FRAMES:
        return holds(f"its last report counts {seen.counted} of {pictures.FRAMES}")
    return unknown(
        f"{OTHER}, and its last report counts {seen.counted} of {pictures.FRAMES} frames"
    )


def end(e: Evidence) -> Verdict:
    found = e.trial("plain").reading("silent")
    if found.wire == "other":
        return holds("closed") if found.closed else broken("the connection was not closed")
    if found.end is None:
        return broken("the connection was closed without it" if found.closed else "it did not come")
    if found.end[0] != len(found.seqs):
        return broken(f"it says {found.end[0]} frames, and {len(found.seqs)} came")
    return (
        holds(f"{found.end[0]} frames") if found.closed else broken("no close follows", minor=True)
    )


def second(e: Evidence) -> Verdict:
    """All that two consumers are sent of which one is slow."""
    seen = e.trial("checked")
    for name in ("first", "second"):
        found = seen.reading(name)
        if found.wire == "other":
            return unknown(OTHER)
        if not _is_whole(found, e) or found.end is None:
            return broken(f"the {name} consumer: {_loss(found)}")
    return _compared(seen.reading("first"), seen.reading("second"))


def _is_whole(found: Reading, e: Evidence) -> bool:
    """Tell whether a consumer got all that there was: a live source may skip frames for all alike."""
    return bool(found.seqs) and not found.fault and (found.is_gapless or _skips(found, e))


def _skips(found: Reading, e: Evidence) -> bool:
    """Tell whether frames may be missing because a live source waits for nobody."""
    return e.subject.kind == "probe" and found.is_in_order


def _compared(first: Reading, slow: Reading) -> Verdict:
    """Judge by the frames since both were there."""
    if slow.seqs[-1:] != first.seqs[-1:]:
        return broken(f"the slow one ended with frame {slow.seqs[-1:]}")
    if first.is_gapless and slow.is_gapless:
        return holds("both got every frame")
    both = max(first.seqs[0], slow.seqs[0])
    if [each for each in first.seqs if each >= both] != [
        each for each in slow.seqs if each >= both
    ]:
        return broken("one got frames that the other did not get")
    return holds(f"both got the same frames, with gaps, {_AS_LIVE}")


def _loss(found: Reading) -> str:
    if found.fault:
        return found.fault
    if not found.seqs:
        return "it was sent no frames" if found.hello else "it was sent no hello"
    return "it lost frames" if not found.is_gapless else "it got no end"


def watch(e: Evidence) -> Verdict:
    plain = e.trial("plain")
    found = plain.reading("check")
    if found.wire == "other":
        return unknown(OTHER)
    if found.hello.get("watch") is not True:
        return broken("its hello does not say so")
    if plain.measured.get("watched before a consumer", 0) > FEW:
        return broken("frames began for a spectator alone")
    watched = plain.reading("spectator")
    if watched.fault:
        return broken(f"after {len(watched.seqs)} frames: {watched.fault}")
    return holds(f"{len(watched.seqs)} frames") if watched.seqs else broken("it was sent no frames")


def listening(e: Evidence) -> Verdict:
    said = [line for line in e.trial("plain").lines if line.get("type") == "listening"]
    return holds("printed") if said else broken("no such line")


def report(e: Evidence) -> Verdict:
    said = [line for line in e.trial("plain").lines if line.get("type") == "report"]
    if not said:
        return broken("no such line")
    wanted = ("frames", "dropped", "consumers", "blocked", "every")
    if lacking := [name for name in wanted if not isinstance(said[-1].get(name), int | float)]:
        return broken(f"the last one has no {', '.join(lacking)}")
    if said[-1]["frames"] != pictures.FRAMES:
        return broken(f"the last one counts {said[-1]['frames']} of {pictures.FRAMES} frames")
    return holds(f"{len(said)}, the last with {said[-1]['frames']} frames")


def late_upstream(e: Evidence) -> Verdict:
    seen = e.trial("late-upstream")
    found = seen.reading("consumer")
    if found.wire == "nothing":
        return broken(with_sentence(f"no stream came; {ended(seen.ending)}", seen))
    if found.wire == "json" and list(found.seqs) != list(range(pictures.FRAMES)):
        return broken(f"{len(found.seqs)} of {pictures.FRAMES} frames came")
    return holds(f"at the {seen.fed.connections}. connection that was taken")
