# SPDX-License-Identifier: MIT
"""All trials, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from operatord.conformance.trial import Trial

from . import faults, flows, formats, sandbox, streams

Run = Callable[[Trial], Awaitable[None]]

FIRST = "plain"
"""A stage that says no hello in this trial is not tried further."""
EVERY: Mapping[str, Run] = {
    "paused": flows.paused,
    "checked": streams.checked,
    "terminated": flows.terminated,
    "late-bound": streams.late_bound,
    "unneeded": streams.unneeded,
    "bad-setting": faults.bad_setting,
}
"""For every kind of stage, the longest first."""
BEHIND_OTHERS: Mapping[str, Run] = {
    "late-upstream": streams.late_upstream,
    "no-upstream": faults.no_upstream,
    "live": flows.live,
    "live-consumer": flows.live_consumer,
    "attached": formats.attached,
    "nonsense": faults.nonsense,
    "unknown-format": faults.unknown_format,
    "broken-upstream": faults.broken_upstream,
}
"""For stages that have an upstream."""
FILTERING: Mapping[str, Run] = {
    "leaving": flows.leaving,
    "passing": formats.passing,
    "played": formats.played,
}
"""For filters."""
SHIM = "shim"
"""For a stage that is not bound late by itself."""
RELAXED: Mapping[str, Run] = {
    "writable": sandbox.relaxed(sandbox.writable),
    "as-root": sandbox.relaxed(sandbox.as_root),
    "roomy": sandbox.relaxed(sandbox.same, roomy=True),
}
"""For a stage that says no hello."""
ALL: Mapping[str, Run] = {
    FIRST: streams.plain,
    **EVERY,
    **BEHIND_OTHERS,
    **FILTERING,
    SHIM: streams.shim,
    **RELAXED,
}
