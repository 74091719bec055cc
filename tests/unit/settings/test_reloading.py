# SPDX-License-Identifier: MIT
"""Settings are read in a thread, one time after the other, and used in that order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from daemon_lab import PATIENCE, until

from operatord.settings.reloading import NEEDS_RESTART, Reloading
from operatord_protocol.errors import Conflict
from operatord_protocol.messages import Reloaded

README = (Path(__file__).parents[3] / "README.md").read_text("utf-8")


class File:
    """Settings on a slow disk: each reading waits until there is something to read."""

    def __init__(self) -> None:
        self.contents: SimpleQueue[str] = SimpleQueue()
        self.begun = 0
        self.used: list[str] = []
        self.threads: set[str] = set()
        self.reloading = Reloading(self._read, self._use)

    def _read(self) -> str:
        self.begun += 1
        self.threads.add(threading.current_thread().name)
        found = self.contents.get(timeout=PATIENCE)
        if found == "defect":
            raise RuntimeError(found)
        return found

    def _use(self, found: str) -> Reloaded:
        if found == "wrong":
            raise Conflict(f"nothing was changed: {found}")
        self.used.append(found)
        return Reloaded(reloaded=True, changed=[found])

    def ask(self) -> asyncio.Task[Reloaded]:
        return asyncio.create_task(self.reloading.reload())

    async def reading(self, number: int) -> None:
        """Return once it is read for that time."""
        await until(lambda: self.begun == number, "it is read")


@pytest.fixture
async def file() -> AsyncIterator[File]:
    file = File()
    yield file
    file.contents.put("")  # to a thread that waits
    file.reloading.close()


async def test_loop_goes_on_while_settings_are_read(file: File) -> None:
    """A1: somebody else is served meanwhile."""
    asked = file.ask()
    await file.reading(1)
    assert not asked.done()
    file.contents.put("one")
    assert (await asked).changed == ["one"]
    assert threading.current_thread().name not in file.threads


async def test_what_was_asked_for_while_it_was_read_is_read_once_more_and_used_later(
    file: File,
) -> None:
    """A1: the file may have changed; one more reading is enough for all."""
    first = file.ask()
    await file.reading(1)
    later = [file.ask() for _ in range(100)]
    file.contents.put("one")
    await file.reading(2)
    file.contents.put("two")
    assert (await first).changed == ["one"]
    assert {tuple(each.changed) for each in await asyncio.gather(*later)} == {("two",)}
    assert (file.begun, file.used) == (2, ["one", "two"])


async def test_wrong_settings_are_told_to_all_who_asked_and_the_next_are_used(file: File) -> None:
    asked = [file.ask(), file.ask()]
    file.contents.put("wrong")
    for each in asked:
        with pytest.raises(Conflict, match="nothing was changed"):
            await each
    file.contents.put("right")
    await file.ask()
    assert file.used == ["right"]


async def test_reading_goes_on_though_whoever_asked_has_gone(file: File) -> None:
    asked = file.ask()
    await file.reading(1)
    asked.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asked
    file.contents.put("one")
    await until(lambda: file.used == ["one"], "it is used")


@pytest.mark.parametrize(
    ("found", "said"), [("wrong", "nothing was changed: wrong"), ("defect", "broke")]
)
async def test_what_is_wrong_is_in_the_log_where_nobody_asked(
    file: File, caplog: pytest.LogCaptureFixture, found: str, said: str
) -> None:
    """At SIGHUP; once, however often that comes."""
    for _ in range(3):
        file.reloading.reload_unasked()
    file.contents.put(found)
    await until(lambda: said in caplog.text, "it is logged")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_nothing_is_used_after_the_end(file: File) -> None:
    file.reloading.reload_unasked()
    await file.reading(1)
    file.reloading.close()
    file.reloading.reload_unasked()
    file.contents.put("one")
    await asyncio.to_thread(file.reloading._thread.shutdown)
    await asyncio.sleep(0)
    assert (file.used, file.begun) == ([], 1)


def test_readme_names_what_takes_a_restart() -> None:
    row = next(line for line in README.splitlines() if "need a restart; a reload" in line)
    named = row.partition("successful reloads. ")[2].partition(" need a restart")[0]
    assert set(re.findall(r"`(\w+)`", named)) == NEEDS_RESTART
