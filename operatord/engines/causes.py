# SPDX-License-Identifier: MIT
"""What is below an error: libraries wrap those of the operating system in their own."""

from __future__ import annotations

from collections.abc import Iterator


def words(exc: BaseException) -> str:
    """Return what the operating system says, if its error is at the bottom; else what ``exc`` says."""
    return next(filter(None, map(_of_the_system, below(exc))), str(exc))


def _of_the_system(exc: BaseException) -> str | None:
    """Return what the operating system says by an error, None if it is none of its errors."""
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) if isinstance(exc, ConnectionError | TimeoutError) else None


def below(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all its causes, each once."""
    todo, seen = [exc], set[int]()
    while todo:
        each = todo.pop(0)
        if id(each) not in seen:
            seen.add(id(each))
            yield each
            causes = (*each.args, getattr(each, "reason", None), each.__cause__, each.__context__)
            todo += [cause for cause in causes if isinstance(cause, BaseException)]
