# SPDX-License-Identifier: MIT
"""What is said of a stage follows from what was seen, and from nothing else."""

from __future__ import annotations

import json

import msgspec
import pytest

from operatord.conformance import pictures, report
from operatord.conformance.checks import CHECKS, Finding, judged, passes
from operatord.conformance.seen import Ending, Fed, Reading, Seen
from operatord.conformance.subject import Address, Asked, Kind, configured_as, problems, usual
from operatord.conformance.verdict import Evidence, State
from operatord.core.pipelines import shipped
from operatord.core.sources.adapters import shipped_adapters
from operatord.engines.base import LogLine

ALL = tuple(range(pictures.FRAMES))
HELLO = {"type": "hello", "width": 256, "height": 256, "watch": True}
GREETED = Reading("json", HELLO, hello_after=0.01)
WHOLE = Reading("json", HELLO, 0.01, ALL, 0.02, (pictures.FRAMES, 0), closed=True, served=True)
PASSED = msgspec.structs.replace(
    WHOLE, hello={**HELLO, **pictures.SAID}, parts=("image", pictures.EXTRA)
)
PLAYED = Reading("other", greeting="YUV4MPEG2 W256 H256 F30:1", closed=True, bytes=99)
DONE = Ending(0, 0.1)
REPORT = {"type": "report", "frames": 64, "dropped": 0, "consumers": 1, "blocked": 1, "every": 1}


def said(*lines: object) -> list[LogLine]:
    return [LogLine(time="", stream="stdout", line=json.dumps(line)) for line in lines]


def exits(code: int, sentence: str = "because") -> Seen:
    return Seen(ending=Ending(code), output=[LogLine(time="", stream="stderr", line=sentence)])


def good() -> dict[str, Seen]:
    """A filter in which everything is right."""
    return {**good_streams(), **good_flows(), **good_ends()}


def good_streams() -> dict[str, Seen]:
    plain = Seen(
        {"check": GREETED, "silent": WHOLE, "spectator": WHOLE},
        Fed(1, 64, 2**22, ended=True),
        DONE,
        said({"type": "listening"}, REPORT),
        {"taken before a consumer": 2.0**20, "watched before a consumer": 0},
    )
    measured = {
        "bytes before the upstream's hello": 0.0,
        "frames before the check": 0.0,
        "hello after the upstream's": 0.01,
    }
    readings = {"first": WHOLE, "second": WHOLE, "check": GREETED}
    return {"plain": plain, "checked": Seen(readings, ending=DONE, measured=measured)}


def good_flows() -> dict[str, Seen]:
    few = msgspec.structs.replace(WHOLE, seqs=(0, 1), end=(2, 62))
    measured = {"held": 2.0**20, "memory before": 2.0**23, "memory after": 2.0**23}
    fed = Fed(1, 64, ended=True)
    return {
        "paused": Seen({"consumer": WHOLE}, fed, DONE, said(REPORT), measured),
        "late-upstream": Seen({"consumer": WHOLE}, Fed(3)),
        "live": Seen({"consumer": few}, fed, measured={"passed": True}),
        "live-consumer": Seen({"reader": WHOLE}, Fed(1, 64)),
    }


def good_ends() -> dict[str, Seen]:
    return {
        "terminated": Seen({"consumer": GREETED}, ending=Ending(143, 0.1)),
        "late-bound": Seen({"consumer": WHOLE}, ending=DONE),
        "unneeded": exits(0),
        "bad-setting": exits(2),
        "no-upstream": exits(3),
        "nonsense": exits(4),
        "unknown-format": exits(4),
        "broken-upstream": exits(4),
        "leaving": Seen({"consumer": GREETED}, Fed(ended=True), Ending(5)),
        "passing": Seen({"consumer": PASSED}),
        "played": Seen({"player": PLAYED}),
        "attached": Seen(
            {"consumer": WHOLE}, Fed(heard='{"type":"consume"}'), measured={"attached": True}
        ),
    }


def findings(
    trials: dict[str, Seen], kind: Kind = "filter", *, contained: bool = True
) -> list[Finding]:
    return judged(Evidence(usual(Asked("some"), kind), trials, contained))


def state(found: list[Finding], name: str) -> State:
    return next(each.verdict.state for each in found if each.check.name == name)


def changed(trial: str, reading: str = "", **what: object) -> dict[str, Seen]:
    """Return the good trials, of which one, or one of its connections, has seen something else."""
    trials = good()
    seen = trials[trial]
    if reading:
        other = msgspec.structs.replace(seen.readings[reading], **what)
        what = {"readings": {**seen.readings, reading: other}}
    elif measured := what.pop("measured", None):
        assert isinstance(measured, dict)
        what["measured"] = {**seen.measured, **measured}
    return trials | {trial: msgspec.structs.replace(seen, **what)}


def test_where_all_is_right_everything_holds() -> None:
    found = findings(good())
    assert [e.check.name for e in found if e.verdict.state != "holds"] == []
    assert passes(found)


BAD = {
    # check: the good trials with one thing that is not
    "hello": changed("plain", "check", wire="json", hello={"type": "welcome"}),
    "hello-after-upstream": changed("checked", measured={"bytes before the upstream's hello": 9}),
    "brief": changed("plain", fed=Fed(1, 64, 2**22, ended=True, flooded=True)),
    "frames-wait": changed("plain", measured={"taken before a consumer": 2.0**22}),
    "check": changed("plain", "silent", seqs=ALL[1:]),
    "checked": changed("checked", measured={"frames before the check": 1}),
    "silent": changed("plain", "silent", first_after=None),
    "count": changed("plain", "silent", seqs=ALL[:-1]),
    "end": changed("plain", "silent", end=None),
    "exit-0": changed("plain", ending=Ending(None)),
    "second-consumer": changed("checked", "second", seqs=(0, 2)),
    "back-pressure": changed("paused", measured={"memory after": 2.0**25}),
    "lossless": changed("paused", "consumer", seqs=(0, 2), end=(2, 0)),
    "late-upstream": changed("late-upstream", "consumer", wire="nothing"),
    "sigterm": changed("terminated", ending=Ending(137, 2.0)),
    "limits": changed("paused", ending=Ending(137, oom=True)),
    "bad-setting": changed("bad-setting", ending=Ending(None)),
    "no-upstream": changed("no-upstream", ending=Ending(0)),
    "broken-upstream": changed("broken-upstream", readings={"consumer": WHOLE}),
    "nonsense": changed("nonsense", ending=Ending(None)),
    "unknown-format": changed("unknown-format", readings={"consumer": WHOLE}),
    "left": changed("leaving", ending=Ending(0)),
    "live": changed("live", measured={"passed": False}),
    "live-consumer": changed("live-consumer", "reader", end=None),
    "passes-on": changed("passing", "consumer", parts=("image",)),
    "y4m": changed("played", "player", greeting="{}"),
    "attached": changed("attached", measured={"attached": False}),
    "late-bind": changed("late-bound", "consumer", seqs=(0, 1, 2)),
    "unneeded": changed("unneeded", ending=Ending(None)),
    "watch": changed("plain", "check", hello={**HELLO, "watch": False}),
    "listening": changed("plain", output=said(REPORT)),
    "report": changed("plain", output=said({**REPORT, "frames": 63})),
    "blocked": changed("paused", output=said({**REPORT, "blocked": 0})),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_with_what_to_do(name: str) -> None:
    found = next(each for each in findings(BAD[name]) if each.check.name == name)
    assert found.verdict.state == "does not hold", found.verdict
    assert found.advice
    assert passes([found]) is not found.check.required


def test_a_flood_on_a_check_is_no_fault_of_the_hello() -> None:
    seqs = tuple(range(99))
    found = findings(changed("plain", "check", seqs=seqs, fault="it sent more than 98 frames"))
    assert (state(found, "hello"), state(found, "check")) == ("holds", "does not hold")


def test_a_slow_filter_is_not_said_to_wait_for_its_consumers() -> None:
    """It read on for as long as it was waited for."""
    slow = changed("live", measured={"passed": False, "still reading": True})
    assert state(findings(slow), "live") == "cannot be told"


def test_every_check_has_a_trial_that_it_fails_in() -> None:
    only_without_hello = {"read-only", "nobody"}
    assert {check.name for check in CHECKS} == {*BAD, *only_without_hello}


def test_of_a_stage_without_hello_the_rest_is_not_tried() -> None:
    found = findings({"plain": exits(1)})
    states = {each.check.name: each.verdict.state for each in found}
    assert states.pop("hello") == "does not hold"
    assert set(states.values()) == {"cannot be told"}
    assert not passes(found)


@pytest.mark.parametrize(
    ("comes_up", "blamed"),
    [
        ("writable", {"read-only"}),
        ("as-root", {"nobody"}),
        ("roomy", {"limits"}),
    ],
)
def test_the_bound_is_blamed_without_which_a_stage_comes_up(
    comes_up: str, blamed: set[str]
) -> None:
    relaxed = {name: exits(1) for name in ("writable", "as-root", "roomy")}
    relaxed[comes_up] = Seen({"check": GREETED})
    found = findings({"plain": exits(1), **relaxed})
    bounds = {"read-only", "nobody", "limits"}
    assert {name for name in bounds if state(found, name) == "does not hold"} == blamed


def test_local_processes_tell_nothing_of_bounds() -> None:
    found = findings(good(), contained=False)
    names = {"read-only", "nobody", "limits"}
    assert {state(found, name) for name in names} == {"cannot be told"}
    assert passes(found)


def test_a_probe_with_a_live_source_may_have_gaps() -> None:
    gaps = (*ALL[:-1], pictures.FRAMES)
    trials = changed("plain", "silent", seqs=gaps) | {
        "paused": changed("paused", "consumer", seqs=gaps)["paused"]
    }
    assert passes([e for e in findings(trials, "probe") if e.check.name in ("count", "lossless")])
    assert state(findings(trials), "count") == "does not hold"


def test_what_a_live_source_skips_before_its_first_consumer_is_not_put_down_to_the_check() -> None:
    """Its pictures of the time before anybody came are old; all that were asked for came."""
    late = changed("plain", "silent", seqs=tuple(n + 3 for n in ALL))
    assert state(findings(late, "probe"), "check") == "holds"
    assert state(findings(late), "check") == "does not hold"
    few = changed("plain", "silent", seqs=ALL[3:])
    assert state(findings(few, "probe"), "check") == "does not hold"
    sent = {**late["plain"].readings, "check": msgspec.structs.replace(GREETED, served=True)}
    to_check = late | {"plain": msgspec.structs.replace(late["plain"], readings=sent)}
    assert state(findings(to_check, "probe"), "check") == "does not hold"


def test_a_live_source_may_skip_frames_for_all_its_consumers_alike() -> None:
    def both(first: tuple[int, ...], second: tuple[int, ...]) -> dict[str, Seen]:
        seen = changed("checked", "first", seqs=first)["checked"]
        slow = msgspec.structs.replace(WHOLE, seqs=second)
        readings = {**seen.readings, "second": slow}
        return good() | {"checked": msgspec.structs.replace(seen, readings=readings)}

    alike, later = both((0, 2, 5), (0, 2, 5)), both((0, 2, 5), (2, 5))
    assert {state(findings(each, "probe"), "second-consumer") for each in (alike, later)} == {
        "holds"
    }
    for each, kind in ((both((0, 2, 5), (0, 5)), "probe"), (alike, "filter")):
        assert state(findings(each, kind), "second-consumer") == "does not hold"


def test_a_probe_that_sends_too_little_to_be_held_up_cannot_be_told() -> None:
    moving = said({**REPORT, "blocked": 0, "frames": 1}, {**REPORT, "blocked": 0, "frames": 2})
    trials = changed("paused", output=moving)
    assert state(findings(trials, "probe"), "blocked") == "cannot be told"
    assert state(findings(trials), "blocked") == "does not hold"


def test_another_exit_code_is_no_reason_to_fail_and_none_is() -> None:
    assert passes(findings(changed("no-upstream", ending=Ending(1))))
    assert not passes(findings(changed("no-upstream", ending=Ending(None))))


def test_a_sink_may_speak_another_protocol() -> None:
    other = Reading("other", hello_after=0.01, bytes=9, closed=True)
    seen = Seen({"check": other, "silent": other}, Fed(1, 64), DONE, said(REPORT))
    found = findings({"plain": seen}, "sink")
    assert {state(found, name) for name in ("hello", "check", "count", "end")} == {"holds"}
    assert state(findings({"plain": seen}), "hello") == "does not hold"


@pytest.mark.parametrize(
    ("seen", "shim", "wanted"),
    [(WHOLE, None, "native"), (Reading(), WHOLE, "shim"), (Reading(), Reading(), "off")],
)
def test_the_way_of_late_binding_is_what_works(
    seen: Reading, shim: Reading | None, wanted: str
) -> None:
    trials = good() | {"late-bound": Seen({"consumer": seen})}
    if shim is not None:
        trials["shim"] = Seen({"consumer": shim})
    evidence = Evidence(usual(Asked("some"), "filter"), trials)
    text = "\n".join(report.lines(evidence, judged(evidence), every_why=False))
    assert f"settings: late_bind: {wanted}" in text
    assert report.as_json(evidence, judged(evidence))["late_bind"] == wanted
    assert ("DOES NOT HOLD" in text) is (wanted != "native")


def test_a_configured_image_is_the_stage_that_it_is_there() -> None:
    subject = configured_as(Asked("demo-stream:latest", env={"a": "b"}), shipped(), {})
    assert subject is not None
    assert (subject.kind, subject.name, subject.before) == ("filter", "stream", ("probe",))
    own, upstream = Address("here", 1), Address("there", 2)
    env = subject.environment(own, upstream, {"count": "3"})
    wanted = {"stream_ip": "here", "stream_port": "1", "probe_ip": "there", "probe_port": "2"}
    assert env.items() >= {**wanted, "a": "b", "count": "3", "OPERATORD_UPSTREAM": "probe"}.items()
    assert configured_as(Asked("nothing-like-it"), shipped(), {}) is None


def test_an_adapter_is_a_probe_with_the_settings_of_its_scheme() -> None:
    camera = Asked("operatord-camera", env={"source_url": "v4l2:/dev/video0"})
    subject = configured_as(camera, {}, shipped_adapters())
    assert subject is not None
    assert (subject.kind, subject.name, subject.configured) == ("probe", "probe", "sources.v4l2")
    assert subject.stage.late_bind == "native"


def test_variables_of_the_check_itself_are_refused() -> None:
    assert len(problems(Asked("some", env={"count": "1", "mine": "2"}))) == 1
    assert problems(Asked("some", kind="probe", upstream="x"))
