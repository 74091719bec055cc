# SPDX-License-Identifier: MIT
"""Whether a request that has the key of an earlier one asks for the same session.

What counts is what is meant, not how it is written: ``plain_stream: true`` chooses the same pipeline as the
name of that one, and a stage reads the same text from 1 and ``"1"``. So every client that asks for the same
session may use the same key, and requests whose stages would read different texts are never treated as the
same.
"""

from __future__ import annotations

from operatord_protocol.absent import given
from operatord_protocol.messages import SessionStartParams

from .pipelines import env_text
from .plans import SessionPlan, pipeline_name

_OTHERWISE = ("wait", "owner", "request_key")
"""When to answer, and the key itself."""
_CHOICE = ("plain_stream", "pipeline")
"""The members that choose the pipeline, together."""


def differing(
    first: SessionStartParams, plan: SessionPlan, again: SessionStartParams, default_count: int
) -> list[str]:
    """Return the members in which ``again`` asks for another session than ``first``, which became ``plan``.

    ``default_count`` is what a request without a count would get now. Raises `InvalidParams` if ``again``
    chooses two pipelines.
    """
    is_same = {
        "count": _same_count(first, plan, again, default_count),
        "env": _texts(first) == _texts(again),
    }
    if pipeline_name(first) == pipeline_name(again):
        is_same |= dict.fromkeys(_CHOICE, True)
    return [
        name
        for name in again.__struct_fields__
        if name not in _OTHERWISE and not is_same.get(name, _written_alike(name, first, again))
    ]


def _written_alike(name: str, first: SessionStartParams, again: SessionStartParams) -> bool:
    """Tell whether a member is the same; leaving it out means the same as false."""
    return (getattr(first, name) or None) == (getattr(again, name) or None)


def _same_count(
    first: SessionStartParams, plan: SessionPlan, again: SessionStartParams, default: int
) -> bool:
    """Compare how many frames are asked for.

    If the default has changed since, a request that is sent again without a count still means the same.
    """
    if _written_alike("count", first, again):
        return True
    if (count := given(again.count)) is not None:
        return count == plan.count
    return given(again.probe) is None and default == plan.count


def _texts(params: SessionStartParams) -> dict[tuple[str, str], str]:
    """Return what each variable will be, by stage and name."""
    return {
        (stage, key): env_text(value)
        for stage, values in params.env.items()
        for key, value in values.items()
    }
