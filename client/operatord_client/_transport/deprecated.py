# SPDX-License-Identifier: MIT
"""Deprecated names, which work for one more version."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def renamed(old: str, new: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Return a decorator for what does as ``old`` did; each call warns that ``new`` is to be used."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            warnings.warn(f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=2)
            return function(*args, **kwargs)

        return call

    return decorate
