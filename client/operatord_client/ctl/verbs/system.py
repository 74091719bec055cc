# SPDX-License-Identifier: MIT
"""status, metrics, ping, pipelines, drain, undrain, reload, describe."""

from __future__ import annotations

import time
from functools import partial

from operatord_client.ctl import render, terminal
from operatord_client.ctl.context import Context

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def status(ctx: Context, _args: Namespace) -> None:
    """Print engine, room, sessions, queue, warm slots."""
    ctx.answer("system.status", {}, partial(render.status, width=terminal.width()))


def metrics(ctx: Context, _args: Namespace) -> None:
    """Print what the daemon counts and measures."""
    ctx.answer("system.metrics", {}, render.metrics)


def ping(ctx: Context, _args: Namespace) -> None:
    """Print how long an answer takes, on a connection that is there already."""
    ctx.client.connect()
    before = time.perf_counter()
    ctx.answer("system.ping", {}, lambda _: _took(time.perf_counter() - before))


def _took(seconds: float) -> str:
    return f"answered in {seconds * 1000:.2f} ms"


def describe(ctx: Context, _args: Namespace) -> None:
    """Print what this daemon speaks."""
    ctx.answer("system.describe", {}, _methods)


def _methods(result: dict[str, Any]) -> str:
    head = f"operatord {result['version']}, protocol {result['protocol']}"
    rows = ((name, method.get("summary", "")) for name, method in result["methods"].items())
    return f"{head}\n\n{render.table(('METHOD', ''), rows)}"


def pipelines(ctx: Context, args: Namespace) -> None:
    """Print the pipelines, or with ``--quiet`` their names."""
    ctx.answer("pipeline.list", {}, _names if args.quiet else render.pipelines)


def _names(result: dict[str, Any]) -> str:
    return "\n".join(pipeline["name"] for pipeline in result["pipelines"])


def drain(ctx: Context, args: Namespace) -> None:
    """Admit no more sessions."""
    ctx.answer("system.drain", {"timeout": args.timeout}, render.drained)


def undrain(ctx: Context, _args: Namespace) -> None:
    """Admit sessions again."""
    ctx.answer("system.undrain", {}, render.drained)


def reload(ctx: Context, _args: Namespace) -> None:
    """Have the configuration read again."""
    ctx.answer("system.reload", {}, render.reloaded)
