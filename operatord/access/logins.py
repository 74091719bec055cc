# SPDX-License-Identifier: MIT
"""Identifies connections: by the token that they show, and before that."""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from operatord_protocol.errors import TooManyRequests, Unauthorized
from operatord_protocol.messages import Role

from .audit import Audit
from .backoff import Backoff
from .doors import Auth, Peers, newcomer, still_verifies
from .identity import ANONYMOUS, Identity, identity
from .origin import Origin
from .tokens import Token, Tokens

LINE_BYTES = 4 * 1024
"""Longest line before login."""
SECONDS = 2.0
"""Time for a login, from the connection on."""


class Credentials(NamedTuple):
    """What tells who connects, as the settings and their files have it now."""

    tokens: Tokens | None = None
    """None where there are none."""
    subjects: Mapping[str, Role] = {}
    """Roles by the common name of a client's certificate."""
    peers: Peers = Peers()
    contexts: Sequence[ssl.SSLContext | None] = ()
    """What each of `listeners` speaks TLS with; None for one without."""


class Logins:
    """Who is known now, and who tries tokens that are not."""

    def __init__(self, known: Credentials, now: Callable[[], float], audit: Audit) -> None:
        """Go by ``known``. ``now`` returns seconds on a monotonic clock."""
        self.known = known
        self._backoff = Backoff(now)
        self._audit = audit

    def newcomer(self, auth: Auth | None, transport: asyncio.BaseTransport) -> Identity:
        """Return who a connection is that has shown no token.

        Where a listener has no rule of its own, a token is asked for if there are any.
        """
        known = self.known
        rule: Auth = auth or ("none" if known.tokens is None else "token")
        return newcomer(rule, transport, known.subjects, known.peers)

    def certificate_holds(self, place: int | None, transport: asyncio.BaseTransport) -> bool:
        """Tell whether what a peer of that listener has shown in its handshake is believed now."""
        connection = transport.get_extra_info("ssl_object")
        context = None if place is None else self.known.contexts[place]
        if connection is None or context is None:
            return True
        return still_verifies(transport.get_extra_info("peercert"), connection.context, context)

    def identify(self, tokens: Tokens, text: str, origin: Origin) -> Token:
        """Return the token that ``text`` is. Raises `Unauthorized`, `TooManyRequests`.

        A wrong one is only said to be wrong, and an address that shows many has to wait.
        """
        if (seconds := math.ceil(self._backoff.seconds(origin))) > 0:
            self._refused(origin, "too many failures")
            why = f"too many logins from this address have failed; try again in {seconds} s"
            raise TooManyRequests(why, retry_after=seconds)
        if (token := tokens.find(text)) is None:
            self._backoff.failed(origin)
            self._refused(origin, "wrong token")
            raise Unauthorized("the token is wrong")
        self._backoff.succeeded(origin)
        self._audit.login(of_token(token), origin, token=token.id)
        return token

    def _refused(self, origin: Origin, why: str) -> None:
        self._audit.refused(ANONYMOUS, origin, method="auth.login", why=why)

    def still_holds(self, token_id: str, who: Identity) -> bool:
        """Tell whether a client's token is still valid with the same role."""
        token = self.known.tokens.get(token_id) if self.known.tokens is not None else None
        return token is not None and of_token(token) == who


def of_token(token: Token) -> Identity:
    """Return who shows a token."""
    return identity(token.user, token.role, token.id)
