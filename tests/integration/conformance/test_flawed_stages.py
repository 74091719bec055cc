# SPDX-License-Identifier: MIT
"""Stages with a flaw each, as local processes: the check that is meant for it finds it out."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from operatord.conformance.bench import Bench
from operatord.conformance.checks import Finding, judged, passes
from operatord.conformance.examination import Terms, try_all
from operatord.conformance.subject import Asked, usual
from operatord.conformance.verdict import Evidence, Verdict
from operatord.core.subnets import SubnetPool
from operatord.engines.process.engine import ProcessEngine

SCRIPT = Path(__file__).with_name("flawed_stage.py")
TERMS = Terms(patience=15.0, grace=1.0)
AT_ONCE = 8
"""Flaws: a busy machine starts no more Python in time."""
EVERY_TRIAL = (
    "plain", "checked", "paused", "terminated", "bad-setting", "late-upstream", "no-upstream", "nonsense",
    "unknown-format", "broken-upstream", "late-bound", "shim",
)  # fmt: skip
FLAWS = {
    # flaw: the trial that shows it, beside the plain one, and the check that names it; the longest first
    "credulous": ("nonsense", "nonsense"),
    "ignores-settings": ("bad-setting", "bad-setting"),
    "stays": ("plain", "exit-0"),
    "floods": ("paused", "count"),
    "shouts": ("plain", "brief"),
    "serves-checks": ("plain", "check"),
    "no-hello": ("plain", "hello"),
    "miscounts": ("plain", "count"),
    "endless": ("plain", "end"),
    "hasty-hello": ("checked", "hello-after-upstream"),
    "hoards": ("paused", "back-pressure"),
    "gives-up": ("paused", "lossless"),
    "drops": ("paused", "lossless"),
    "deaf": ("terminated", "sigterm"),
    "tries-once": ("late-upstream", "late-upstream"),
    "takes-any-format": ("unknown-format", "unknown-format"),
    "covers-up": ("broken-upstream", "broken-upstream"),
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Finding]]:
    """The findings for each flaw. All are tried at once, as a trial waits for most of its time."""
    found = asyncio.run(_find(tmp_path_factory.mktemp("flawed")))
    if verdict(found["hoards"], "back-pressure").state == "holds":
        # On busy cores it may have had no turn to read on for as long as one that waits.
        found["hoards"] = asyncio.run(_find(tmp_path_factory.mktemp("again")))["hoards"]
    return found


async def _find(folder: Path) -> dict[str, list[Finding]]:
    engine = ProcessEngine(folder)
    bench = Bench(engine, "check-flawed", SubnetPool("10.213.0.0/16"))
    try:
        await bench.open()
        wanted = {flaw: ("plain", trial) for flaw, (trial, _) in FLAWS.items()}
        wanted |= {"none": EVERY_TRIAL, "refuses-to-wait": ("plain", "late-bound", "shim")}
        places = asyncio.Semaphore(AT_ONCE)
        found = await asyncio.gather(*(_try(bench, places, *each) for each in wanted.items()))
        return dict(zip(wanted, found, strict=True))
    finally:
        await bench.close()
        assert await engine.list_objects("check-flawed") == []
        await engine.close()


async def _try(
    bench: Bench, places: asyncio.Semaphore, flaw: str, trials: tuple[str, ...]
) -> list[Finding]:
    command = (sys.executable, "-ISu", str(SCRIPT), flaw)
    subject = usual(Asked("flawed", command=command), "filter")
    async with places:
        seen = await try_all(bench, subject, TERMS, dict.fromkeys(trials))
    return judged(Evidence(subject, seen, contained=False, grace=TERMS.grace))


def verdict(findings: list[Finding], name: str) -> Verdict:
    return next(each.verdict for each in findings if each.check.name == name)


def test_a_simple_stage_without_a_flaw_passes(found: dict[str, list[Finding]]) -> None:
    required = {e.check.name: e.verdict for e in found["none"] if e.check.required}
    assert [name for name, verdict in required.items() if verdict.state == "does not hold"] == []
    untold = {name for name, verdict in required.items() if verdict.state == "cannot be told"}
    # On busy cores a stage may still be reading up to its bound when the trial ends, which is said.
    assert untold - {"back-pressure"} == {"read-only", "nobody", "limits"}


@pytest.mark.parametrize("flaw", FLAWS)
def test_each_flaw_is_found_out(found: dict[str, list[Finding]], flaw: str) -> None:
    name = FLAWS[flaw][1]
    finding = next(each for each in found[flaw] if each.check.name == name)
    assert finding.verdict.state == "does not hold", finding.verdict
    assert finding.required
    assert finding.advice
    assert not passes(found[flaw])


@pytest.mark.parametrize("flaw", ["none", "refuses-to-wait"])
def test_a_stage_that_does_not_wait_is_to_have_a_shell_do_so(
    found: dict[str, list[Finding]], flaw: str
) -> None:
    said = verdict(found[flaw], "late-bind")
    assert said.state == "does not hold", said
    assert "write late_bind: shim" in said.advice


def test_what_floods_is_not_read_on(found: dict[str, list[Finding]]) -> None:
    """Neither by who reads at once, nor by who has paused."""
    for name in ("count", "lossless"):
        said = verdict(found["floods"], name)
        assert (said.state, "and was not read on" in said.seen) == ("does not hold", True), said


def test_a_hoarder_also_begins_without_a_consumer(found: dict[str, list[Finding]]) -> None:
    said = verdict(found["hoards"], "frames-wait")
    assert said.state == "does not hold", said


def test_a_hoarder_is_told_from_one_that_drops(found: dict[str, list[Finding]]) -> None:
    """By what its consumer gets in the end, and by the memory that it has taken."""
    lossless, held = verdict(found["hoards"], "lossless"), verdict(found["hoards"], "back-pressure")
    assert (lossless.state, "memory grew" in held.seen) == ("holds", True), (lossless, held)
    assert "memory grew" not in verdict(found["drops"], "back-pressure").seen
