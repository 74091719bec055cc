# SPDX-License-Identifier: MIT
"""A pull, as the engine tells of it: a line of JSON for each step of each layer."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import Any

import msgspec

from operatord.engines.base import Pulled

from .client import Clients, edge, registry_login
from .errors import refusal
from .stream import ResponseStream

_WORDS = 45.0
"""Seconds for the first of them; whoever waits has given up before."""
_FETCHED = (
    "Download complete",
    "Pull complete",
    "Already exists",
    "Verifying Checksum",
    "Extracting",
)


def open_pull(clients: Clients, image: str, platform: str | None) -> ResponseStream:
    """Have the engine pull an image, with the login of the daemon's user. Blocking, for a thread.

    It ends the pull when the stream is closed. Raises `EngineError`.
    """
    translated = partial(edge, "pull", image)
    with contextlib.ExitStack() as on_failure:
        client = on_failure.enter_context(contextlib.closing(clients.make()))
        with translated():
            name, tag, headers = registry_login(client, image)
            asked = {"fromImage": name, "tag": tag, "platform": platform}
            query = {name: value for name, value in asked.items() if value}
            response = client.post(
                f"{client.base_url}/v{client.api_version}/images/create",
                params=query, headers=headers, stream=True, timeout=_WORDS,
            )  # fmt: skip
            response.raise_for_status()
            stream = ResponseStream(response, translated, client.close)
        on_failure.pop_all()
        return stream


class Layers:
    """Adds up what has come of an image's layers."""

    def __init__(self, image: str) -> None:
        """Nothing has come of ``image``."""
        self._image = image
        self._layers: dict[str, tuple[int, int]] = {}
        """By layer, bytes that have come and that there are."""

    def hear(self, line: str | bytes) -> Pulled | None:
        """Take a line; return how far the pull is. None for a line that says nothing of that.

        Raises the error that the engine tells of.
        """
        try:
            said: dict[str, Any] = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            return None
        if "error" in said:
            raise refusal("pull", 0, str(said["error"]), self._image)
        self._note(str(said.get("id", "")), str(said.get("status", "")), said.get("progressDetail"))
        done, total = map(sum, zip(*self._layers.values(), strict=True)) if self._layers else (0, 0)
        return Pulled(done=done, total=total)

    def _note(self, layer: str, status: str, detail: Any) -> None:
        _, total = self._layers.get(layer, (0, 0))
        detail = detail if isinstance(detail, dict) else {}
        if status == "Downloading" and isinstance(detail.get("total"), int):
            self._layers[layer] = int(detail.get("current", 0)), detail["total"]
        elif total and status in _FETCHED:
            self._layers[layer] = total, total
