# SPDX-License-Identifier: MIT
"""start, plan, get, wait, extend, stats."""

from __future__ import annotations

import time
from contextlib import suppress

from operatord_client.ctl import render
from operatord_client.ctl.context import Context
from operatord_client.ctl.exits import FAILED, OK
from operatord_client.ctl.terminal import Ticker

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable
    from typing import Any

    from operatord_client.notices import Progress
    from operatord_client.options import StartOptions

SAME_NAME = ("pipeline", "count", "probe", "format", "request_key", "priority", "owner")
GONE_WRONG = ("failed", "expired", "refused")


def params_of(args: Namespace) -> dict[str, Any]:
    """Return the params of a start: only what was typed, so that the daemon's defaults hold."""
    params = {name: getattr(args, name) for name in SAME_NAME}
    params |= {name: getattr(args, name) for name in ("lease", "on_shortage", "deadline")}
    params["plain_stream"] = True if args.plain else None
    params["env"] = _env(args.env) or None
    return {name: value for name, value in params.items() if value is not None}


def _env(variables: list[tuple[str, str, str]]) -> dict[str, dict[str, str]]:
    env: dict[str, dict[str, str]] = {}
    for stage, key, value in variables:
        env.setdefault(stage, {})[key] = value
    return env


def start(ctx: Context, args: Namespace) -> int:
    """Start a session and print it; with ``--frames`` take its stream as well."""
    params = params_of(args)
    if args.no_wait:
        params["wait"] = "accepted"
    if args.frames:
        params = _for_as_long_as_frames_are_taken(params)
    ctx.client.connect()
    before = time.perf_counter()
    raw = _begin(ctx, params)
    waited = (time.perf_counter() - before) * 1000
    info = ctx.print_result(raw, _explained(waited) if args.explain else render.session)
    if not args.frames:
        return OK
    from .receive import receive  # noqa: PLC0415 - it imports the stream format

    return receive(ctx, info, is_own=_is_own(params))


def _for_as_long_as_frames_are_taken(params: dict[str, Any]) -> dict[str, Any]:
    """Return ``params`` with a lease that ends with this program, even killed, unless they say another."""
    from operatord_client.options import leased  # noqa: PLC0415 - not for --help

    options: StartOptions = {**params}  # type: ignore[typeddict-item]
    return {**leased(options)}


def _is_own(params: dict[str, Any]) -> bool:
    """Tell whether a session belongs to this program alone: it ends with the program, and nobody else can use
    it."""
    return params.get("lease") == "connection" and "request_key" not in params


def _begin(ctx: Context, params: dict[str, Any]) -> bytes:
    """Start a session; until it is there, say what it waits for: on one line of a terminal, or on a few."""
    try:
        return _begin_telling(ctx, params)
    except KeyboardInterrupt:
        from operatord_client.errors import ClientError, WireError  # noqa: PLC0415 - not for --help

        # The answer may be on its way; with it the client stops a session that nobody will use.
        with suppress(ClientError, WireError):
            ctx.client.ping(call_timeout=1)
        raise


def _begin_telling(ctx: Context, params: dict[str, Any]) -> bytes:
    with Ticker() as ticker:
        if ticker.on:
            return ctx.request("session.start", params, lambda at: ticker.show(_progress(at)))
        from .bulletins import Bulletins  # noqa: PLC0415 - not for --help

        with Bulletins() as bulletins:
            return ctx.request(
                "session.start",
                params,
                lambda at: bulletins.show(_progress(at), (at.stage, at.reason)),
            )


def _explained(waited: float | None = None) -> Callable[[dict[str, Any]], str]:
    """Return what renders a session with where the time of its start went, see `explain`."""
    from .explain import explanation  # noqa: PLC0415 - not for --help

    return lambda info: f"{render.session(info)}\n\n{explanation(info, waited)}"


def _progress(progress: Progress) -> str:
    words = [progress.session_id]
    if progress.position is not None:
        words.append(f"queued at position {progress.position}")
    if progress.stage:
        words.append(progress.stage)
    if progress.reason:
        words.append(progress.reason)
    return "  ".join(words)


def plan(ctx: Context, args: Namespace) -> int:
    """Print what a start would do; 1 when it would be refused."""
    result = ctx.answer("session.plan", params_of(args), render.plan)
    return FAILED if result["decision"] == "refuse" else OK


def get(ctx: Context, args: Namespace) -> None:
    """Print a session; with ``--explain`` also where the time of its start went."""
    rendered = _explained() if args.explain else render.session
    ctx.answer("session.get", {"session_id": ctx.session_id(args.id)}, rendered)


def wait(ctx: Context, args: Namespace) -> int:
    """Print a session when it has reached a phase; 1 when it ended badly."""
    params = {
        "session_id": ctx.session_id(args.id),
        "phase": args.phase,
        "timeout": args.timeout,
    }
    return code_of(ctx.answer("session.wait", params, render.session))


def code_of(info: dict[str, Any]) -> int:
    """Return the exit code that goes with a session's outcome."""
    return FAILED if info.get("outcome") in GONE_WRONG else OK


def extend(ctx: Context, args: Namespace) -> None:
    """Renew a lease."""
    params = {"session_id": ctx.session_id(args.id), "ttl": args.ttl}
    ctx.answer("session.extend", params, lambda info: f"expires {info.get('expires', 'never')}")


def stats(ctx: Context, args: Namespace) -> None:
    """Print what a session's stages use."""
    ctx.answer("session.stats", {"session_id": ctx.session_id(args.id)}, render.stats)
