# SPDX-License-Identifier: MIT
"""What the daemon finds out about a stream while it is received: that a stage delivers nothing any more."""

from __future__ import annotations

import threading
from contextlib import suppress

from operatord_client.ctl import terminal

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from operatord_client.client import Client
    from operatord_client.feeds import Feed
    from operatord_client.notices import Event

LOOK_SECONDS = 1.0
"""How often it is looked whether anybody still wants to know; what is over sooner makes no connection."""


class Stalls:
    """Says so on standard error, on a connection of its own; says nothing where that cannot be had."""

    def __init__(self, client: Client, session_id: str) -> None:
        self._client, self._session_id = client, session_id
        self._over = threading.Event()

    def __enter__(self) -> Stalls:
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()

    def _run(self) -> None:
        from operatord_client.errors import Error  # noqa: PLC0415 - not for --help

        if self._over.wait(LOOK_SECONDS):
            return
        with suppress(Error, OSError), self._stalled() as feed:
            while not (self._over.is_set() or feed.ended):
                if (event := feed.take(LOOK_SECONDS)) and not self._over.is_set():
                    terminal.interject(sentence(event))

    def _stalled(self) -> Feed[Event]:
        return self._client.events(session_id=self._session_id, types=["session.stalled"])


def sentence(event: Event) -> str:
    """Return what a `session.stalled` tells."""
    stage, seconds = event.data.get("stage", "a stage"), event.data.get("seconds", 0)
    return f"{stage} has delivered nothing for {seconds:.0f} s; {event.session_id} waits for it"
