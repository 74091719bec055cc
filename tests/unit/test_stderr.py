# SPDX-License-Identifier: MIT
"""What is written to standard error waits for its reader in a queue, and nobody waits for that."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest
from daemon_lab import PATIENCE

from operatord import logs
from operatord.settings.config import Logging
from operatord.stderr import BackgroundWriter

MOST = 1000
"""Bytes that may wait in these tests; at most as many are under way besides, and a line more of each."""


class Reader:
    """A pipe that is full, with a writer to it, and who reads if he likes."""

    def __init__(self) -> None:
        reads, writes = os.pipe()
        os.set_blocking(writes, False)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(writes, b"\n" * select.PIPE_BUF)
        os.set_blocking(writes, True)
        self.pipe = os.fdopen(reads, encoding="utf-8")
        self.stream = os.fdopen(writes, "w", encoding="utf-8")
        self.writer = BackgroundWriter(self.stream, MOST)

    def until(self, last: str) -> list[str]:
        """Read up to a line that contains ``last``; return those that have something in them."""
        found: list[str] = []
        while not found or last not in found[-1]:
            found += [line for line in [self.pipe.readline().rstrip("\n")] if line]
        return found


@pytest.fixture
def reader() -> Iterator[Reader]:
    reader = Reader()
    yield reader
    reader.pipe.close()  # who still writes is told that nobody reads
    reader.writer.close()
    assert reader.writer.finish(PATIENCE)
    reader.stream.close()


def test_what_waits_is_written_in_order_when_somebody_reads(reader: Reader) -> None:
    """A18"""
    for number in range(20):
        print("line", number, "é", file=reader.writer)
    assert reader.until("line 19") == [f"line {number} é" for number in range(20)]
    assert reader.writer.loss is None
    assert reader.writer.finish(PATIENCE)


def test_what_is_too_much_is_counted_and_told_where_it_is_missing(reader: Reader) -> None:
    """A18"""
    for number in range(MOST):
        print("line", number, file=reader.writer)
    expected = lost = 0
    while expected < MOST:
        [line] = reader.until("")
        if "lost" not in line:
            assert line == f"line {expected}"
            expected += 1
        else:
            assert line.endswith(" log records were lost: nobody read them")
            lost += int(line.split()[0])
            expected += int(line.split()[0])
    print("again", file=reader.writer)
    assert reader.until("again") == ["again"]
    assert reader.writer.loss is not None
    assert reader.writer.loss.records == lost


def test_last_words_do_not_wait_for_who_does_not_read(reader: Reader) -> None:
    """A18"""
    reader.writer.write("the end of a line is missing")
    assert not reader.writer.finish(0)
    print(file=reader.writer)
    reader.until("the end of a line is missing")
    assert reader.writer.finish(PATIENCE)


def test_reader_that_has_gone_holds_up_nobody(reader: Reader) -> None:
    """A18"""
    reader.pipe.close()
    for _ in range(MOST):
        print("line", file=reader.writer)
    assert reader.writer.finish(PATIENCE)


def test_what_others_made_non_blocking_loses_nothing(reader: Reader) -> None:
    """A18"""
    os.set_blocking(reader.stream.fileno(), False)
    print("line", file=reader.writer)
    assert reader.until("line") == ["line"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_loss_is_a_record_like_others_and_a_trouble(
    reader: Reader, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A18"""
    monkeypatch.setattr(sys, "stderr", reader.writer)
    root = logging.getLogger("operatord")
    before = root.handlers[:], root.level, root.propagate
    try:
        logs.configure(Logging(format=form))  # type: ignore[arg-type]
        assert logs.troubles() == []
        for number in range(MOST):
            root.info("line %d", number)
        [trouble] = logs.troubles()
        line = reader.until("were lost")[-1]
    finally:
        root.handlers[:], root.propagate = before[0], before[2]
        root.setLevel(before[1])
    assert 0 < trouble.times < MOST
    assert trouble.since <= trouble.last
    if form == "json":
        entry = json.loads(line)
        assert entry["level"] == "warning"
        line = entry["message"]
    else:
        assert " WARNING " in line
    assert re.search(r"\d+ log records were lost: nobody read them$", line)


PROGRAM = "import sys; from operatord import stderr; stderr.never_wait(); "


def test_traceback_of_a_crash_is_written_behind_what_came_before() -> None:
    """A18"""
    crash = "print('before', file=sys.stderr); raise RuntimeError('crash')"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + crash], capture_output=True, text=True, check=False
    )
    first, *_, last = done.stderr.splitlines()
    assert (done.returncode, first, last) == (1, "before", "RuntimeError: crash")


def test_crash_ends_though_nobody_reads_its_traceback(reader: Reader) -> None:
    """A18"""
    crash = "raise RuntimeError('crash')"
    command = [sys.executable, "-c", PROGRAM + crash]
    done = subprocess.run(command, stderr=reader.stream, check=False, timeout=PATIENCE)
    assert done.returncode == 1
