# SPDX-License-Identifier: MIT
"""Frames a second through a session's containers: probe, whoever is in the middle, requester.

All sessions are operatord's, on the same engine, with the same limits and the same kind of network; what
differs is the program in the streaming server's place. The requester reads bytes at the location.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from daemons import Daemon
from engine_api import EngineApi
from frames import ENV, WARM_UP, read_bytes
from on_docker import each_stage, operatord_on_docker, shipped
from socat_image import socat_image
from tables import Table

OURS, SOCAT, SHIPPED = "streaming server", "socat", "segmented, as shipped"
LARGE = ["-b", "1048576"]
FREE = {"cpu_limit": None}
"""No limit of processor time: the programs are compared, and not what they are given."""

Pipelines = dict[str, dict[str, Any]]


class Group(NamedTuple):
    """What is compared in one table."""

    table: Table
    pipelines: Pipelines
    """By row."""
    frames: int
    """Read after those with which each stream warms up."""

    def measure(self, daemon: Daemon) -> None:
        """Run each pipeline once."""
        for row in self.pipelines:
            self.table.add(row, _rate(daemon, _slug(self.table, row), self.frames))


def measure(engine: EngineApi, url: str, rounds: int, short: bool) -> list[Table]:
    """Return the rates of plain chains in both kinds of network, and of segmented ones."""
    with socat_image(engine) as image:
        groups = _groups(image, short)
        pipelines = {_slug(g.table, row): p for g in groups for row, p in g.pipelines.items()}
        with operatord_on_docker(engine, url, {"pipelines": pipelines}) as daemon:
            for _ in range(rounds):
                for group in groups:
                    group.measure(daemon)
    return _noted([group.table for group in groups], image)


def _groups(image: str | None, short: bool) -> list[Group]:
    """Return all that is compared; ``image`` is socat's, if there is one."""
    frames = (100, 100) if short else (3000, 1000)
    reference = OURS if image is None else SOCAT
    shared = _table("chain", "plain, one namespace", reference)
    separate = _table("chain.separate", "plain, a namespace each", reference)
    segmented = _table("chain.segmented", "segmented", SHIPPED)
    groups = [
        Group(shared, _plain("shared", image), frames[0]),
        Group(separate, _plain("separate", image), frames[0]),
        Group(segmented, _segmented(), frames[1]),
    ]
    return groups[::2] if short else groups


def _table(name: str, title: str, reference: str) -> Table:
    title = f"{title}: frames through the containers"
    return Table(name, title, "frames/s", reference, more_is_better=True)


def _slug(table: Table, row: str) -> str:
    """Return the pipeline's name for a row of a table."""
    return f"{table.name}-{row}".replace(" ", "-").replace(",", "")


def _plain(network: str, image: str | None) -> Pipelines:
    """Return the plain pipeline with each program in the middle, and with none."""
    plain = each_stage(shipped("stream", network=network), **FREE)
    probe, stream = plain["stages"]["probe"], plain["stages"]["stream"]
    found = {
        "probe alone": plain | {"stages": {"probe": probe}},
        OURS: plain,
    }
    if image is not None:
        for row, options in ((SOCAT, []), (" ".join((SOCAT, *LARGE)), LARGE)):
            command = [*options, f"TCP-LISTEN:{stream['port']},reuseaddr,fork", "TCP:probe:12345"]
            middle = stream | {"image": image, "command": command, "late_bind": "off"}
            found[row] = plain | {"stages": {"probe": probe, "stream": middle}}
    return found


def _segmented() -> Pipelines:
    segmented = shipped("segmented")
    return {
        SHIPPED: segmented,
        "segmented, no limits": each_stage(segmented, **FREE),
        "segmented, separate": each_stage(shipped("segmented", network="separate"), **FREE),
    }


def _rate(daemon: Daemon, pipeline: str, beyond: int) -> float:
    count = WARM_UP + beyond
    session = daemon.call("session.start", pipeline=pipeline, count=count, env=ENV)
    try:
        return beyond / read_bytes(session["location"]["host"], session["location"]["port"], count)
    finally:
        daemon.call("session.stop", session_id=session["session_id"])


def _noted(tables: list[Table], image: str | None) -> list[Table]:
    plain, *_, segmented = tables
    plain.notes += [
        "256x256 pixels at fps=0, read as bytes through the published port; socat: this machine's, in an",
        "image of its own, as the same stage under the same hardening. No stage has a limit of cores",
    ]
    if image is None:
        plain.notes.append("socat is not installed")
    segmented.notes += [
        "target: at least 300. as shipped: limits of 0.5, 0.5 and 1 core; no limits and separate: none"
    ]
    return tables
