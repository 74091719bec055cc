# SPDX-License-Identifier: MIT
"""Reads the secrets, users and certificates that the settings name; all of them or none."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from operatord.access.certificates import validity_of
from operatord.access.doors import Peers
from operatord.access.identity import Identity, identity
from operatord.access.logins import Credentials
from operatord.access.origin import CertifiedContext
from operatord.access.tokens import Tokens, TokensUnusable, read_all
from operatord_protocol.messages import Role

from .config import Config, ConfigError
from .listeners import ListenerTls, PeerRoles

T = TypeVar("T")


def load(config: Config) -> Credentials:
    """Return what logins are checked with. Raises `ConfigError`."""
    peers, subjects = _peers(config.auth.peers), config.auth.certificates
    contexts = tuple(
        None if each.tls is None else _context(each.tls, f"listeners[{place}].tls")
        for place, each in enumerate(config.listeners)
    )
    if config.http.listen is not None and config.http.tls is not None:
        _context(config.http.tls, "http.tls")  # the gateway reads them for itself
    return Credentials(_tokens(config), subjects, peers, contexts)


def _tokens(config: Config) -> Tokens | None:
    if config.auth.tokens is None:
        return None
    try:
        return read_all(Path(config.auth.tokens).expanduser())
    except TokensUnusable as exc:
        raise ConfigError([f"auth.tokens: {exc}"]) from exc


def check_not_emptied(before: Credentials, after: Credentials) -> None:
    """Refuse a file from which all tokens have gone, unless they were revoked. Raises `ConfigError`.

    A disk that is full, or an editor, leaves such a file sooner than somebody who wants nobody to log in.
    """
    if before.tokens and after.tokens is not None and not (after.tokens or after.tokens.revoked):
        why = "the file has no tokens any more, and nobody could log in; make one (operatord token new)"
        raise ConfigError([f"auth.tokens: {why}, or restart the daemon if that is what you want"])


def certificate_warnings(config: Config, known: Credentials, now: float) -> list[str]:
    """Return which certificates of listeners clients refuse, or will soon, as sentences.

    ``now`` is in seconds since the epoch.
    """
    found = []
    for place, (each, context) in enumerate(zip(config.listeners, known.contexts, strict=False)):
        validity = context.validity if isinstance(context, CertifiedContext) else None
        if validity is not None and (problem := validity.problem(now)):
            found.append(f"the certificate of listeners[{place}] ({each.address}) {problem}")
    return found


def _context(tls: ListenerTls, path: str) -> CertifiedContext:
    """Return the TLS context of a listener. Raises `ConfigError`."""
    context = CertifiedContext(ssl.PROTOCOL_TLS_SERVER)
    context.files = (str(Path(tls.cert).absolute()), str(Path(tls.key).absolute()))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for name, file in (("cert", tls.cert), ("key", tls.key)):
        with (
            _told(f"{path}.{name}", ""),
            Path(file).open("rb"),
        ):  # or nobody knows which of them it is
            pass
    with _told(f"{path}.cert and key", "a certificate and the key that belongs to it"):
        context.load_cert_chain(tls.cert, tls.key, _no_passphrase)
        context.validity = validity_of(Path(tls.cert))
    if tls.client_ca is not None:
        with _told(f"{path}.client_ca", "certificates of authorities"):
            context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _no_passphrase() -> str:
    raise ConfigError(
        ["the key of a listener's certificate is protected by a passphrase; remove that"]
    )


@contextlib.contextmanager
def _told(path: str, what: str) -> Iterator[None]:
    """Turn errors of files into sentences without their paths. Raises `ConfigError`."""
    try:
        yield
    except ssl.SSLError as exc:
        raise ConfigError(
            [f"{path}: expected {what}, in PEM ({exc.reason or 'unreadable'})"]
        ) from exc
    except OSError as exc:
        raise ConfigError([f"{path}: cannot be read: {exc.strerror}"]) from exc


def _peers(roles: PeerRoles) -> Peers:
    """Return the roles by number; of a group, for those who are in it: the highest. Raises `ConfigError`."""
    users: dict[int, Identity] = {}
    members: dict[int, Identity] = {}
    groups: dict[int, Role] = {}
    for name, role in roles.groups.items():
        group = _found(grp.getgrnam, name, "auth.peers.groups", "group")
        groups[group.gr_gid] = role
        for member in group.gr_mem:
            with contextlib.suppress(KeyError):
                uid, found = pwd.getpwnam(member).pw_uid, identity(member, role)
                members[uid] = max(found, members.get(uid, found), key=lambda each: each.rank)
    for uid in {0, os.geteuid()}:  # the user of the daemon itself
        with contextlib.suppress(KeyError):
            users[uid] = identity(pwd.getpwuid(uid).pw_name, "operator")
    for name, role in roles.users.items():
        users[_found(pwd.getpwnam, name, "auth.peers.users", "user").pw_uid] = identity(name, role)
    return Peers(users, members, groups)


def _found(find: Callable[[str], T], name: str, path: str, what: str) -> T:
    """Return a user or a group of this machine. Raises `ConfigError`."""
    try:
        return find(name)
    except KeyError:
        raise ConfigError([f"{path}: this machine has no {what} {name!r}"]) from None
