# SPDX-License-Identifier: MIT
"""Talk to a daemon in lines that are nearly requests, millions of them, and look for what it does wrong.

    tools/fuzz [--rounds LINES] [--seconds TIME] [--seed NUMBER] [--own] [--processes NUMBER]

With atheris, where it is installed, lines are those that reach new code; else, or with ``--own``, they are
made by `mutations`. Several processes, one for each core, share the lines, each with a daemon and a seed of
its own. Ends with code 1 at the first thing that is wrong, and says after which lines. At the end neither
descriptors nor memory may be more than they were after the first tenth, in any process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

LINES = 200
"""Lines of a conversation."""
AT_ONCE = 60
"""Conversations at the same time: in each, some requests wait for a second."""
SOME = 20
"""Lines of each conversation that atheris begins with."""
CUTS = 4
GROWTH = 32 * 1024**2
"""Bytes by which memory may be more at the end than after the first tenth."""

LONGEST = 1 << 24
"""Bytes of a line that a process may say: it shows the lines after which something was wrong."""


class Campaign:
    """Counts, measures, and says when it is over."""

    def __init__(self, rounds: int, seconds: float) -> None:
        self._rounds, self._seconds = rounds, seconds
        self._begun = time.monotonic()
        self._tenth: tuple[int, int] | None = None
        self._tenths = 0
        self.lines = self.conversations = 0

    @property
    def done(self) -> float:
        """How much of it is done, 1 being all."""
        taken = time.monotonic() - self._begun
        return max(self.lines / self._rounds, taken / self._seconds if self._seconds else 0.0)

    def count(self, lines: int) -> bool:
        """Count a conversation; return whether another tenth of all is done."""
        self.lines += lines
        self.conversations += 1
        return int(self.done * 10) > self._tenths

    def look(self) -> bool:
        """Measure after a tenth, when nobody is connected; return whether it goes on."""
        self._tenths = int(self.done * 10)
        self._tenth = self._tenth or measured()
        self._say()
        return self.done < 1

    def _say(self) -> None:
        taken = time.monotonic() - self._begun
        descriptors, memory = measured()
        print(
            f"{self.lines:>10} lines, {self.conversations} conversations, {taken:.0f} s, "
            f"{self.lines / taken:.0f} lines/s, {descriptors} descriptors, {memory / 1024**2:.1f} MiB",
            flush=True,
        )

    def verdict(self, *, memory_counts: bool) -> int:
        """Say what has become more, and return the exit code."""
        before, after = self._tenth or measured(), measured()
        print(f"nothing was answered wrongly in {self.lines} lines")
        print(
            f"since the first tenth: {after[0] - before[0]:+} descriptors, "
            f"{(after[1] - before[1]) / 1024**2:+.1f} MiB"
        )
        grown = after[0] > before[0] or (memory_counts and after[1] - before[1] > GROWTH)
        return int(grown)


def measured() -> tuple[int, int]:
    """Return this process's descriptors and bytes of memory, garbage apart."""
    gc.collect()
    process = psutil.Process()
    return process.num_fds(), process.memory_info().rss


async def own(campaign: Campaign, seed: int, folder: Path) -> None:
    """Have lines made by `mutations` until it is over."""
    from conversation import Finding, target
    from mutations import Mutations

    made = Mutations(seed)
    async with target(folder) as daemon:
        goes_on = True
        while goes_on:
            tenth = await asyncio.gather(
                *(talk_for_a_tenth(campaign, daemon, made) for _ in range(AT_ONCE)),
                return_exceptions=True,
            )
            for found in tenth:
                if isinstance(found, Finding):
                    print(f"{found}\nfewer lines that do the same are looked for", flush=True)
                    await daemon.converse(await daemon.shrunk(found.lines))
                if found is not None:
                    raise found
            await daemon.left()
            goes_on = campaign.look()


async def talk_for_a_tenth(campaign: Campaign, daemon: Any, made: Any) -> None:
    """Have one conversation after the other until another tenth of all is done. Raises `Finding`."""
    over = False
    while not over:
        lines = made.lines(LINES)
        cuts = made.cuts(CUTS, sum(map(len, lines)) // 2)
        over = campaign.count(await daemon.converse(lines, cuts))


async def talk(campaign: Campaign, daemon: Any, lines: list[bytes]) -> bool:
    """Have one conversation; return whether more are to come."""
    if not campaign.count(await daemon.converse(lines)):
        return True
    await daemon.left()
    return campaign.look()


def guided(campaign: Campaign, seed: int, folder: Path) -> None:
    """Have lines made by atheris, which looks for those that reach new code. Does not return."""
    import atheris

    with atheris.instrument_imports(include=["operatord.control", "operatord_protocol"]):
        import conversation
        import mutations

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    stack = contextlib.AsyncExitStack()
    daemon = loop.run_until_complete(
        stack.enter_async_context(conversation.target(folder / "state"))
    )

    def one(data: bytes) -> None:
        if not loop.run_until_complete(talk(campaign, daemon, data.split(b"\n"))):
            code = campaign.verdict(memory_counts=False)
            loop.run_until_complete(stack.aclose())
            sys.stdout.flush()
            os._exit(code)  # libFuzzer knows no other end that is none of its own

    corpus = folder / "corpus"
    corpus.mkdir()
    for number in range(0, len(mutations.KNOWN), SOME):
        (corpus / str(number)).write_bytes(b"\n".join(mutations.KNOWN[number : number + SOME]))
    words = folder / "words"
    words.write_text("".join(_quoted(piece) for piece in mutations.PIECES))
    atheris.Setup(
        [sys.argv[0], f"-seed={seed}", f"-dict={words}", "-max_len=8192", "-len_control=0",
         "-print_final_stats=0", "-verbosity=0", "-timeout=60", "-rss_limit_mb=0", str(corpus)],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def _quoted(piece: bytes) -> str:
    return '"' + "".join(f"\\x{byte:02x}" for byte in piece) + '"\n'


def arguments() -> Any:
    """Return what was asked for."""
    parser = argparse.ArgumentParser(
        prog="tools/fuzz", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=10_000_000, help="lines (10 million)")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after so long; 0: never")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="the same lines again")
    parser.add_argument("--own", action="store_true", help="make the lines without atheris")
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--processes", type=int, default=cores, help="at once (one for each core)")
    return parser.parse_args()


async def side_by_side(wanted: Any) -> int:
    """Share a campaign among processes; end all of them once one has found something, and return its code."""
    share = -(-wanted.rounds // wanted.processes)
    running = [
        asyncio.ensure_future(_one_of_them(wanted, share, number))
        for number in range(wanted.processes)
    ]
    try:
        for ended in asyncio.as_completed(running):
            if code := await ended:
                return code
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    return 0


async def _one_of_them(wanted: Any, rounds: int, number: int) -> int:
    """Run one of several processes, pass on what it says, each line with its number; return its exit code."""
    own = ["--own"] if wanted.own else []
    given = {
        "rounds": rounds,
        "seconds": wanted.seconds,
        "seed": wanted.seed + number,
        "processes": 1,
    }
    options = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, *options, *own,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        limit=LONGEST,
    )  # fmt: skip
    assert process.stdout
    try:
        async for line in process.stdout:
            print(f"{number}: {line.decode(errors='replace')}", end="", flush=True)
        return await process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def main() -> int:
    """Run a campaign; return 0 when nothing was found."""
    wanted = arguments()
    if wanted.processes > 1:
        return asyncio.run(side_by_side(wanted))
    campaign = Campaign(wanted.rounds, wanted.seconds)
    is_guided = not wanted.own and importlib.util.find_spec("atheris") is not None
    print(f"lines by {'atheris' if is_guided else 'mutation'}, seed {wanted.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="operatord-fuzz-") as folder:
        if is_guided:
            guided(campaign, wanted.seed, Path(folder))
        asyncio.run(own(campaign, wanted.seed, Path(folder) / "state"))
    return campaign.verdict(memory_counts=True)


if __name__ == "__main__":
    sys.exit(main())
