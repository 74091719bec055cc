# SPDX-License-Identifier: MIT
"""probe add, list, get, remove."""

from __future__ import annotations

import sys

from operatord_client.ctl import render
from operatord_client.ctl.context import Context

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any


def add(ctx: Context, args: Namespace) -> None:
    """Make a probe known."""
    params = {
        "name": args.name,
        **_place(args.address_of_probe),
        "labels": dict(args.label) or None,
    }
    ctx.answer("probe.register", params, render.probe)


def _place(address: tuple[str, int] | str) -> dict[str, Any]:
    """Return where a probe is; ``-`` is a URL on standard input, where no list of processes shows it."""
    if address == "-":
        address = sys.stdin.readline().strip()
    if isinstance(address, str):
        return {"url": address}
    return {"host": address[0], "port": address[1]}


def list_(ctx: Context, args: Namespace) -> None:
    """Print the probes, or with ``--quiet`` their names."""
    ctx.answer_list("probe.list", "probes", {}, _names if args.quiet else render.probes)


def _names(result: dict[str, Any]) -> str:
    return "\n".join(probe["name"] for probe in result["probes"])


def get(ctx: Context, args: Namespace) -> None:
    """Print a probe, after the daemon has tried it."""
    ctx.answer("probe.get", {"name": args.name}, render.probe)


def remove(ctx: Context, args: Namespace) -> None:
    """Forget a probe."""
    ctx.answer("probe.remove", {"name": args.name}, lambda probe: f"{probe['name']}  removed")
