# SPDX-License-Identifier: MIT
"""Where the time of a pipelined ping goes: a daemon under load that looks at itself every few milliseconds.

    python tests/benchmarks/control_profile.py [--ahead N] [--seconds N]

Prints the processor time of one request, then the tree of calls with each one's share of it, the callees
within their callers. The looks are driven by processor time, so a busy machine does not bend the shares.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import linecache
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

sys.path.append(str(Path(__file__).with_name("sections")))

from control import BATCH, Load
from daemons import await_address, cpu_seconds, process, scratch

EVERY = 0.002
"""Seconds of processor time between two looks."""
LEAST = 0.01
"""Share under which a call is not shown."""
ROOT = "BaseEventLoop._run_once"

Stack = tuple[str, ...]


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--ahead", type=int, default=8, help=f"batches of {BATCH} on their way at once"
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve)
    requests, seconds, counts = measure(options.ahead, options.seconds)
    print(f"{requests:,} requests, {seconds / requests * 1e9:,.0f} ns of processor time for each\n")
    for line in tree(counts, seconds / requests * 1e9):
        print(line)
    return 0


def measure(ahead: int, seconds: float) -> tuple[int, float, Counter[Stack]]:
    """Return how many requests were answered, the processor seconds for them, and what was seen."""
    with scratch() as folder:
        log = folder / "log"
        command = (sys.executable, __file__, "--serve", str(folder))
        with process(*command, log=log) as child:
            done, used = _flood(await_address(child, log), child.pid, ahead, seconds)
        return done, used, Counter(dict(_seen(folder)))


def _flood(address: tuple[str, int], pid: int, ahead: int, seconds: float) -> tuple[int, float]:
    with contextlib.closing(Load.connect(address)) as load:
        load.batches(2 * ahead, ahead)
        done, used = 0, cpu_seconds(pid)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            load.batches(20 * ahead, ahead)
            done += 20 * ahead * BATCH
        return done, cpu_seconds(pid) - used


def _seen(folder: Path) -> Iterator[tuple[Stack, int]]:
    for stack, count in json.loads((folder / "seen.json").read_text("utf-8")):
        if ROOT in stack:
            yield tuple(stack[stack.index(ROOT) :]), count


def serve(folder: Path) -> int:
    """Run a daemon that notes what it is doing, until it is told to end."""
    from operatord.cli import main as operatord  # the parent needs none of it

    counts: Counter[Stack] = Counter()
    signal.signal(signal.SIGPROF, lambda _, frame: counts.update([_stack(frame)]))
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    place = ["--listen", "127.0.0.1:0", "--engine", "process", "--state-dir", str(folder)]
    code = operatord(["serve", *place])
    signal.setitimer(signal.ITIMER_PROF, 0)
    (folder / "seen.json").write_text(json.dumps([*counts.items()]), "utf-8")
    return code


def _stack(frame: FrameType | None) -> Stack:
    """Return what is being called, outermost first, and at the end the line that it is at."""
    names: list[str] = []
    if frame is not None:
        names.append(
            "» " + linecache.getline(frame.f_code.co_filename, frame.f_lineno or 0).strip()
        )
    while frame is not None:
        names.append(frame.f_code.co_qualname)
        frame = frame.f_back
    return tuple(reversed(names))


def tree(
    counts: Counter[Stack], nanoseconds: float, total: int | None = None, depth: int = 0
) -> Iterator[str]:
    """Yield a line for each call with a share that is worth it, largest first, callees indented."""
    total = total or counts.total()
    heads: Counter[str] = Counter()
    for stack, count in counts.items():
        if len(stack) > depth:
            heads[stack[depth]] += count
    for head, count in heads.most_common():
        share = count / total
        if share >= LEAST:
            yield f"{share:6.1%} {share * nanoseconds:6.0f} ns  {'  ' * depth}{head}"
            inner = {s: n for s, n in counts.items() if len(s) > depth and s[depth] == head}
            yield from tree(Counter(inner), nanoseconds, total, depth + 1)


if __name__ == "__main__":
    sys.exit(main())
