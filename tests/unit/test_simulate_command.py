# SPDX-License-Identifier: MIT
"""`operatord simulate` as a command, and the traces that it reads and writes."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operatord.cli import main
from operatord.core.resources import Vector
from operatord.simulation.recorded import TraceError, read, write
from operatord.simulation.report import PolicyReport
from operatord.simulation.trace import Job

MIB = 2**20
SVG = "{http://www.w3.org/2000/svg}"


# The recorded trace


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1e6),
            st.text(min_size=1, max_size=5),
            st.integers(0, 64_000),
            st.integers(0, 2**40),
            st.floats(0, 1e6),
            st.integers(-10, 10),
            st.none() | st.floats(0, 1e6),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[float, str, int, int, float, int, float | None]],
) -> None:
    jobs = [
        Job(at, owner, Vector(cpus=cpus, memory=memory, gpus=1, sessions=1), seconds, level, told_)
        for at, owner, cpus, memory, seconds, level, told_ in sorted(rows, key=lambda row: row[0])
    ]
    path = tmp_path_factory.mktemp("trace") / "jobs.jsonl"
    assert write(path, jobs) == len(jobs)
    assert list(read(path)) == jobs


def test_moments_and_sizes_may_be_written_as_people_do(tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    line = '{"at":"%s","owner":"a","seconds":12.5,"need":{"cpus":0.5,"memory":"96MiB"}}\n'
    path.write_text(line % "2024-05-01T12:00:00Z" + "\n" + line % "2024-05-01T14:01:30.5+02:00")
    first, second = read(path)
    assert first == Job(0.0, "a", Vector(500, 96 * MIB, sessions=1), 12.5, 0, 12.5)
    assert second.at == 90.5
    assert second.need is first.need


GOOD = '{"at":1.0,"owner":"a","seconds":1,"need":{}}'
BAD = {
    "{": "not JSON",
    "[]": "the line: expected an object",
    '{"at":1.0,"owner":"a","seconds":1}': "need: missing",
    '{"at":1.0,"owner":"a","seconds":1,"need":{},"colour":1}': "colour: unknown",
    '{"at":1.0,"owner":"a","seconds":1,"need":{"cpu":1}}': "need.cpu: unknown; known are cpus,",
    '{"at":1.0,"owner":"a","seconds":1,"need":3}': "need: expected an object",
    '{"at":1.0,"owner":"a","seconds":1,"need":{"memory":"9 lots"}}': "need.memory: expected bytes",
    '{"at":1.0,"owner":"a","seconds":1,"need":{"cpus":true}}': "need.cpus: expected cores",
    '{"at":1.0,"owner":"a","seconds":1,"need":{"gpus":-1}}': "need.gpus: expected a whole number",
    '{"at":1.0,"owner":"","seconds":1,"need":{}}': "owner: expected a name",
    '{"at":1.0,"owner":"a","seconds":-1,"need":{}}': "seconds: expected seconds from 0",
    '{"at":1.0,"owner":"a","seconds":NaN,"need":{}}': "NaN is not a number",
    '{"at":1.0,"owner":"a","seconds":1e999,"need":{}}': "seconds: expected seconds",
    '{"at":1.0,"owner":"a","seconds":1,"priority":11,"need":{}}': "priority: expected a whole",
    '{"at":0.5,"owner":"a","seconds":1,"need":{}}': "at: earlier than the line before",
    '{"at":"2024-05-01T12:00:00Z","owner":"a","seconds":1,"need":{}}': "at: either all lines",
    '{"at":"noon","owner":"a","seconds":1,"need":{}}': "at: expected a moment",
    '{"at":"2024-05-01T12:00:00","owner":"a","seconds":1,"need":{}}': "needs its offset",
    "[" * 60_000: "not JSON",
    " " * 70_000 + GOOD: "longer than 65536 bytes",
    f'{{"at":{"9" * 400},"owner":"a","seconds":1,"need":{{}}}}': "at: expected seconds",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}\n", "utf-8")
    with pytest.raises(TraceError) as caught:
        list(read(path))
    assert f"{path}: line 2: " in str(caught.value)
    assert BAD[line] in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\n"])
def test_a_file_without_jobs_is_said(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"no job in it|line 1: not JSON"):
        list(read(path))


# The command


def test_the_command_prints_figures_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--sessions", "500", "--compare"]) == 0
    text = capsys.readouterr().out
    for words in ("utilisation of cpus", "(the scarcest)", "wait, p99", "Jain's index", "easy"):
        assert words in text


def test_the_command_prints_one_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "--sessions", "300", "--nodes", "3", "--flood", "--json", "--compare"]
    assert main(command) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["policies"]) == {"easy", "fifo"}
    assert found["policies"]["easy"]["ended"] == 300
    assert found["capacity"]["cpus"] == 16
    assert set(found["policies"]["fifo"]) == set(PolicyReport.__dataclass_fields__)


def test_a_written_trace_gives_the_same_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, found = tmp_path / "jobs.jsonl", []
    assert main(["simulate", "--sessions", "400", "--write-trace", str(path)]) == 0
    assert "400 jobs written" in capsys.readouterr().out
    for options in (["--sessions", "400"], ["--trace", str(path)]):
        assert main(["simulate", "--json", *options]) == 0
        easy = json.loads(capsys.readouterr().out)["policies"]["easy"]
        del easy["cost"]
        found.append(easy)
    assert found[0] == found[1]


def test_the_command_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "picture.svg"
    assert main(["simulate", "--sessions", "300", "--picture", str(path)]) == 0
    assert ET.parse(path).getroot().tag == f"{SVG}svg"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--nodes 0", "--nodes is from 1 to 1,000, got 0"),
        ("--sessions 0", "--sessions is from 1"),
        ("--cpus nan", "--cpus is from 0.001"),
        ("--load -1", "--load is from 0.001"),
        ("--memory lots", "--memory: expected bytes"),
        ("--ageing soon", "--ageing: expected seconds"),
        ("--memory 3", "no node is large enough"),
        ("--trace /nowhere/t.jsonl", "/nowhere/t.jsonl: No such file"),
        ("--trace /nowhere/t.jsonl --load 1", "--load is about a synthetic trace"),
        ("--write-trace /nowhere/t.jsonl", "/nowhere/t.jsonl: No such file"),
        ("--write-trace t.jsonl --json", "--write-trace writes the trace and simulates nothing"),
        ("--picture /nowhere/p.svg", "/nowhere/p.svg: there is no such directory"),
        ("--compare --policy fifo", "--compare puts fifo beside"),
        ("--noise 1 --no-estimates", "--noise is about estimates"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(
    options: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", *options.split()]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("operatord: ") and words in said.err
    assert not said.out


def test_a_bad_line_of_a_trace_is_named_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "jobs.jsonl"
    path.write_text(f"{GOOD}\nnonsense\n", "utf-8")
    assert main(["simulate", "--trace", str(path)]) == 2
    assert f"{path}: line 2: not JSON" in capsys.readouterr().err
