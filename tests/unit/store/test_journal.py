# SPDX-License-Identifier: MIT
"""The journal on real files: what is noted outlives the daemon, whatever becomes of the disk."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock, Mock

import msgspec
import pytest
from daemon_lab import PATIENCE, until
from hypothesis import given, settings
from hypothesis import strategies as st

from operatord.store import journal as module
from operatord.store import journal_file, schema
from operatord.store.journal import EVENTS_KEPT, Journal, Retention
from operatord.store.journal_file import JournalFailed
from operatord.store.reader import JournalReader, reading
from operatord.store.schema import UNKNOWN_PAST, SessionRow, WrongVersion

PLENTY = Retention(1000, 1e9)


def row(
    name: str,
    *,
    created: float = 0.0,
    ended: float | None = None,
    owner: str = "anna",
    key: str | None = None,
    data: bytes = b"{}",
) -> SessionRow:
    phase = "running" if ended is None else "ended"
    return SessionRow(name, phase, owner, key, created, ended, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@asynccontextmanager
async def opened(path: Path, retention: Retention = PLENTY, **more: Any) -> AsyncIterator[Journal]:
    journal = Journal(path, retention, **more)
    try:
        yield journal
    finally:
        await journal.close()


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[Journal]:
    async with opened(path) as journal:
        yield journal


@pytest.fixture
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY", 0.01)


def names(rows: list[SessionRow]) -> list[str]:
    return [each.id for each in rows]


def files(path: Path) -> set[str]:
    return {each.name for each in path.parent.iterdir()}


# What is noted


async def test_what_was_noted_is_there_after_reopening(path: Path) -> None:
    living, ended = row("A", created=1.0, key="k"), row("B", created=2.0, ended=3.0)
    async with opened(path) as journal:
        journal.note_session(ended)
        journal.note_session(living)
        journal.note_event(7, {"type": "session.running", "seq": 7})
        journal.note_probe("scope", b'{"port":1}')
        journal.note_fact("learned", b"[1]")
    async with opened(path) as again:
        assert again.living() == [living]
        assert again.ended("B") == ended
        assert list(again.events()) == [(7, {"type": "session.running", "seq": 7})]
        assert again.probes() == {"scope": b'{"port":1}'}
        assert again.fact("learned") == b"[1]"
        assert again.fact("unheard of") is None


async def test_later_note_replaces_the_earlier_one(path: Path) -> None:
    async with opened(path) as journal:
        for settle in (True, False):
            journal.note_session(row("A", data=b"1"))
            journal.note_fact("f", b"1")
            if settle:
                await journal.settled()
            journal.note_session(row("A", data=b"2"))
            journal.note_fact("f", b"2")
    async with opened(path) as again:
        assert [each.data for each in again.living()] == [b"2"]
        assert again.fact("f") == b"2"


async def test_living_sessions_come_in_the_order_in_which_they_were_made(path: Path) -> None:
    async with opened(path) as journal:
        for name, created in (("C", 3.0), ("A", 1.0), ("B", 2.0)):
            journal.note_session(row(name, created=created))
    async with opened(path) as again:
        assert names(again.living()) == ["A", "B", "C"]


async def test_probes_are_forgotten_changed_and_kept_in_order(path: Path) -> None:
    async with opened(path) as journal:
        for name in ("z", "m", "a"):
            journal.note_probe(name, b"1")
        await journal.settled()
        journal.note_probe("m", None)
        journal.note_probe("z", b"2")
        journal.note_probe("never there", None)
    async with opened(path) as again:
        assert again.probes() == {"a": b"1", "z": b"2"}
        again.note_probe("a", None)
        again.note_probe("a", b"3")
        await again.settled()
        assert again.probes()["a"] == b"3"


URL = "rtsp://ada:geheim@cam:554/geheim/1?x=1&geheim"
SHOWN = URL.replace("ada:geheim@", "")
"""As an earlier version showed it: nothing that has no name was known for a secret."""
OF_CAMERA = {
    "plan": {"source": {"name": "cam", "url": URL}, "subnet": "198.18.0.0/28"},
    "log_tails": {
        "probe": [{"line": f"cam: {SHOWN}: it has gone"}, {"line": "see http://other/geheim"}]
    },
    "result": {"reason": f"nothing answers at {SHOWN}"},
}
OF_FILE = {"plan": {"source": {"name": "scan", "url": 'file:/srv/a"b.mkv'}}, "fps": 25.0}


async def scrubbed(path: Path, *rows: SessionRow, reason: str = "") -> tuple[list[SessionRow], str]:
    """Return rows, and the reason of an event, as they are read from a file that an earlier version left."""
    async with opened(path) as journal:
        for each in rows:
            journal.note_session(each)
        journal.note_event(1, {"type": "session.ended", "reason": reason})
        await journal.settled()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("DELETE FROM fact WHERE name = 'sources_scrubbed'")
        db.execute("INSERT OR IGNORE INTO fact VALUES ('scrubbed', 'true')")
    async with opened(path) as journal:
        [(_, event)] = journal.events()
        found = [journal.ended(each.id) or journal.living()[0] for each in rows]
    return found, event["reason"]


async def test_where_sources_of_ended_sessions_were_is_gone(path: Path) -> None:
    data = msgspec.json.encode(OF_CAMERA)
    ended, lives = row("ended", ended=1.0, data=data), row("lives", data=data)
    [gone, kept], reason = await scrubbed(path, ended, lives, reason=f"no answer from {SHOWN}")
    assert msgspec.json.decode(gone.data) == {
        "plan": {"source": {"name": "cam", "url": "rtsp:"}, "subnet": "198.18.0.0/28"},
        "log_tails": {
            "probe": [
                {"line": "cam: rtsp://cam:554/***: it has gone"},
                {"line": "see http://other/geheim"},
            ]
        },
        "result": {"reason": "nothing answers at rtsp://cam:554/***"},
    }
    assert reason == "no answer from rtsp://cam:554/***"
    assert kept.data == data, "its adapter needs them"
    assert b"geheim/1" in (raw := path.read_bytes()), "of the session that lives"
    assert raw.count(b"geheim@") == 1


async def test_odd_rows_of_sources_are_scrubbed_as_far_as_they_go(path: Path) -> None:
    file = row("file", ended=1.0, data=msgspec.json.encode(OF_FILE))
    torn = row("torn", ended=1.0, data=msgspec.json.encode(OF_CAMERA)[:60])
    [of_file, of_camera], _ = await scrubbed(path, file, torn)
    assert msgspec.json.decode(of_file.data)["plan"]["source"] == {"name": "scan", "url": "file:"}
    assert of_camera.data == b'{"plan":{"source":{"name":"cam","url":"rtsp:'


async def test_newest_events_are_kept(path: Path) -> None:
    async with opened(path) as journal:
        for seq in range(1, EVENTS_KEPT + 6):
            journal.note_event(seq, {"type": "x", "seq": seq})
    async with opened(path) as again:
        assert [seq for seq, _ in again.events()] == list(range(6, EVENTS_KEPT + 6))


async def test_text_of_any_kind_comes_back_as_it_was(path: Path) -> None:
    odd = row("A", owner="Zoë\n'; DROP TABLE session; --\0", key="ключ", data=bytes(range(256)))
    async with opened(path) as journal:
        journal.note_session(odd)
        journal.note_event(1, {"type": "x", "reason": "½\0\n"})
    async with opened(path) as again:
        assert again.living() == [odd]
        assert list(again.events()) == [(1, {"type": "x", "reason": "½\0\n"})]


# Commits


class Slow:
    """Holds up what the journal's thread does, and counts what it has done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on, self.commits = threading.Event(), threading.Event(), 0
        self.committed = threading.Event()
        monkeypatch.setattr(module, "hit", self.hit)

    def hit(self, name: str) -> None:
        if name == "journal.commit.before":
            self.reached.set()
            assert self.go_on.wait(PATIENCE)
        else:
            self.commits += 1
            self.committed.set()


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


async def test_what_is_noted_during_a_commit_is_committed_together(
    slow: Slow, journal: Journal
) -> None:
    journal.note_fact("first", b"")
    await until(slow.reached.is_set, "the first commit has begun")
    for number in range(500):
        journal.note_session(row(f"S{number}"))
        journal.note_event(number + 1, {"type": "x"})
    slow.go_on.set()
    await journal.settled()
    assert slow.commits == 2
    assert len(journal.living()) == 500


async def test_settled_waits_for_what_is_being_committed_and_for_what_came_later(
    slow: Slow, journal: Journal
) -> None:
    await journal.settled()
    journal.note_fact("one", b"1")
    await until(slow.reached.is_set, "the first commit has begun")
    journal.note_fact("two", b"2")
    waiting = asyncio.ensure_future(journal.settled())
    await asyncio.wait((waiting,), timeout=0.02)
    assert not waiting.done()
    slow.go_on.set()
    await waiting
    assert (journal.fact("one"), journal.fact("two")) == (b"1", b"2")


async def test_one_who_gives_up_waiting_does_not_stop_the_commit(
    slow: Slow, journal: Journal
) -> None:
    journal.note_fact("one", b"1")
    impatient = asyncio.ensure_future(journal.settled())
    await until(slow.reached.is_set, "the commit has begun")
    impatient.cancel()
    await asyncio.wait((impatient,))
    slow.go_on.set()
    await journal.settled()
    assert journal.fact("one") == b"1"


async def test_loop_goes_on_while_the_disk_takes_its_time(slow: Slow, journal: Journal) -> None:
    journal.note_session(row("A", ended=1.0))
    await until(slow.reached.is_set, "the commit has begun")
    for number in range(1000):
        journal.note_session(row(f"B{number}", created=number, ended=2.0))
    assert names(journal.history(None, 3)) == ["B999", "B998", "B997"]
    slow.go_on.set()
    await journal.settled()


# Memories


async def test_ended_sessions_are_seen_before_they_are_committed(
    slow: Slow, journal: Journal
) -> None:
    flying = row("F", created=1.0, ended=2.0, key="key", data=b"flying")
    noted = row("N", created=3.0, ended=4.0, key="key", data=b"noted")
    journal.note_session(flying)
    await until(slow.reached.is_set, "the commit has begun")
    assert journal.by_key("anna", "key") == flying
    journal.note_session(noted)
    journal.note_session(row("L", created=5.0, key="key"))
    assert (journal.ended("F"), journal.ended("N")) == (flying, noted)
    assert journal.ended("L") is None, "it has not ended"
    assert journal.history(None, 10) == [noted, flying]
    assert journal.by_key("anna", "key") == noted
    assert journal.ended_count() == 2
    slow.go_on.set()
    await journal.settled()
    assert (journal.ended("F"), journal.ended("N")) == (flying, noted)
    assert journal.history(None, 10) == [noted, flying]
    assert journal.by_key("anna", "key") == noted
    assert journal.ended_count() == 2


async def test_end_that_is_committed_while_ends_are_counted_counts_once(
    slow: Slow, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.note_session(row("F", ended=2.0))
    await until(slow.reached.is_set, "the commit has begun")
    file = journal._reading

    def look(*query: Any) -> MagicMock:
        """Look at the file just before the commit is through; the next look is after it."""
        found = file.execute(*query).fetchall()
        slow.go_on.set()
        assert slow.committed.wait(PATIENCE)
        cursor = MagicMock(fetchone=lambda: found[0])
        cursor.__iter__.return_value = found
        return cursor

    monkeypatch.setattr(journal, "_reader", JournalReader(Mock(execute=look)))
    assert journal.ended_count() == 1
    assert slow.committed.is_set()


async def test_history_is_newest_first_by_owner_and_no_longer_than_asked(journal: Journal) -> None:
    for number in range(6):
        owner = "anna" if number % 2 else "ben"
        journal.note_session(row(f"S{number}", created=number, ended=10.0 - number, owner=owner))
        if number == 3:
            await journal.settled()
    assert names(journal.history(None, 4)) == ["S5", "S4", "S3", "S2"]
    assert names(journal.history("anna", 10)) == ["S5", "S3", "S1"]
    assert journal.history("carl", 10) == []


async def test_key_belongs_to_its_owner_and_the_newest_counts(journal: Journal) -> None:
    journal.note_session(row("A", created=1.0, ended=9.0, key="k"))
    journal.note_session(row("B", created=2.0, ended=3.0, key="k"))
    journal.note_session(row("C", created=4.0, ended=5.0, key="k", owner="ben"))
    await journal.settled()
    assert (found := journal.by_key("anna", "k")) is not None
    assert found.id == "B"
    assert (found := journal.by_key("ben", "k")) is not None
    assert found.id == "C"
    assert journal.by_key("anna", "other") is None


async def test_only_so_many_ended_sessions_are_kept(path: Path) -> None:
    async with opened(path, Retention(3, 1e9)) as journal:
        journal.note_session(row("L", created=0.0))
        for number in range(1, 6):
            journal.note_session(row(f"S{number}", created=number, ended=10.0 + number))
            await journal.settled()
        assert names(journal.history(None, 10)) == ["S5", "S4", "S3"]
        assert journal.ended("S2") is None
        assert journal.ended_count() == 3
        assert names(journal.living()) == ["L"], "what lives is kept however old it is"


async def test_of_those_that_ended_at_the_same_moment_as_many_are_kept(path: Path) -> None:
    async with opened(path, Retention(3, 1e9)) as journal:
        for number in range(5):
            journal.note_session(row(f"S{number}", created=number, ended=10.0))
        await journal.settled()
        assert names(journal.history(None, 10)) == ["S4", "S3", "S2"]


async def test_no_ended_session_is_kept_longer_than_wanted(path: Path) -> None:
    async with opened(path, Retention(100, 60.0)) as journal:
        journal.note_session(row("old", created=1.0, ended=100.0))
        journal.note_session(row("L", created=2.0))
        await journal.settled()
        journal.note_session(row("new", created=3.0, ended=159.0))
        await journal.settled()
        assert names(journal.history(None, 10)) == ["new", "old"]
        journal.note_session(row("newer", created=4.0, ended=161.0))
        await journal.settled()
        assert names(journal.history(None, 10)) == ["newer", "new"]
        assert names(journal.living()) == ["L"]


# Files that cannot be used


async def filled(path: Path) -> bytes:
    """Make a journal with something of everything; return its bytes."""
    async with opened(path) as journal:
        for number in range(20):
            ended = None if number % 2 else float(number)
            data = b'{"some":"data"}' * 20
            journal.note_session(
                row(f"S{number}", created=number, ended=ended, key=f"k{number}", data=data)
            )
            journal.note_event(number + 1, {"type": "x", "seq": number + 1})
        journal.note_probe("p", b"{}")
        journal.note_fact("f", b"1")
    return path.read_bytes()


async def works(path: Path) -> None:
    """Check that everything can be asked and written, and is kept."""
    async with opened(path) as journal:
        journal.living(), journal.history(None, 10), journal.by_key("anna", "k1")
        journal.probes(), journal.fact("f"), journal.ended_count(), list(journal.events())
        journal.note_session(row("fresh", created=99.0, ended=1e6))
        journal.note_event(1000, {"type": "fresh"})
        await journal.settled()
    async with opened(path) as again:
        assert again.ended("fresh") is not None
        assert list(again.events())[-1] == (1000, {"type": "fresh"})


def garbage(good: bytes) -> bytes:
    return b"this is not a database\n" * 100


def cut(good: bytes) -> bytes:
    return good[: len(good) // 2]


def cut_short(good: bytes) -> bytes:
    return good[:50]


def damaged_page(good: bytes) -> bytes:
    return good[:4096] + bytes(4096) + good[8192:]


def damaged_index(good: bytes) -> bytes:
    return good.replace(b"k13", b"k99", 1)


def of_no_version(good: bytes) -> bytes:
    return good[:60] + (-3).to_bytes(4, "big", signed=True) + good[64:]


def without_its_version(good: bytes) -> bytes:
    return good[:60] + bytes(4) + good[64:]


def somebody_elses(good: bytes) -> bytes:
    return good.replace(b"request_key", b"request_koy")


def without_its_numbers(good: bytes) -> bytes:
    return good.replace(b"seq INTEGER PRIMARY", b"seq INTEGAR PRIMARY")


DAMAGES = [
    garbage, cut, cut_short, damaged_page, damaged_index, of_no_version, without_its_version,
    somebody_elses,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
async def test_file_that_cannot_be_used_is_put_aside_and_a_new_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    bad = damage(await filled(path))
    path.write_bytes(bad)
    async with opened(path) as journal:
        assert journal.living() == []
        [record] = [each for each in caplog.records if each.levelno == logging.ERROR]
        [aside] = [name for name in files(path) if "unreadable" in name]
        assert "cannot be read" in record.message
        assert aside in record.message
        assert path.with_name(aside).read_bytes() == bad
    await works(path)


async def test_log_of_a_file_that_cannot_be_used_goes_with_it(path: Path) -> None:
    path.write_bytes(garbage(b""))
    path.with_name("journal.sqlite-wal").write_bytes(b"its log")
    path.with_name("journal.sqlite-shm").write_bytes(b"its index")
    async with opened(path) as journal:
        journal.note_fact("f", b"1")
        await journal.settled()
        [aside] = [name for name in files(path) if name[-1].isdigit()]
        assert path.with_name(f"{aside}-wal").read_bytes() == b"its log"
        assert path.with_name(f"{aside}-shm").read_bytes() == b"its index"
        assert journal.fact("f") == b"1"


@pytest.mark.parametrize("version", [2, 99, 2**31 - 1])
async def test_newer_file_is_refused_and_left_as_it_is(path: Path, version: int) -> None:
    """F8: also when the newer version is only in its log."""
    journal = Journal(path, PLENTY)
    journal.note_fact("f", b"1")
    await journal.settled()
    journal._connection.execute(f"PRAGMA user_version = {version}")
    (folder := path.parent / "left").mkdir()
    copied(path, left := folder / path.name)
    await journal.close()
    before = contents(left)
    with pytest.raises(JournalFailed, match="newer operatord") as refused:
        Journal(left, PLENTY)
    assert f"version {version}," in str(refused.value)
    assert str(left) in str(refused.value)
    assert contents(left) == before
    with closing(sqlite3.connect(left)) as kept:
        assert kept.execute("SELECT data FROM fact WHERE name = 'f'").fetchone() == (b"1",)


def contents(path: Path) -> dict[str, bytes]:
    """Return what all files beside a journal hold, but the index of its log, which is made anew."""
    found = path.parent.iterdir()
    return {each.name: each.read_bytes() for each in found if not each.name.endswith("-shm")}


async def test_fresh_file_says_that_its_past_is_unknown(path: Path) -> None:
    """F8: what runs may have been in another file; one that has been read through says nothing."""
    async with opened(path) as journal:
        assert journal.fact(UNKNOWN_PAST) == b"true"
        journal.note_fact(UNKNOWN_PAST, b"false")
    async with opened(path) as again:
        assert again.fact(UNKNOWN_PAST) == b"false"
    path.write_bytes(garbage(b""))
    async with opened(path) as another:
        assert another.fact(UNKNOWN_PAST) == b"true"


async def test_flipped_bit_anywhere_never_keeps_the_daemon_from_working(path: Path) -> None:
    good = await filled(path)
    chance = random.Random(20260101)
    for _ in range(150):
        for each in path.parent.iterdir():
            each.unlink()
        # The first page has the header and the tables' definitions, where most harm can be done.
        place = chance.randrange(100, chance.choice((4096, len(good))))
        bad = bytearray(good)
        bad[place] ^= 1 << chance.randrange(8)
        path.write_bytes(bad)
        await works(path)


async def test_event_that_cannot_be_read_is_left_out(path: Path) -> None:
    async with opened(path) as journal:
        for seq in range(1, 4):
            journal.note_event(seq, {"type": "x"})
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE event SET data = ? WHERE seq = 2", (b"{",))
    async with opened(path) as again:
        assert [seq for seq, _ in again.events()] == [1, 3]


async def test_what_a_row_said_is_kept_aside_as_long_as_its_session_is_remembered(
    path: Path,
) -> None:
    odd = bytes(range(256))
    async with opened(path, Retention(1, 1e9)) as journal:
        for name in ("A", "B"):
            journal.note_session(row(name, data=odd))
            aside = journal.keep_aside(row(name, data=odd))
            journal.note_session(row(name, ended=2.0 if name == "A" else None))
        await journal.settled()
        assert journal.fact("unreadable.A") == odd, "it is the session's own row that is replaced"
        assert (aside, journal.fact(aside)) == ("unreadable.B", odd)
        journal.note_fact("unreadable", b"another fact")
        journal.note_session(row("C", ended=3.0))
    async with opened(path) as again:
        assert again.ended("A") is None
        assert again.fact("unreadable.A") is None
        assert again.fact("unreadable.B") == odd
        assert again.fact("unreadable") == b"another fact"


async def test_torn_log_loses_only_what_was_not_settled(path: Path) -> None:
    async with opened(path) as journal:
        journal.note_fact("a", b"1")
        await journal.settled()
        settled = path.with_name("journal.sqlite-wal").stat().st_size
        journal.note_fact("a", b"2")
        await journal.settled()
        copied(path, torn := path.with_name("torn"))
    log = torn.with_name("torn-wal")
    log.write_bytes(log.read_bytes()[: settled + 100])
    async with opened(torn) as again:
        assert again.fact("a") == b"1"


def a_directory(path: Path) -> None:
    path.mkdir()


def a_named_pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("make", [a_directory, a_named_pipe])
@pytest.mark.parametrize("name", ["journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"])
async def test_what_stands_in_the_place_of_a_file_is_named_and_left_there(
    path: Path, make: Callable[[Path], None], name: str
) -> None:
    """F8: and nobody waits for who writes into it."""
    async with opened(path) as journal:
        journal.note_session(row("one"))
    at = path.with_name(name)
    if at.exists():
        at.rename(path.with_name("moved"))
    make(at)
    kind = make.__name__.replace("_", " ")
    expected = f"{kind} is in the place of the file {name}; move it away"
    with pytest.raises(JournalFailed, match=expected):
        Journal(path, PLENTY)
    with pytest.raises(sqlite3.Error, match=expected):
        journal_file.connect_to_read(path)
    assert not at.is_file()
    assert "unreadable" not in str(files(path))


async def test_path_that_cannot_be_opened_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "journal.sqlite"
    with pytest.raises(JournalFailed, match="the journal cannot be used: unable to open") as caught:
        Journal(path, PLENTY)
    assert str(path) in str(caught.value)
    assert not path.parent.exists()


async def test_file_that_another_keeps_locked_is_not_put_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await filled(path)
    monkeypatch.setattr(journal_file, "BUSY", 0.01)
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(JournalFailed, match="locked"):
            Journal(path, PLENTY)
    await works(path)
    assert not [name for name in files(path) if "unreadable" in name]


# A disk that is full


def let_grow(journal: Journal, pages: int) -> None:
    """Have the disk take no more than so many further pages."""
    (now,) = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {now + pages}")


BIG = b"x" * 50_000


@pytest.mark.usefixtures("quick_retry")
async def test_full_disk_is_said_once_and_nothing_is_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    heard: list[str | None] = []
    async with opened(path, on_trouble=heard.append) as journal:
        journal.note_session(row("A", data=b"before"))
        await journal.settled()
        let_grow(journal, 2)
        journal.note_session(row("B", data=BIG))
        for number in range(3):
            with pytest.raises(JournalFailed, match="disk is full"):
                await journal.settled()
            journal.note_session(row("C", created=1.0 + number, ended=5.0, data=BIG))
        assert heard == [journal.problem]
        assert "disk is full" in (journal.problem or "")
        assert journal.ended("C") is not None, "what cannot be written is not forgotten"
        assert names(journal.living()) == ["A"]
        let_grow(journal, 1000)
        await until(lambda: journal.problem is None, "it is tried again by itself")
        await journal.settled()
        assert heard[1:] == [None]
        assert names(journal.living()) == ["A", "B"]
        assert (found := journal.ended("C")) is not None
        assert found.created == 3.0
    assert sum("cannot be written" in each.message for each in caplog.records) == 1
    assert sum("can be written again" in each.message for each in caplog.records) == 1


@pytest.mark.usefixtures("quick_retry")
async def test_what_is_noted_while_a_commit_fails_wins_over_what_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3: both are kept and tried again, and the newer one of each thing is what is written."""
    reached, go_on = threading.Event(), threading.Event()

    def fail_once(name: str) -> None:
        if not go_on.is_set():
            reached.set()
            assert go_on.wait(PATIENCE)
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(module, "hit", fail_once)
    async with opened(path) as journal:
        note_all(journal, b'{"is":"old"}')
        await asyncio.to_thread(reached.wait, PATIENCE)
        note_all(journal, b'{"is":"new"}')
        go_on.set()
        await until(lambda: not (journal._noted or journal._flying), "it is tried again by itself")
        await journal.settled()
    async with opened(path) as again:
        assert [each.data for each in again.living()] == [b'{"is":"new"}']
        assert list(again.events()) == [(7, {"is": "new"})]
        assert (again.probes(), again.fact("f")) == ({"p": b'{"is":"new"}'}, b'{"is":"new"}')


def note_all(journal: Journal, data: bytes) -> None:
    """Note the same session, event, probe and fact as ever, each with other data."""
    journal.note_session(row("A", data=data))
    journal.note_event(7, msgspec.json.decode(data))
    journal.note_probe("p", data)
    journal.note_fact("f", data)


# A file that is not at its path any more


@pytest.mark.parametrize(
    "suffixes",
    [("",), ("-wal",), ("-shm",), ("", "-wal", "-shm")],
    ids=["file", "log", "index", "all"],
)
async def test_what_was_deleted_is_put_back_with_all_that_it_had(
    path: Path, caplog: pytest.LogCaptureFixture, suffixes: tuple[str, ...]
) -> None:
    """A14: and goes on being written: the next daemon knows everything, even if this one is killed."""
    async with opened(path) as journal:
        journal.note_session(row("before", ended=1.0))
        await journal.settled()
        for suffix in suffixes:
            path.with_name(path.name + suffix).unlink()
        journal.note_session(row("after", ended=2.0))
        await journal.settled()
        assert (journal.problem, "is there again" in caplog.text) == (None, True)
        journal.note_session(row("later", ended=3.0))
        await journal.settled()
        assert caplog.text.count("is there again") == 1
        assert {each.id for each in journal.history(None, 9)} == {"before", "after", "later"}
        killed = path.parent / "killed" / path.name
        killed.parent.mkdir()
        copied(path, killed)
        assert path.stat().st_mode & 0o777 == 0o600
    for left in (path, killed):
        async with opened(left) as again:
            assert {each.id for each in again.history(None, 9)} == {"before", "after", "later"}


async def test_file_that_somebody_has_put_there_is_not_overwritten(
    path: Path, quick_retry: None
) -> None:
    """A14: nothing is said to be written, until it has been moved away."""
    heard: list[str | None] = []
    async with opened(path, on_trouble=heard.append) as journal:
        journal.note_session(row("before", ended=1.0))
        await journal.settled()
        path.unlink()
        path.write_text("somebody's")
        journal.note_session(row("after", ended=2.0))
        with pytest.raises(JournalFailed, match=r"another file .* move that away"):
            await journal.settled()
        assert path.read_text() == "somebody's"
        path.rename(path.with_name("theirs"))
        await journal.settled()
        assert (heard[-1], len(heard)) == (None, 2)
    async with opened(path) as again:
        assert {each.id for each in again.history(None, 9)} == {"before", "after"}


async def test_directory_that_cannot_be_had_is_told_and_nothing_is_lost(
    path: Path, quick_retry: None
) -> None:
    problem: str | None = "the state directory has been moved away"

    def secure() -> None:
        if problem is not None:
            raise JournalFailed(problem)

    async with opened(path, secure=secure) as journal:
        journal.note_session(row("kept", ended=1.0))
        with pytest.raises(JournalFailed, match="moved away"):
            await journal.settled()
        problem = None
        await journal.settled()
    async with opened(path) as again:
        assert names(again.history(None, 9)) == ["kept"]


async def test_settling_tries_at_once_whether_there_is_room_again(journal: Journal) -> None:
    let_grow(journal, 0)
    journal.note_session(row("A", data=BIG))
    with pytest.raises(JournalFailed):
        await journal.settled()
    let_grow(journal, 1000)
    await journal.settled()
    assert journal.problem is None
    assert names(journal.living()) == ["A"]


async def test_close_on_a_full_disk_says_what_is_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(path) as journal:
        let_grow(journal, 0)
        journal.note_session(row("A", data=BIG))
    assert "the last changes are lost" in caplog.records[-1].message
    await journal.close()
    journal.note_fact("too late", b"")
    async with opened(path) as again:
        assert again.living() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of a quarter of a mebibyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a disk can be mounted by root only")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.usefixtures("quick_retry")
async def test_disk_that_is_really_full(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    async with opened(small_disk / "j") as journal:
        journal.note_session(row("A"))
        await journal.settled()
        with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(4096))
        journal.note_session(row("B", data=BIG))
        with pytest.raises(JournalFailed):
            await journal.settled()
        assert names(journal.living()) == ["A"]
        ballast.unlink()
        await until(lambda: journal.problem is None, "there is room again")
        assert names(journal.living()) == ["A", "B"]


async def test_no_room_to_begin_with_is_one_sentence(small_disk: Path) -> None:
    with (
        (small_disk / "ballast").open("wb", buffering=0) as file,
        pytest.raises(OSError, match="No"),
    ):
        while True:
            file.write(bytes(4096))
    with pytest.raises(JournalFailed, match="the journal cannot be used"):
        Journal(small_disk / "j", PLENTY)


# Versions

FIRST_VERSION = """
CREATE TABLE session (
    id TEXT PRIMARY KEY, phase TEXT NOT NULL, owner TEXT NOT NULL, request_key TEXT,
    created REAL NOT NULL, ended REAL, data BLOB NOT NULL
);
CREATE INDEX session_ended ON session (ended);
CREATE INDEX session_created ON session (created);
CREATE INDEX session_key ON session (request_key, owner) WHERE request_key IS NOT NULL;
CREATE TABLE event (seq INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE probe (name TEXT PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE fact (name TEXT PRIMARY KEY, data BLOB NOT NULL);
INSERT INTO session VALUES ('A', 'running', 'anna', 'k', 1.0, NULL, CAST('{}' AS BLOB));
INSERT INTO event VALUES (41, CAST('{"type":"session.running"}' AS BLOB));
INSERT INTO fact VALUES ('events.mark', CAST('1041' AS BLOB));
PRAGMA user_version = 1;
"""


@pytest.fixture
def first_version(path: Path) -> Path:
    """A file as the first version of the daemon made it."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(FIRST_VERSION)
    return path


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as db:
        return int(db.execute("PRAGMA user_version").fetchone()[0])


async def test_file_of_the_first_version_is_read_by_this_one(first_version: Path) -> None:
    async with opened(first_version) as journal:
        assert names(journal.living()) == ["A"]
        assert list(journal.events()) == [(41, {"type": "session.running"})]
        assert journal.fact("events.mark") == b"1041"
        assert files(first_version) >= {"journal.sqlite"}
    await works(first_version)


def in_the_future(monkeypatch: pytest.MonkeyPatch, *steps: str) -> None:
    """Be a later version of the daemon, that each of ``steps`` leads towards."""
    tables = FIRST_VERSION[: FIRST_VERSION.index("INSERT")] + ";".join(steps)
    monkeypatch.setattr(schema, "SCHEMA", tables)
    monkeypatch.setattr(schema, "VERSION", 1 + len(steps))
    monkeypatch.setattr(schema, "MIGRATIONS", dict(enumerate(steps, 1)))


async def test_older_file_is_brought_to_this_version_step_by_step(
    first_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, third = "ALTER TABLE fact ADD COLUMN age", "ALTER TABLE fact RENAME age TO born"
    in_the_future(monkeypatch, second)
    async with opened(first_version) as journal:
        assert names(journal.living()) == ["A"]
    assert version(first_version) == 2
    in_the_future(monkeypatch, second, third)
    async with opened(first_version) as journal:
        assert names(journal.living()) == ["A"]
    assert version(first_version) == 3
    assert files(first_version) == {"journal.sqlite"}, "nothing was put aside"


async def test_two_steps_at_once_lead_to_the_same(
    first_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_future(
        monkeypatch, "ALTER TABLE fact ADD COLUMN age", "ALTER TABLE fact RENAME age TO born"
    )
    async with opened(first_version) as journal:
        columns = journal._reading.execute("SELECT name FROM pragma_table_info('fact')").fetchall()
        assert columns == [("name",), ("data",), ("born",)]
    assert version(first_version) == 3


async def test_step_that_fails_undoes_nothing_but_itself(
    first_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "ALTER TABLE fact ADD COLUMN age"
    in_the_future(
        monkeypatch, good, "ALTER TABLE fact ADD COLUMN b; ALTER TABLE lacking RENAME TO x"
    )
    with closing(sqlite3.connect(first_version)) as db:
        with pytest.raises(sqlite3.OperationalError, match="no such table: lacking"):
            schema.migrate(db)
        db.rollback()
        columns = db.execute("SELECT name FROM pragma_table_info('fact')").fetchall()
        assert columns == [("name",), ("data",), ("age",)]
    assert version(first_version) == 2


# Beside whoever writes it


async def test_what_is_committed_can_be_asked_by_others_meanwhile(path: Path) -> None:
    async with opened(path) as journal:
        journal.note_session(row("B", created=2.0, data=b"[1]"))
        journal.note_session(row("A", created=1.0, ended=3.0))
        journal.note_fact("learned", b"{}")
        await journal.settled()
        with reading(path) as reader:
            assert names(list(reader.all_sessions())) == ["A", "B"]
            found = reader.sessions(["B", "C"])
            assert {name: (each.phase, each.data) for name, each in found.items()} == {
                "B": ("running", b"[1]")
            }
            assert (reader.fact("learned"), reader.fact("lacking")) == (b"{}", None)
        journal.note_session(row("C"))


OTHER_VERSIONS = {
    -1: "is an SQLite file, but not a journal of operatord",
    0: "is an SQLite file, but not a journal of operatord",
    2: "is of version 2, and this operatord reads versions up to 1: use the newer operatord",
}


@pytest.mark.parametrize(("number", "text"), OTHER_VERSIONS.items())
async def test_file_of_another_version_is_not_asked(
    first_version: Path, number: int, text: str
) -> None:
    with closing(sqlite3.connect(first_version)) as db:
        db.execute(f"PRAGMA user_version = {number}")
    with pytest.raises(WrongVersion, match=text), reading(first_version):
        pass


async def test_file_of_an_older_version_is_asked_when_a_daemon_has_had_it(
    first_version: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_future(monkeypatch, "ALTER TABLE fact ADD COLUMN age")
    with (
        pytest.raises(WrongVersion, match=r"is of version 1, .* version 2"),
        reading(first_version),
    ):
        pass
    async with opened(first_version):
        pass
    with reading(first_version) as reader:
        assert names(reader.living()) == ["A"]


# The law: after a crash at any moment, the journal has all that was noted up to some moment, and that is
# not before the last time that everything was settled.


def copied(path: Path, to: Path) -> None:
    """Take what a crash would leave: the file and its log, as they are now."""
    for suffix in ("", "-wal"):
        source = path.with_name(path.name + suffix)
        if source.exists():
            shutil.copyfile(source, to.with_name(to.name + suffix))


class Note(NamedTuple):
    kind: str
    name: str
    value: bytes | None


class Crash(NamedTuple):
    """What was left at some moment, and how many notes were settled then and had been made."""

    copy: Path
    settled: int
    made: int


State = dict[tuple[str, str], bytes]

things = st.tuples(st.sampled_from(["session", "probe", "fact", "event"]), st.sampled_from("abc"))
steps = st.lists(things | st.sampled_from(["settle", "turn", "forget"]), max_size=40)


def after(notes: list[Note]) -> State:
    """Return what is to be remembered of ``notes``."""
    state: State = {}
    for kind, name, value in notes:
        state.pop((kind, name), None)
        if value is not None:
            state[kind, name] = value
    return state


def remembered(journal: Journal) -> State:
    state: State = {("session", each.id): each.data for each in journal.living()}
    state |= {("probe", name): data for name, data in journal.probes().items()}
    state |= {
        ("event", str(seq)): str(params["value"]).encode() for seq, params in journal.events()
    }
    facts = {("fact", name): journal.fact(name) for name in "abc"}
    return state | {key: data for key, data in facts.items() if data is not None}


class Writer:
    """Notes things, and takes copies of the files at every statement of every commit."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal"
        self.notes: list[Note] = []
        self.crashes: list[Crash] = []
        self._settled = 0

    async def run(self, steps: list[Any]) -> None:
        async with opened(self.path) as journal:
            journal._connection.set_trace_callback(lambda _: self.crash())
            for step in steps:
                await self.step(journal, step)
                self.crash()
        self._settled = len(self.notes)
        self.crash()

    async def step(self, journal: Journal, step: Any) -> None:
        if step == "settle":
            made = len(self.notes)
            await journal.settled()
            self._settled = made
        elif step == "turn":
            await asyncio.sleep(0)
        elif step == "forget":
            self.notes.append(Note("probe", "a", None))
            journal.note_probe("a", None)
        else:
            self.note(journal, *step)

    def note(self, journal: Journal, kind: str, name: str) -> None:
        value = str(len(self.notes)).encode()
        if kind == "session":
            journal.note_session(row(name, data=value))
        elif kind == "probe":
            journal.note_probe(name, value)
        elif kind == "fact":
            journal.note_fact(name, value)
        else:
            name = str(len(self.notes) + 1)
            journal.note_event(int(name), {"type": "x", "value": value.decode()})
        self.notes.append(Note(kind, name, value))

    def crash(self) -> None:
        # While the journal's thread writes, only that thread may copy, or file and log would not match.
        writing = threading.current_thread() is not threading.main_thread()
        if not writing and self._busy():
            return
        copy = self.path.with_name(f"copy{len(self.crashes)}")
        copied(self.path, copy)
        self.crashes.append(Crash(copy, self._settled, len(self.notes)))

    def _busy(self) -> bool:
        return any(
            task.get_coro().__qualname__ == "Journal._write"  # type: ignore[union-attr]
            for task in asyncio.all_tasks()
        )


@given(steps)
@settings(max_examples=40)
def test_crash_at_any_moment_leaves_all_that_was_noted_up_to_some_moment(steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        writer = Writer(Path(folder))
        asyncio.run(writer.run(steps))
        asyncio.run(_check_crashes(writer))


async def _check_crashes(writer: Writer) -> None:
    prefixes = [after(writer.notes[:made]) for made in range(len(writer.notes) + 1)]
    for crash in writer.crashes:
        if not crash.copy.exists():
            continue
        async with opened(crash.copy) as journal:
            assert remembered(journal) in prefixes[crash.settled : crash.made + 1]
    assert all(a.settled <= b.settled for a, b in pairwise(writer.crashes))
