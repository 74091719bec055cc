# SPDX-License-Identifier: MIT
"""Where whoever asks for a stream is to find it, and what is to be known of who else may."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from operatord.access.audit import Audit
from operatord.access.identity import ANONYMOUS
from operatord.access.origin import Entrance, Origin, unmapped
from operatord.gate.door import Reach
from operatord.gate.keys import StreamKey
from operatord.gate.link import Gate
from operatord.provision.doors import DoorParts, Doors
from operatord.session.record import SessionRecord
from operatord.settings.advertised import Advertised
from operatord.settings.config import Config
from operatord.settings.listeners import is_loopback
from operatord.state.directory import StateDir, StateDirLost

log = logging.getLogger(__name__)

GATE = "the gate for streams"
DOORS = "the doors of streams"
"""What the log and `system.status` call them."""
LOOPBACKS = ("127.0.0.1", "::1")


def reach_of(
    advertised: Advertised, config: Config, origin: Origin, entrance: Entrance
) -> Reach | None:
    """Return where somebody who has connected is to find a stream; None where it is published anyway."""
    if not advertised.by_gate:
        return None
    here = entrance.address
    remote = here is not None and not is_loopback(here)
    if advertised.listen is not None:
        listen, shown = advertised.listen, advertised.shown
    elif here is not None and remote:
        listen, shown = here, here.partition("%")[0]
    else:
        return None
    peer = unmapped(origin.address.partition("%")[0])
    requesters = (peer,) if remote and peer != here else (peer, listen, *LOOPBACKS)
    return Reach(listen, shown, config.streams.allow, requesters, entrance.tls)


def stream_warnings(advertised: Advertised, config: Config) -> list[str]:
    """Return what is to be known of who may read streams, as sentences."""
    if not advertised.by_gate and not is_loopback(advertised.address):
        return [
            f"everybody who reaches {advertised.host} can read every stream: the engine is not in this "
            "machine's network, and publishes them there itself; no token is needed"
        ]
    reached = advertised.listen is not None or any(
        not each.is_unix and not is_loopback(each.tcp[0]) for each in config.listeners
    )
    if reached and config.streams.allow == "any":
        return ["everybody who reaches the gate can read every stream: streams.allow is any"]
    return []


class Told(NamedTuple):
    """Who is told what happens at the gate."""

    audit: Audit
    show: Callable[[str, str], None]
    """For `system.status`: what went wrong, and how."""


def make_doors(
    state: StateDir,
    key: StreamKey,
    told: Told,
    ports: Callable[[], tuple[int, int] | None],
    living: Callable[[], list[SessionRecord]],
) -> Doors:
    """Return the doors of a daemon's sessions; no gate is started yet."""

    def hear(said: dict[str, Any]) -> None:
        if said["event"] == "refused":
            origin, session_id = Origin(unmapped(said["peer"])), said["door"].partition("/")[0]
            told.audit.refused(ANONYMOUS, origin, why=said["why"], session_id=session_id)
        else:
            log.error("the gate went on after a defect: %s", said["why"])

    def lost(how: str) -> None:
        log.error("%s %s; it is started again where it is needed", GATE, how)
        told.show(GATE, f"it {how}; it is started again where it is needed")
        doors.look_again()

    def secure() -> None:
        try:
            state.secure()
        except StateDirLost as exc:
            raise OSError(str(exc)) from exc

    gate = Gate(state.path, hear, lost, secure)
    doors = Doors(DoorParts(gate, key, ports, living, lambda said: told.show(DOORS, said)))
    return doors
