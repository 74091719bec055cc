# SPDX-License-Identifier: MIT
"""What a command works with: the daemon, the two outputs, and ids written short."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from .exits import NOT_FOUND, Refused

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from typing import Any

    from ..client import Client
    from ..notices import Progress

ID_LENGTH = 16


class Context:
    """One run of operatorctl."""

    def __init__(self, address: str | None, token: str | None, *, as_json: bool) -> None:
        self._address = address
        self._token = token
        self._client: Client | None = None
        self.as_json = as_json

    @property
    def client(self) -> Client:
        """The client, loaded and connected when it is first asked for."""
        if self._client is None:
            from ..client import Client

            self._client = Client(self._address, token=self._token)
        return self._client

    def close(self) -> None:
        """Disconnect, if there is a connection."""
        if self._client is not None:
            self._client.close()

    # --- talking ---------------------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> Any:
        """Return a result as builtins; params that are None are left out."""
        return self._decode(self._request(method, params))

    def answer(
        self,
        method: str,
        params: Mapping[str, Any],
        render: Callable[[Any], str],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Any:
        """Call, print the result (the wire's own JSON, or as ``render`` has it), and return it."""
        raw = self._request(method, params, on_progress)
        result = self._decode(raw)
        self.out(raw.decode() if self.as_json else render(result))
        return result

    def _request(
        self,
        method: str,
        params: Mapping[str, Any],
        on_progress: Callable[[Progress], None] | None = None,
    ) -> bytes:
        given = {name: value for name, value in params.items() if value is not None}
        return self.client.request(method, given, on_progress=on_progress)

    @staticmethod
    def _decode(raw: bytes) -> Any:
        from operatord_protocol.codec import decode

        return decode(raw)

    def session_id(self, start: str) -> str:
        """Return the one session's id that begins with ``start``. Raises `Refused`."""
        if len(start) == ID_LENGTH:
            return start
        sessions = self.call("session.list")["sessions"]
        ids = [s["session_id"] for s in sessions if s["session_id"].startswith(start)]
        if not ids:
            raise Refused(f"there is no session {start}…", NOT_FOUND)
        if len(ids) > 1:
            raise Refused(f"{start} is the beginning of {len(ids)} sessions: {', '.join(ids)}")
        return str(ids[0])

    # --- printing --------------------------------------------------------------------------------

    def out(self, text: str) -> None:
        """Print data; nothing for no text."""
        if text:
            print(text)

    def out_json(self, value: Any) -> None:
        """Print data as one line of JSON."""
        from operatord_protocol.codec import encode

        print(encode(value).decode(), flush=True)

    def note(self, text: str) -> None:
        """Tell the person, not the program that reads the output."""
        print(text, file=sys.stderr)

    def note_if_watched(self, text: str) -> None:
        """Tell the person, if there is one at a terminal."""
        if sys.stderr.isatty():
            self.note(text)
