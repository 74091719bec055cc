# SPDX-License-Identifier: MIT
"""Tokens, with which clients log in, and the file that holds their hashes.

A token is 256 random bits, so one SHA-256 is right: neither tables nor guessing find a value that is this
random, and a slow hash, which makes up for short passwords, would only let strangers keep the daemon busy.

The file has a line of JSON for each: ``{"id":…,"user":…,"role":…,"sha256":…,"created":…}``; or it says that
all have been revoked.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from operatord_protocol.messages import Role

PREFIX = "opd_"
"""What a token begins with, so that one that was left somewhere is recognised."""
BYTES = 32
"""Random bytes in a token."""
REVOKED = b"# all tokens have been revoked"
"""The one line of a file whose last token was: an empty file may be an accident."""
LARGEST = 4 * 1024**2
"""Bytes of a file of tokens: some twenty thousand."""
User = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class Token(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one token."""

    id: Annotated[str, Meta(pattern=r"^[0-9a-f]{8}\Z")]
    user: User
    role: Role
    sha256: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    created: str
    """RFC 3339, UTC."""


class TokensUnusable(Exception):
    """The file of tokens cannot be used; says why, without its path."""


class Tokens:
    """The tokens that a daemon knows."""

    def __init__(self, known: Sequence[Token] = (), *, revoked: bool = False) -> None:
        """Know these. ``revoked``: there are none, as somebody has revoked them all."""
        self.revoked = revoked
        self._by_id = {token.id: token for token in known}
        self._by_hash = {token.sha256: token for token in known}

    def find(self, text: str) -> Token | None:
        """Return the token that ``text`` is.

        It is looked up by its hash, whose beginning nobody can choose, and compared in constant time: the
        time taken neither reveals anything about the tokens nor grows with their number.
        """
        digest = _digest(text)
        found = self._by_hash.get(digest)
        return found if hmac.compare_digest(found.sha256 if found else "", digest) else None

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, token_id: str) -> Token | None:
        """Return a token by its id."""
        return self._by_id.get(token_id)

    def __eq__(self, other: object) -> bool:
        """Tell whether these are the same."""
        return isinstance(other, Tokens) and self._by_id == other._by_id

    __hash__ = None  # type: ignore[assignment]


def user_problem(user: str) -> str | None:
    """Return what is wrong with the name of a user, as a sentence; None if it can be one."""
    with contextlib.suppress(msgspec.ValidationError):
        msgspec.convert(user, User)
        return None
    return f"a user's name has 1 to 64 characters and no control characters; got {user!r}"


def read(path: Path) -> list[Token]:
    """Return what is in the file. Raises `TokensUnusable`."""
    return [_token(number, line) for number, line in _lines(path) if line != REVOKED]


def read_all(path: Path) -> Tokens:
    """Return what a daemon knows by the file. Raises `TokensUnusable`."""
    lines = _lines(path)
    known = [_token(number, line) for number, line in lines if line != REVOKED]
    return Tokens(known, revoked=bool(lines) and not known)


def _lines(path: Path) -> list[tuple[int, bytes]]:
    """Return the lines that are not blank, with their numbers. Raises `TokensUnusable`."""
    try:
        data = _private_text(path)
    except FileNotFoundError as exc:
        hint = (
            "`operatord token new USER --role operator --config FILE` makes one, with a first token"
        )
        raise TokensUnusable(f"there is no such file; {hint}") from exc
    except OSError as exc:
        raise TokensUnusable(f"it cannot be read: {exc.strerror}") from exc
    return [(number, line) for number, line in enumerate(data.splitlines(), 1) if line.strip()]


def _private_text(path: Path) -> bytes:
    """Return a file's bytes, if it is its owner's alone. Raises `OSError`, `TokensUnusable`."""
    with open(path, "rb", opener=_open_at_once) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise TokensUnusable("it is not a regular file")
        if others := found.st_mode & 0o077:
            mode = f"{found.st_mode & 0o777:04o}"
            does = "read" if others & 0o044 else "use"
            raise TokensUnusable(
                f"others may {does} it (its mode is {mode}); chmod 600 makes it yours alone"
            )
        if found.st_uid not in (0, os.geteuid()):
            raise TokensUnusable("it belongs to another user; chown it to the daemon's")
        if found.st_size > LARGEST:
            raise TokensUnusable(f"it has {found.st_size} bytes; at most {LARGEST} are allowed")
        return file.read(LARGEST)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _token(number: int, line: bytes) -> Token:
    try:
        return msgspec.json.decode(line, type=Token)
    except msgspec.MsgspecError as exc:
        raise TokensUnusable(f"line {number}: {exc}") from exc


def new(
    path: Path, user: str, role: Role, created: str, daemons: Path | None = None
) -> tuple[Token, str]:
    """Add a token to the file, which is made if it is not there; return it, and what is to be shown once.

    A link stays one: what it leads to is written. A file that root makes belongs to who has the folder
    ``daemons``, if it is there: else the daemon could not read it. Raises `TokensUnusable`, `OSError`.
    """
    path = path.resolve()
    text = PREFIX + secrets.token_urlsafe(BYTES)
    with _locked(path):
        known = read(path) if path.exists() else []
        token = Token(secrets.token_hex(4), user, role, _digest(text), created)
        _write(path, [*known, token], daemons)
    return token, text


def revoke(path: Path, token_id: str) -> Token | None:
    """Take a token out of the file; None if there is none of that id. Raises `TokensUnusable`, `OSError`."""
    path = path.resolve()
    with _locked(path):
        known = read(path)
        left = [token for token in known if token.id != token_id]
        if len(left) == len(known):
            return None
        _write(path, left)
    return next(token for token in known if token.id == token_id)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the folder of ``path``, so that one program at a time writes there.

    Raises `TokensUnusable`, `OSError`.
    """
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError as exc:
        raise TokensUnusable(f"there is no folder {path.parent}; make it first") from exc
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _write(path: Path, tokens: Sequence[Token], daemons: Path | None = None) -> None:
    """Put the file in place whole, for its owner alone, or leave the old one as it was. Raises `OSError`."""
    lines = b"".join(msgspec.json.encode(token) + b"\n" for token in tokens) or REVOKED + b"\n"
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            like = path if path.exists() else daemons
            if like is not None and like.exists() and os.geteuid() == 0:
                found = like.stat()  # else the daemon could not read it
                os.fchown(file.fileno(), found.st_uid, found.st_gid)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
