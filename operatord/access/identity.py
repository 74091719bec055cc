# SPDX-License-Identifier: MIT
"""Who asks, and what that allows: a user with a role, and the rank of each role and method as a number."""

from __future__ import annotations

from typing import NamedTuple

from operatord_protocol.errors import Forbidden, Unauthorized, WireError
from operatord_protocol.messages import Role
from operatord_protocol.methods import METHODS

RANKS: dict[Role | None, int] = {None: 0, "viewer": 1, "user": 2, "operator": 3}
"""A higher one may do all that a lower one may."""
NEEDED = {name: RANKS[method.role] for name, method in METHODS.items()}
"""The least rank that may ask for each method."""


class Identity(NamedTuple):
    """Who a connection is."""

    user: str
    """Of a certificate that has no role: its common name."""
    role: Role | None
    """None before login."""
    rank: int
    """That of the role: each request compares it, see `NEEDED`."""
    token: str = ""
    """The id of the token that was shown, if one was."""

    @property
    def is_operator(self) -> bool:
        """Whether all may be seen and done."""
        return self.rank == RANKS["operator"]

    def sees(self, owner: str) -> bool:
        """Tell whether all of a session of ``owner`` may be seen, and whether it may be stopped."""
        return self.user == owner or self.is_operator


def identity(user: str, role: Role | None, token: str = "") -> Identity:
    """Return the identity of ``user`` with a role."""
    return Identity(user, role, RANKS[role], token)


ANONYMOUS = identity("", None)
"""A client that has not logged in where a login is required."""
LOCAL = identity("local", "operator")
"""A client of a listener that requires no login."""


def how_to_log_in(who: Identity) -> str:
    """Return what somebody without a role can do about it."""
    text = "log in first: auth.login with a token (operatorctl: OPERATORD_TOKEN)"
    if who == ANONYMOUS:
        return text
    return (
        f"the certificate of {who.user!r} has no role: give it one in auth.certificates, or {text}"
    )


def refusal(who: Identity, method: str) -> WireError:
    """Return why ``who`` may not use a method of a higher rank."""
    if who.role is None:
        return Unauthorized(how_to_log_in(who))
    needed = METHODS[method].role
    return Forbidden(f"{method} needs the role {needed}, and {who.user} has the role {who.role}")
