# SPDX-License-Identifier: MIT
"""logs and events: printed line by line, as they come."""

from __future__ import annotations

from operatord_client.ctl import render, terminal
from operatord_client.ctl.context import Context
from operatord_client.ctl.outlet import require_reader

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator
    from typing import Any, TypeVar

    from operatord_client.feeds import Feed

    T = TypeVar("T")

LOOK_SECONDS = 1.0
"""How often it is looked whether anybody still reads the output, while there is nothing to print."""

TAIL = 100
MOST = 10_000
"""Lines of each stage that the daemon gives if it is not said how many, and at most."""
OLDER = "… there are older lines, more than fit into one answer; --follow prints them, too"


def followed(feed: Feed[T]) -> Iterator[T]:
    """Yield what a feed brings, to its end. Raises `BrokenPipeError` soon after nobody reads the output any
    more, or a program in a pipeline would stay until something happens.
    """
    while not feed.ended:
        if (item := feed.take(LOOK_SECONDS)) is not None:
            yield item
        else:
            require_reader()


def logs(ctx: Context, args: Namespace) -> None:
    """Print what a session's stages wrote, and with ``--follow`` what they go on writing.

    For people, without what stages say to the daemon, unless with ``--all``.
    """
    from operatord_protocol.stage_lines import is_for_people  # noqa: PLC0415 - not for --help

    whole = args.all or ctx.as_json
    params = {"session_id": ctx.session_id(args.id), "stage": args.stage, "tail": args.tail}

    def rendered(line: dict[str, Any]) -> str:
        return render.log_line(line, times=args.times)

    def rendered_all(result: dict[str, Any]) -> str:
        found = [line for line in result["lines"] if whole or is_for_people(line["line"])]
        shown = found if whole else _newest(found, TAIL if args.tail is None else args.tail)
        older = [OLDER] if result.get("truncated") and len(shown) == len(found) else []
        return "\n".join((*older, *map(rendered, shown)))

    if not args.follow:
        if not whole and (args.tail is None or args.tail >= 0):
            # The newest lines may all be reports; those for people come before them.
            params["tail"] = max(args.tail or 0, MOST)
        result = ctx.answer("session.logs", params, rendered_all)
        if (
            not whole
            and args.tail != 0
            and not any(is_for_people(each["line"]) for each in result["lines"])
        ):
            terminal.note(_nothing_of(result["lines"], args.stage))
        return
    with ctx.client.logs(params.pop("session_id"), follow=True, **params) as feed:
        for line in followed(feed):
            if whole or is_for_people(line.line):
                ctx.show({"stage": line.stage, "time": line.time, "line": line.line}, rendered)


def _nothing_of(lines: list[dict[str, Any]], stage: str | None) -> str:
    """Return why nothing is shown of lines that are none for people."""
    stages = ", ".join(dict.fromkeys(line["stage"] for line in lines))
    if not stages:
        return f"{stage or 'no stage'} has written {'nothing' if stage else 'anything'}"
    return f"nothing but reports to the daemon was written, by {stages}; --all shows them, too"


def _newest(lines: list[dict[str, Any]], tail: int) -> list[dict[str, Any]]:
    """Return the last ``tail`` lines of each stage, in the order in which they are."""
    left: dict[str, int] = {}
    kept: list[dict[str, Any]] = []
    for line in reversed(lines):
        left[line["stage"]] = left.get(line["stage"], tail) - 1
        if left[line["stage"]] >= 0:
            kept.append(line)
    return kept[::-1]


def events(ctx: Context, args: Namespace) -> None:
    """Print what happens, until interrupted; with ``--reconnect`` across restarts of the daemon."""
    session = ctx.session_id(args.session) if args.session else None
    types = args.type or None
    wanted = {"session_id": session, "types": types, "since": args.since}
    with ctx.client.events(**wanted, reconnect=args.reconnect) as feed:
        strange = args.since
        for event in followed(feed):
            if strange is not None and event.seq is not None and event.seq <= strange:
                terminal.note(
                    f"the daemon has had no event {strange}: that is a number of an earlier life, whose "
                    "journal was lost, or was never one; here is all that it remembers"
                )
                strange = None
            ctx.show(event.data, render.event)
