# SPDX-License-Identifier: MIT
"""Lists in pieces: how much of one comes at a time, and where the next piece begins.

A cursor holds the sort key of the last item given. So nothing is kept between pages, and items that come or
go meanwhile shift nothing. Its format is opaque to clients.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from operatord_protocol.absent import given
from operatord_protocol.errors import InvalidParams

PAGE = 100
"""Items of a list for who does not say how many."""
MOST = 200
"""Items that are given at a time, whatever was asked for. Collecting a thousand takes some thirty
milliseconds, in which nobody else is served."""

Item = TypeVar("Item")
Key = TypeVar("Key")


class Wanted(NamedTuple):
    """Which piece of a list is asked for."""

    limit: int
    cursor: str | None

    def after(self, type_: type[Key]) -> Key | None:
        """Return the key after which the page begins; None for the first page. Raises `InvalidParams`."""
        if self.cursor is None:
            return None
        try:
            padded = self.cursor + "=" * (-len(self.cursor) % 4)
            raw = base64.b64decode(padded, altchars=b"-_", validate=True)
            return msgspec.json.decode(raw, type=type_)
        except ValueError:  # msgspec's are of that kind, too
            text = "params.cursor: is not from this list; leave it out to start from the beginning"
            raise InvalidParams(text, path="params.cursor") from None


def wanted(limit: int | UnsetType, cursor: str | UnsetType) -> Wanted:
    """Return what is asked for by these params."""
    return Wanted(min(given(limit, PAGE), MOST), given(cursor))


def piece(
    found: Sequence[Item], limit: int, key: Callable[[Item], Any]
) -> tuple[Sequence[Item], str | UnsetType]:
    """Return the first ``limit`` of what was found and, if there is more, the cursor that goes on there."""
    if len(found) <= limit:
        return found, UNSET
    raw = msgspec.json.encode(key(found[limit - 1]))
    return found[:limit], base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
