# SPDX-License-Identifier: MIT
"""What is said of a server that does not give what it is asked for."""

from __future__ import annotations

from collections.abc import Collection

from operatord.core.sources.url import TLS, SourceUrl
from operatord.streams.hello import NoHello, NotGiven

from .exchange import UNAUTHORIZED, Answer

_REDIRECTS = range(300, 400)
_FORBIDDEN, _NOT_FOUND, _GONE = 403, 404, 410
_LASTS = {UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, *_REDIRECTS}
"""Answers that are the same next time, other than those of a server that is busy or begins."""


def check_status(
    answer: Answer, source: SourceUrl, method: str, ok: Collection[int] = (200,)
) -> None:
    """See that a server has done what it was asked for. Raises `NoHello`, whose text is for everybody: who
    knows the protocol may ask it as well.

    That credentials are wanted is enough to know where they are not told to a server whose certificate nobody
    has checked.
    """
    is_enough = source.scheme in TLS and source.userinfo and answer.status == UNAUTHORIZED
    if answer.status not in ok and not is_enough:
        what = f"{source.shown} answers {method} with {answer.status}"
        kind = NotGiven if answer.status in _LASTS else NoHello
        raise kind(f"{what}: {_advice(answer.status, source)}")


def _advice(status: int, source: SourceUrl) -> str:
    if status == UNAUTHORIZED and not source.userinfo:
        return f"it wants credentials; register {source.scheme}://USER:PASSWORD@HOST/…"
    if status in (UNAUTHORIZED, _FORBIDDEN):
        whose = "the credentials in the URL" if source.userinfo else "whoever gives no credentials"
        return f"it refuses {whose}"
    if status in _REDIRECTS:
        return "it is somewhere else; register the URL that it leads to"
    return "see that the path is right" if status == _NOT_FOUND else "it cannot be read now"
