# SPDX-License-Identifier: MIT
"""The Docker Engine's API and nothing around it: `http.client` over its socket.

What a program would do that wants nothing but speed: kept connections, one for each thread.
"""

from __future__ import annotations

import http.client
import json
import os
import select
import socket
import threading
import urllib.parse
from typing import Any

from daemons import PATIENCE, BenchFailed, interruptions_later

LABEL = "operatord.bench"
"""On everything that a competitor makes; the value is the process id of the benchmark."""
RUN = str(os.getpid())


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _was_closed(sock: socket.socket) -> bool:
    """Return whether the engine gave up a kept connection: it does once one was idle for five minutes."""
    looking = select.poll()
    looking.register(sock, select.POLLIN)
    return bool(looking.poll(0))  # between two exchanges there is nothing else to be read


class EngineApi:
    """One engine, at a ``unix://`` or ``tcp://`` address."""

    def __init__(self, url: str) -> None:
        self._url = urllib.parse.urlsplit(url)
        self._own = threading.local()

    def call(self, method: str, path: str, body: Any = None, missing_ok: bool = False) -> Any:
        """Return what the engine answers to ``path``, a query included. Raises `BenchFailed`.

        A body of bytes is a tar archive, any other is sent as JSON.
        """
        connection = self._connection()
        tar = isinstance(body, bytes)
        data = body if tar or body is None else json.dumps(body)
        headers = {"Content-Type": f"application/{'x-tar' if tar else 'json'}"} if data else {}
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            answer = response.read()
        except BaseException:
            self.close()  # in the middle of an exchange it is of no more use
            raise
        if response.status >= 400 and not (missing_ok and response.status == 404):
            raise BenchFailed(f"{method} {path}: {response.status} {answer.decode()}")
        return json.loads(answer) if answer else None

    def _connection(self) -> http.client.HTTPConnection:
        if not hasattr(self._own, "connection"):
            self._own.connection = self._new()
        connection: http.client.HTTPConnection = self._own.connection
        if connection.sock is not None and _was_closed(connection.sock):
            connection.close()  # the next request opens it again
        return connection

    def _new(self) -> http.client.HTTPConnection:
        if self._url.scheme == "unix":
            return _UnixConnection(self._url.path)
        return http.client.HTTPConnection(str(self._url.hostname), self._url.port, timeout=PATIENCE)

    def close(self) -> None:
        """Close this thread's connection. Those of others go with their threads."""
        if hasattr(self._own, "connection"):
            self._own.connection.close()
            del self._own.connection

    def sweep(self, label: str) -> None:
        """Remove every container and network with a label, until there are none."""
        query = urllib.parse.quote(json.dumps({"label": [label]}))
        with interruptions_later():
            while self._sweep_once(query):
                pass

    def _sweep_once(self, query: str) -> int:
        containers = self.call("GET", f"/containers/json?all=1&filters={query}")
        for item in containers:
            self.call("DELETE", f"/containers/{item['Id']}?force=1&v=1", missing_ok=True)
        networks = self.call("GET", f"/networks?filters={query}")
        for item in networks:
            self.call("DELETE", f"/networks/{item['Id']}", missing_ok=True)
        return len(containers) + len(networks)
