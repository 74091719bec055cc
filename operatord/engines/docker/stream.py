# SPDX-License-Identifier: MIT
"""A response of the engine that does not end by itself: one thread reads it, another ends it."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from typing import Any

import requests


class ResponseStream:
    """The body of a streaming response, as a `lanes.Source`.

    ``edge`` is the context manager that translates exceptions; ``release`` is called once, by the
    reader, when nothing more is read.
    """

    def __init__(
        self,
        response: requests.Response,
        edge: Callable[[], AbstractContextManager[None]],
        release: Callable[[], None],
    ) -> None:
        self._response = response
        self._edge = edge
        self._release = release
        self._handle = _handle(response)

    def __iter__(self) -> Generator[bytes, None, None]:
        try:
            with self._edge():
                yield from self._response.iter_content(chunk_size=None)
        finally:
            self._response.close()
            self._release()

    def close(self) -> None:
        """End a read that is under way, from any thread. Idempotent."""
        with contextlib.suppress(OSError, EOFError):  # already shut down, or closed
            self._handle.shutdown(socket.SHUT_RDWR)
        self._handle.close()


def _handle(response: requests.Response) -> Any:
    """Return what wakes a reader when it is closed, and remove the reader's timeout.

    A stage may write nothing for an hour, so the timeout for connection and headers is removed. It is set on
    the socket object, which neither requests nor urllib3 exposes; docker-py gets it in the same way.
    """
    raw: Any = response.raw
    below = raw._fp.fp
    if (channel := getattr(below, "channel", None)) is not None:  # by ssh
        channel.settimeout(None)
        return channel
    below.raw._sock.settimeout(None)
    # A duplicate, because shutting it down wakes a reader of the original without closing the descriptor
    # under it: a closed one could already be another connection's.
    return socket.socket(fileno=os.dup(raw.fileno()))
