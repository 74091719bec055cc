# SPDX-License-Identifier: MIT
"""`operatord simulate`: the same seed gives the same report, and nothing is lost, invented or overfull."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from typing import Any, get_args

import pytest

from operatord.core.resources import Vector
from operatord.core.scheduling.ledger import Ask
from operatord.core.scheduling.scheduler import Start, Submitted, decide
from operatord.simulation.meter import MARKS, Area, Timeline
from operatord.simulation.node import NodeChooser, Plan, PolicyName, capacity, make_nodes
from operatord.simulation.picture import draw, nice
from operatord.simulation.report import PolicyReport, jain, make_report
from operatord.simulation.run import Outcome, simulate
from operatord.simulation.trace import (
    MIX,
    Estimates,
    Job,
    Synthetic,
    arrival_rate,
    mean_seconds,
    synthetic,
    told,
)

MIB = 2**20
CAPACITY = capacity(cpus=16_000, memory=16 * 2**30, places=256)
SVG = "{http://www.w3.org/2000/svg}"


def job(at: float, owner: str = "a", cpus: int = 1000, seconds: float = 10.0) -> Job:
    return Job(at, owner, Vector(cpus=cpus, memory=MIB, sessions=1), seconds, 0, seconds)


def trace(sessions: int = 2000, **wanted: Any) -> list[Job]:
    return list(synthetic(Synthetic(sessions, CAPACITY, **wanted)))


def report(outcome: Outcome) -> dict[str, Any]:
    """Return what does not depend on the machine that the simulation runs on."""
    return {key: value for key, value in asdict(make_report(outcome)).items() if key != "cost"}


def both(jobs: list[Job]) -> tuple[PolicyReport, PolicyReport]:
    """Return what the daemon's own policy and plain first come, first served come to."""
    easy, fifo = (simulate(Plan(1, CAPACITY, policy), jobs) for policy in ("easy", "fifo"))
    return make_report(easy), make_report(fifo)


# The loop


@pytest.mark.parametrize("policy", get_args(PolicyName))
@pytest.mark.parametrize("nodes", [1, 7])
def test_each_job_is_started_and_ended_exactly_once(policy: Any, nodes: int) -> None:
    jobs = trace(1500, nodes=nodes)
    ended: Counter[Job] = Counter()

    def observe(each: Job, started: float, end: float) -> None:
        ended[each] += 1
        assert started >= each.at
        assert end == pytest.approx(started + 0.8 + each.seconds)

    outcome = simulate(Plan(nodes, CAPACITY, policy), jobs, observe)
    assert ended == Counter(jobs) and set(ended.values()) == {1}
    assert outcome.ended == outcome.sessions == len(outcome.waits) == len(jobs)
    assert outcome.decisions == 3 * len(jobs)
    assert not outcome.refused


@pytest.mark.parametrize("policy", get_args(PolicyName))
def test_nothing_is_ever_fuller_than_full(policy: Any) -> None:
    held: list[tuple[float, int, Job]] = []

    def observe(each: Job, started: float, end: float) -> None:
        held.extend([(started, 1, each), (end, -1, each)])

    outcome = simulate(Plan(1, CAPACITY, policy), trace(load=1.5), observe)
    used = [0] * len(CAPACITY)
    for _, sign, each in sorted(held, key=lambda step: step[:2]):
        used = [u + sign * n for u, n in zip(used, each.need, strict=True)]
        assert all(0 <= u <= c for u, c in zip(used, CAPACITY, strict=True))
    found = make_report(outcome)
    assert all(0 < part <= 1 for part in found.utilisation.values())
    whole = (16_000, 16 * 2**30, 256)
    for place, most in enumerate(whole):
        assert all(-1e-6 <= mean <= most * (1 + 1e-9) for mean in outcome.timeline.means(place))


def test_the_same_seed_gives_the_same_report() -> None:
    plan = Plan(3, CAPACITY)
    first, again = (report(simulate(plan, trace(seed=5, nodes=3))) for _ in range(2))
    assert first == again
    assert first != report(simulate(plan, trace(seed=6, nodes=3)))


def test_backfilling_fills_what_first_come_first_served_leaves() -> None:
    jobs = trace(8000)
    easy, fifo = both(jobs)
    assert easy.scarcest == fifo.scarcest == "cpus"
    assert easy.utilisation["cpus"] >= 0.95 > fifo.utilisation["cpus"]
    assert easy.wait.mean < fifo.wait.mean
    assert easy.jain >= 0.95
    assert easy.saturated


def test_who_floods_does_not_get_more_than_others() -> None:
    jobs = trace(6000, flood=10.0)
    assert Counter(each.owner for each in jobs).most_common(1)[0][0] == "owner-1"
    easy, fifo = both(jobs)
    assert easy.jain > 0.9
    assert fifo.jain < 0.5


def test_what_no_node_can_hold_is_refused_and_counted() -> None:
    outcome = simulate(Plan(1, CAPACITY), [job(0.0), job(1.0, cpus=17_000), job(2.0)])
    assert (outcome.ended, dict(outcome.refused)) == (2, {"never_fits": 1})


def test_a_full_queue_refuses() -> None:
    jobs = [job(0.0, cpus=16_000) for _ in range(4)]
    outcome = simulate(Plan(1, CAPACITY, queue=2), jobs)
    assert (outcome.ended, dict(outcome.refused)) == (3, {"queue_full": 1})


def test_waits_and_window_of_a_small_case() -> None:
    jobs = [job(0.0, "a", 16_000), job(1.0, "b", 16_000), job(5.0, "a", 16_000)]
    outcome = simulate(Plan(1, CAPACITY, start=1.0), jobs)
    assert list(outcome.waits) == [0.0, 10.0, 17.0]
    assert (outcome.longest_queue, outcome.end) == (2, 33.0)
    found = make_report(outcome)
    assert (found.window, found.saturated) == ((1.0, 5.0), True)
    assert found.utilisation["cpus"] == 1.0
    assert found.shares == {"a": 4.0, "b": 0.0}
    assert (found.wait.p50, found.wait.p99, found.wait.max) == (10.0, 17.0, 17.0)


def test_without_any_wait_the_window_is_all_there_was() -> None:
    found = make_report(simulate(Plan(1, CAPACITY, start=0.0), [job(0.0), job(10.0)]))
    assert (found.window, found.saturated) == ((0.0, 20.0), False)
    assert found.utilisation["cpus"] == pytest.approx(1 / 16)


def test_devices_are_taken_and_given_back() -> None:
    need = Vector(cpus=100, memory=MIB, gpus=1, sessions=1)
    jobs = [Job(0.0, "a", need, 10.0, 0, 10.0) for _ in range(4)]
    outcome = simulate(Plan(1, CAPACITY._replace(gpus=2), start=0.0), jobs)
    assert list(outcome.waits) == [0.0, 0.0, 10.0, 10.0]


@pytest.mark.parametrize("estimates", [Estimates(known=False), Estimates(noise=1.0)])
def test_estimates_may_be_wrong_or_missing(estimates: Estimates) -> None:
    jobs = trace()
    wrong = list(told(iter(jobs), estimates))
    assert all(a == b._replace(estimate=a.estimate) for a, b in zip(jobs, wrong, strict=True))
    assert all(each.estimate != each.seconds for each in wrong)
    assert simulate(Plan(1, CAPACITY), wrong).ended == len(jobs)


# The nodes


def test_two_choices_spread_sessions_better_than_one() -> None:
    jobs = trace(4000, nodes=20)
    longest = {}
    for choices in (1, 2):
        outcome = simulate(Plan(20, CAPACITY, choices=choices), jobs)
        longest[choices] = make_report(outcome)
    assert longest[2].longest_queue < longest[1].longest_queue
    assert longest[2].wait.p99 < longest[1].wait.p99


def test_a_session_goes_where_it_starts_at_once() -> None:
    busy, idle = nodes = make_nodes(Plan(2, CAPACITY))
    full = Ask("full", need=Vector(cpus=15_500, sessions=1))
    assert decide(busy.state, Submitted(full), 0.0) == [Start("full")]
    dispatcher = NodeChooser(nodes, 2, seed=1)
    chosen = {dispatcher.choose(Vector(cpus=1000, sessions=1), ()) for _ in range(50)}
    assert chosen == {idle}


def test_who_has_to_wait_goes_where_the_queue_is_shorter() -> None:
    nodes = make_nodes(Plan(2, CAPACITY))
    for number, node in enumerate((nodes[0], nodes[0], nodes[0], nodes[1], nodes[1])):
        ask = Ask(f"s{number}", need=Vector(cpus=16_000, sessions=1))
        decide(node.state, Submitted(ask), 0.0)
    dispatcher = NodeChooser(nodes, 2, seed=1)
    assert {dispatcher.choose(Vector(cpus=1), ()) for _ in range(50)} == {nodes[1]}


def test_equal_nodes_all_get_their_part() -> None:
    dispatcher = NodeChooser(nodes := make_nodes(Plan(10, CAPACITY)), 2, seed=1)
    chosen = Counter(dispatcher.choose(Vector(cpus=1), ()).number for _ in range(2000))
    assert len(chosen) == len(nodes)
    assert min(chosen.values()) > 100


# The synthetic trace


def test_the_load_is_the_one_that_was_asked_for() -> None:
    jobs = trace(40_000, load=0.9, nodes=3)
    demand = sum(each.need.cpus * (each.seconds + 0.8) for each in jobs)
    assert demand / (3 * 16_000 * jobs[-1].at) == pytest.approx(0.9, rel=0.05)


def test_the_mean_duration_is_the_one_that_is_reckoned_with() -> None:
    jobs = trace(40_000)
    assert sum(each.seconds for each in jobs) / len(jobs) == pytest.approx(mean_seconds(), rel=0.02)


def test_a_trace_has_all_sizes_owners_and_priorities() -> None:
    jobs = trace()
    assert {each.need for each in jobs} == {kind.need for kind in MIX}
    assert len({each.owner for each in jobs}) == 8
    assert {each.priority for each in jobs} == {0, 1, 5}
    assert all(a.at <= b.at for a, b in pairwise(jobs))


def test_a_node_too_small_for_everything_is_said() -> None:
    with pytest.raises(ValueError, match="no node is large enough"):
        arrival_rate(Synthetic(1, capacity(1, 1, 1)))


# Figures


@pytest.mark.parametrize(
    ("received", "index"),
    [([1, 1, 1, 1], 1.0), ([1, 0, 0, 0], 0.25), ([2, 1], 0.9), ([0, 0], 1.0), ([], 1.0)],
)
def test_jains_index_of_known_vectors(received: list[float], index: float) -> None:
    assert jain(received) == pytest.approx(index)


def test_an_area_is_what_was_held_times_how_long() -> None:
    area = Area((0,))
    area.step(Vector(cpus=3), 1, 2.0)
    area.step(Vector(cpus=1), 1, 4.0)
    area.step(Vector(cpus=3), -1, 5.0)
    assert area.until(10.0)[0] == 3 * 3 + 1 * 6


def test_a_timeline_keeps_the_mean_however_long_it_goes_on() -> None:
    timeline = Timeline(1)
    while timeline.next_mark < 100_000:
        timeline.mark([0.25 * timeline.next_mark])
    assert len(timeline.means(0)) <= MARKS
    assert timeline.means(0) == pytest.approx([0.25] * len(timeline.means(0)))


# The picture


def picture(jobs: list[Job], *policies: Any) -> ET.Element:
    outcomes = [simulate(Plan(1, CAPACITY, policy), jobs) for policy in policies]
    return ET.fromstring(draw(outcomes, [make_report(outcome) for outcome in outcomes]))


def test_the_picture_is_well_formed_and_labelled() -> None:
    svg = picture(trace(), "easy", "fifo")
    texts = {element.text or "" for element in svg.iter(f"{SVG}text")}
    assert {"easy", "fifo", "100%", "0%", "Requests that wait", "last arrival"} <= texts
    assert any(text.startswith("Utilisation of cpus") for text in texts)
    assert any(text.startswith("virtual time in ") for text in texts)


@pytest.mark.parametrize("jobs", [[job(0.0, cpus=17_000)], [job(0.0)], [job(0.0, seconds=0.0)] * 3])
def test_a_picture_of_next_to_nothing_stays_inside_its_frame(jobs: list[Job]) -> None:
    svg = picture(jobs, "easy")
    width, height = (float(x) for x in svg.attrib["viewBox"].split()[2:])
    for path in svg.iter(f"{SVG}path"):
        if path.attrib.get("fill") == "none":
            numbers = path.attrib["d"].replace("M", " ").replace("L", " ").split()
            assert all(0 <= float(x) <= width for x in numbers[::2])
            assert all(0 <= float(y) <= height for y in numbers[1::2])


def test_axes_end_at_nice_numbers() -> None:
    assert [nice(x) for x in (0, 0.7, 1, 3, 41, 600)] == [1, 1, 1, 4, 50, 1000]
