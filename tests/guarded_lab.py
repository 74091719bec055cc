# SPDX-License-Identifier: MIT
"""Daemons that ask for a login, and who logs in there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from daemon_lab import Json, Lab, Wire, in_process, settings

from operatord.access import tokens
from operatord_protocol.messages import Role

CREATED = "2026-11-30T01:00:00.000Z"


class Guarded:
    """A daemon in this process with a file of tokens."""

    def __init__(self, lab: Lab, file: Path) -> None:
        self.lab, self.file = lab, file

    def token(self, user: str, role: Role) -> tuple[str, str]:
        """Return the id and the text of a new token, which the daemon knows after a reload."""
        token, text = tokens.new(self.file, user, role, CREATED)
        return token.id, text

    async def wire(self, user: str, role: Role | None) -> Wire:
        """Return a connection that is ``user``; one that has not logged in without a role."""
        wire = await self.lab.wire()
        if role is not None:
            _, text = self.token(user, role)
            logins = self.lab.daemon.logins
            logins.known = logins.known._replace(tokens=tokens.Tokens(tokens.read(self.file)))
            login = await wire.call("auth.login", token=text)
            assert login == {"user": user, "role": role}
        return wire


@contextlib.asynccontextmanager
async def guarded(
    folder: Path, limits: Json | None = None, more: Json | None = None, **auth: Any
) -> AsyncIterator[Guarded]:
    """Run a daemon whose file of tokens has one of ``first``, an operator, with ``more`` settings."""
    file = folder / "tokens"
    tokens.new(file, "first", "operator", CREATED)
    overlay: Mapping[str, Json] = (more or {}) | {
        "auth": {"tokens": str(file), **auth},
        "limits": limits or {},
    }
    state = folder / "state"
    async with in_process(state, overlay, reread=lambda: settings(state, overlay)) as lab:
        yield Guarded(lab, file)
