# SPDX-License-Identifier: MIT
"""Who a connection is: by the token that it shows, and before that."""

from __future__ import annotations

import math
from collections.abc import Callable

from operatord_protocol.errors import TooManyRequests, Unauthorized

from .audit import Audit
from .backoff import Backoff
from .identity import ANONYMOUS, LOCAL, Identity, Origin, identity
from .tokens import Token, Tokens

LINE_BYTES = 4 * 1024
"""Longest line before login."""
SECONDS = 2.0
"""Time for a login, from the connection on."""


class Logins:
    """The tokens as they are now, and who tries others."""

    def __init__(self, tokens: Tokens | None, now: Callable[[], float], audit: Audit) -> None:
        """Know ``tokens``; None if nobody has to log in. ``now`` returns seconds on a monotonic clock."""
        self.tokens = tokens
        self._backoff = Backoff(now)
        self._audit = audit

    @property
    def newcomer(self) -> Identity:
        """Who a connection is that has not logged in."""
        return LOCAL if self.tokens is None else ANONYMOUS

    def identify(self, tokens: Tokens, text: str, origin: Origin) -> Token:
        """Return the token that ``text`` is. Raises `Unauthorized`, `TooManyRequests`.

        A wrong one is told to be wrong and nothing else, and an address that shows many has to wait.
        """
        if (seconds := math.ceil(self._backoff.seconds(origin.address))) > 0:
            self._refused(origin, "too many failures")
            why = f"too many logins from there have failed; try again in {seconds} s"
            raise TooManyRequests(why, retry_after=seconds)
        if (token := tokens.find(text)) is None:
            self._backoff.failed(origin.address)
            self._refused(origin, "wrong token")
            raise Unauthorized("the token is wrong")
        self._backoff.succeeded(origin.address)
        self._audit.note("login", of_token(token), origin, token=token.id)
        return token

    def _refused(self, origin: Origin, why: str) -> None:
        self._audit.refused(ANONYMOUS, origin, method="auth.login", why=why)

    def still_holds(self, who: Identity) -> bool:
        """Tell whether a connection may go on as who it is, by the tokens as they are now."""
        if not who.token:
            return who == self.newcomer
        token = self.tokens.get(who.token) if self.tokens is not None else None
        return token is not None and of_token(token) == who


def of_token(token: Token) -> Identity:
    """Return who shows a token."""
    return identity(token.user, token.role, token.id)
