# SPDX-License-Identifier: MIT
"""Call what somebody else has written, and say in a sentence what went wrong in it."""

from __future__ import annotations

from operatord_stage.stage import OWN_FAILURE, Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")


class Mistake(Fault):
    """What a function did is not what it may do; the process ends."""

    def __init__(self, sentence: str) -> None:
        super().__init__(OWN_FAILURE, sentence)


def name_of(function: Callable[..., object]) -> str:
    """Return what a function is called in a sentence."""
    name: str = getattr(function, "__qualname__", type(function).__name__)
    return name.rpartition("<locals>.")[2]


def calling(function: Callable[..., T], *args: Any, where: str = "") -> T:
    """Return what a function returns; `where` says for what it was called.

    Raises:
        Fault: it raised one, or another exception, whose traceback was printed on standard error.
    """
    try:
        return function(*args)
    except Fault:
        raise
    except Exception as exc:
        raise failure(f"{name_of(function)}()", exc, where) from exc
    except SystemExit as exc:
        if not where:  # before the stream or after it, a program may end itself
            raise
        advice = f"and the stream goes on: return from it ({where})"
        raise left(f"{name_of(function)}()", exc, advice) from exc


def left(name: str, exc: SystemExit, advice: str) -> Fault:
    """Return what is said of a function that ends the process in the middle of the stream.

    Its exit code is kept, unless that says that all went well.
    """
    said = "" if exc.code is None else repr(exc.code)
    code = exc.code if isinstance(exc.code, int) and exc.code != 0 else OWN_FAILURE
    return Fault(code, f"{name} called sys.exit({said}), {advice}")


def failure(name: str, exc: BaseException, where: str = "") -> Mistake:
    """Print an exception's traceback without the lines of this package, and return it as a sentence."""
    import traceback  # noqa: PLC0415 - a sixth of a start

    below = exc.__traceback__.tb_next if exc.__traceback__ else None
    traceback.print_exception(type(exc), exc, below)
    said = "".join(traceback.format_exception_only(exc)).strip().splitlines()[-1]
    return Mistake(f"{name} raised {said}" + (f" ({where})" if where else ""))
