# SPDX-License-Identifier: MIT
"""Copies of a journal: how one is made, which instance it belongs to, and how it becomes another
instance's."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from .journal_file import connect_to_read, open_sound
from .reader import JournalReader
from .schema import OF_INSTANCE, SLOTS, UNKNOWN_PAST, check, require_version


def copy_journal(journal: Path, draft: Path, instance: str) -> None:
    """Write all that a journal has into the empty file ``draft``, which says that it is of ``instance``.

    The copy also notes that there may be sessions that it does not know, those that begin from now on. It has
    no slots, since these may become such sessions, and must not be removed as unclaimed. Raises
    `schema.WrongVersion`, `sqlite3.Error`.
    """
    with closing(connect_to_read(journal)) as source, closing(sqlite3.connect(draft)) as copy:
        require_version(source, or_older=True)
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
        facts = ((UNKNOWN_PAST, b"true"), (OF_INSTANCE, instance.encode()))
        copy.executemany("INSERT OR REPLACE INTO fact VALUES (?, ?)", facts)
        copy.execute("DELETE FROM fact WHERE name = ?", (SLOTS,))
        copy.commit()


def instance_of(copy: Path) -> bytes | None:
    """Return the instance that a sound copy belongs to; None if it names none, being a journal in use.

    Raises `schema.WrongVersion`, `sqlite3.Error` and `UnicodeDecodeError` for one that is damaged.
    """
    with closing(connect_to_read(copy.resolve())) as db:
        require_version(db, or_older=True)
        check(db)
        return JournalReader(db).fact(OF_INSTANCE)


def forget_living(journal: Path) -> None:
    """Forget the sessions that live, and the slots: they are another instance's.

    Raises `JournalFailed`, `sqlite3.Error`.
    """
    with closing(open_sound(journal)) as db, db:
        db.execute("DELETE FROM session WHERE ended IS NULL")
        db.execute("DELETE FROM fact WHERE name = ?", (SLOTS,))
