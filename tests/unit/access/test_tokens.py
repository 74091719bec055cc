# SPDX-License-Identifier: MIT
"""The file of tokens: who may read it, what is written into it, and how wrong ones are met."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from operatord.access import tokens
from operatord.access.audit import LOGINS, REFUSALS, Audit
from operatord.access.backoff import FIRST, FORGET, FREE, LONGEST, MOST, Backoff
from operatord.access.identity import ANONYMOUS, identity
from operatord.access.origin import Origin
from operatord.access.tokens import Tokens, TokensUnusable, new, read, revoke

CREATED = "2026-11-30T01:00:00.000Z"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def test_token_is_kept_hashed_and_for_its_owner_alone(file: Path) -> None:
    token, text = new(file, "ada", "user", CREATED)
    assert len(text) > 40
    assert text not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert Tokens(read(file)).find(text) == token


def test_only_the_very_token_is_found(file: Path) -> None:
    _, text = new(file, "ada", "user", CREATED)
    known = Tokens(read(file))
    for wrong in (text[:-1], text + "x", text.upper(), "", read(file)[0].sha256):
        assert known.find(wrong) is None


def test_revoked_token_is_gone_and_the_others_are_not(file: Path) -> None:
    gone, text = new(file, "ada", "user", CREATED)
    kept, other = new(file, "grace", "viewer", CREATED)
    assert revoke(file, gone.id) == gone
    assert revoke(file, gone.id) is None
    known = Tokens(read(file))
    assert known.find(text) is None
    assert known.find(other) == kept
    assert list(file.parent.iterdir()) == [file]


def test_file_that_root_makes_belongs_to_the_daemons_user(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state directory says who that is: else the service could not read what was made for it."""
    state, given = file.with_name("state"), list[tuple[int, int]]()
    state.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda _, *who: given.append(who))
    monkeypatch.setattr(tokens, "read", lambda _: [])
    new(file, "ada", "user", CREATED, state)
    new(file.with_name("other"), "ada", "user", CREATED, file.with_name("no such folder"))
    found = state.stat()
    assert given == [(found.st_uid, found.st_gid)]


def test_file_behind_a_link_is_written_and_the_link_stays(file: Path) -> None:
    """A token that was revoked by way of a link would go on to hold where the file itself is named."""
    gone, text = new(file, "ada", "user", CREATED)
    link = file.with_name("link")
    link.symlink_to(file)
    _, other = new(link, "grace", "user", CREATED)
    assert revoke(link, gone.id) == gone
    assert link.is_symlink()
    known = Tokens(read(file))
    assert known.find(text) is None
    assert known.find(other) is not None


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda file: file.chmod(0o640), "others may read it (its mode is 0640); chmod 600"),
        (lambda file: file.chmod(0o602), "others may use it"),
        (lambda file: file.unlink(), "operatord token new"),
        (lambda file: (file.unlink(), os.mkfifo(file, 0o600)), "not a regular file"),
        (lambda file: file.write_text("{}\n"), "line 1: "),
        (lambda file: file.write_text("\nada:user\n"), "line 2: "),
        (lambda file: file.write_text(file.read_text().replace("user", "admin")), "line 1: "),
    ],
)
def test_why_a_file_cannot_be_used_is_a_sentence_without_its_path(
    file: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    new(file, "ada", "user", CREATED)
    spoil(file)
    with pytest.raises(TokensUnusable) as told:
        read(file)
    assert sentence in str(told.value)
    assert str(file) not in str(told.value)


@pytest.mark.parametrize(
    "act", [lambda file: new(file, "a", "user", CREATED), lambda file: revoke(file, "0")]
)
def test_folder_that_is_not_there_is_named_as_what_to_make(
    file: Path, act: Callable[[Path], object]
) -> None:
    folder = file.with_name("no such folder")
    with pytest.raises(TokensUnusable, match=f"there is no folder {folder}; make it first"):
        act(folder / "tokens")
    assert not folder.exists()


class Now:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_who_fails_often_waits_longer_each_time_and_others_do_not() -> None:
    now = Now()
    backoff = Backoff(now)
    for _ in range(FREE):
        backoff.failed(Origin("192.0.2.1"))
    assert backoff.seconds(Origin("192.0.2.1")) == 0
    waits = []
    for _ in range(20):
        backoff.failed(Origin("192.0.2.1"))
        waits.append(backoff.seconds(Origin("192.0.2.1")))
    assert waits[:4] == [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST]
    assert max(waits) == waits[-1] == LONGEST
    assert backoff.seconds(Origin("192.0.2.2")) == 0
    now.seconds += LONGEST
    assert backoff.seconds(Origin("192.0.2.1")) == 0
    now.seconds += FORGET
    backoff.failed(Origin("192.0.2.1"))
    assert backoff.seconds(Origin("192.0.2.1")) == 0


def test_fifth_wrong_token_in_a_row_costs_a_wait() -> None:
    """As PROTOCOL.md and SECURITY.md promise."""
    backoff = Backoff(Now())
    waits = []
    for _ in range(5):
        backoff.failed(Origin("192.0.2.1"))
        waits.append(backoff.seconds(Origin("192.0.2.1")))
    assert waits == [0, 0, 0, 0, FIRST]


def test_addresses_that_one_machine_may_have_count_as_one_and_success_forgets() -> None:
    backoff = Backoff(Now())
    for number in range(FREE + 1):
        backoff.failed(Origin(f"2001:db8::{number:x}"))
    assert backoff.seconds(Origin("2001:db8::ffff")) == FIRST
    assert backoff.seconds(Origin("2001:db8:0:1::1")) == 0
    backoff.succeeded(Origin("2001:db8::1"))
    assert backoff.seconds(Origin("2001:db8::ffff")) == 0


def test_addresses_are_bounded() -> None:
    backoff = Backoff(Now())
    for number in range(MOST + 5):
        backoff.failed(Origin(str(number)))
    assert len(backoff._failures) == MOST


def test_refusals_are_bounded_and_what_is_left_out_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, origin = Now(), Origin("192.0.2.1", 5)
    audit = Audit(now)
    caplog.set_level("INFO", "operatord.audit")
    for _ in range(REFUSALS + 7):
        audit.refused(ANONYMOUS, origin)
    assert len(caplog.messages) == REFUSALS
    now.seconds += 1
    audit.refused(ANONYMOUS, origin)
    assert '"missed": 7' in caplog.messages[-1]


def test_logins_of_one_user_are_bounded_and_hide_nobody_elses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now, origin = Now(), Origin("192.0.2.1", 5)
    audit = Audit(now)
    caplog.set_level("INFO", "operatord.audit")
    for _ in range(LOGINS + 7):
        audit.login(identity("ada", "user"), origin)
    audit.login(identity("bob", "user"), origin)
    assert len(caplog.messages) == LOGINS + 1
    assert '"user": "bob"' in caplog.messages[-1] and "missed" not in caplog.messages[-1]
    now.seconds += 1
    audit.login(identity("ada", "user"), origin)
    assert '"missed": 7' in caplog.messages[-1]
