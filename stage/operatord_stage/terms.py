# SPDX-License-Identifier: MIT
"""How a stage serves its consumers: the settings, and what follows from them and the upstream's hello."""

from __future__ import annotations

import math
import time

from operatord_stage.dialect import StreamFormat, Y4m
from operatord_stage.stage import choice, number, switch, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from operatord_stage.dialect import Dialect

NO_LIMIT = 2**31 - 1
"""Frames: as many as nobody will see, where no number is given."""

TERMS_HELP = """\
    format             json, or y4m: YUV4MPEG2 for ffmpeg and OpenCV     (json)
    chroma             of grey pictures as y4m: mono, or 420jpeg for players that do not read
                       mono, as GStreamer's y4mdec                       (mono)
    policy             lossless: the slowest consumer slows everything down; fastest: frames are
                       dropped for consumers slower than the fastest; live: for all that are too
                       slow; the end counts them                 (y4m: fastest, json: lossless)
    unread             without a consumer, hold the stream, or drop all but the newest
                       frame             (drop if the number of frames is unknown; else hold)
    checked            True: nobody is a consumer before the first check (False)
    attached           True: attach to the upstream, and be live         (False)
    visitors           False: a silent connection is a consumer after 2 ms (True)
    count              frames after which to end, even if the upstream goes on (the upstream's)
    connect_timeout    seconds for the upstream's hello to come          (30)

A stage sends its hello after its upstream has sent one. Frames begin with the first consumer; later
ones begin with the next whole frame. If all consumers leave, the upstream is held until another
comes, and frames that a consumer had accepted when it left are lost.

A connection may say in a line what it is. {"type":"check"}: it gets the hello and costs no frame.
{"type":"consume"}: it is a consumer at once; with "policy":"live" in it, frames are dropped for it,
so that others need not wait. {"type":"attach"}: it gets the hello and the end, and frames only while
it asks for them with a consume; frames neither begin nor wait for it. {"type":"watch"}: the same, but
it gets frames while others do. A silent connection is sent frames at once and is a consumer after
0.2 s. If it leaves before, or says by then or within two seconds more that it is a check, the next
connection is sent the same frames.

A consumer's end counts in `frames` what it was sent and in `dropped` what it missed.
"""
"""What --help says of every stage that has an upstream, after the settings of its own."""


class Settings:
    """What the environment says."""

    upstream: tuple[str, int]
    """Its address; a source has none."""

    def __init__(self, upstream: tuple[str, int] | None, own: tuple[str, int]) -> None:
        """Read and check the environment, given the names and default ports of the two ends.

        Raises:
            Fault: a setting is not what it may be.
        """
        own_name, own_port = own
        if upstream is not None:
            name, port = upstream
            self.upstream = text(f"{name}_ip", name), number(f"{name}_port", port, 1, 65535)
        self.host = text(f"{own_name}_ip", "0.0.0.0")  # noqa: S104 (a container serves its network)
        self.port = number(f"{own_name}_port", own_port, 0, 65535)
        self.policy = choice("policy", "", ("", "lossless", "fastest", "live"))  # empty: see Terms
        self.unread = choice("unread", "", ("", "hold", "drop"))  # empty: see Terms
        self.checked = switch("checked", "false")  # nobody is a consumer before the daemon's check
        self.attached = switch("attached", "false")  # be an addition that nobody else notices
        self.y4m = choice("format", "json", ("json", "y4m")) == "y4m"
        self.chroma = choice("chroma", "mono", ("mono", "420jpeg"))
        self.visitors = switch("visitors", "true")  # somebody may connect who is no consumer
        self.frames = number("count", NO_LIMIT, 1, NO_LIMIT)  # after which to end in any case
        self.connect_timeout = number("connect_timeout", 30, 0, 86400)


class Terms:
    """What a stage says to its consumers, whom it waits for, and when it ends.

    The pace is set by the slowest consumer (lossless), by the fastest (frames are dropped for those
    who are slower; a single one gets all), or by the upstream alone (live).
    """

    alone_at = math.inf
    """The time from which on the stream is read even without a consumer."""
    takes_all = False
    """Whether this stage takes the frames itself, whoever else does."""

    def __init__(
        self, stage: str, settings: Settings, said: dict[str, Any], wire: Dialect | None = None
    ) -> None:
        """Derive the terms from the settings, from what the upstream said in its hello, and from the dialect.

        The limit counts only if the upstream goes on for longer: it too must deliver its end. Of a stream
        without an end, who comes late wants the present.
        """
        count = said.get("count", NO_LIMIT)
        hello = {**said, "stream": stage, "watch": True}
        endless = min(count, settings.frames) >= NO_LIMIT
        if not endless:
            hello["count"] = min(count, settings.frames)
        unread = settings.unread or ("drop" if endless else "hold")
        self.stage = stage
        self.wire = wire or (Y4m(settings.chroma) if settings.y4m else StreamFormat())
        self.policy = "live" if settings.attached else settings.policy or self.wire.policy
        self.live = self.policy == "live"  # nobody is ever waited for
        self.attached = settings.attached
        self.visitors = settings.visitors
        self.checked = settings.checked
        self.drops = settings.attached or unread == "drop"  # what comes while nobody consumes
        self.greeting = self.wire.greeting(hello)
        self.limit = settings.frames if settings.frames < count else NO_LIMIT  # frames to end after
        if settings.attached:
            self.go_alone(after=0.0)

    def go_alone(self, after: float) -> None:
        """Have the stream read on without a consumer for so many seconds."""
        self.alone_at = time.monotonic() + after

    def take_all(self) -> None:
        """Have the stream read from the beginning for this stage itself: it is a consumer, too."""
        self.takes_all, self.drops = True, False
