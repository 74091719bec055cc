# SPDX-License-Identifier: MIT
"""The daemon's log on standard error: text for people, JSON lines for collectors."""

from __future__ import annotations

import json
import logging
import sys

from operatord_protocol.visible import on_one_line

from .config import Logging
from .runtime.clock import rfc3339


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class _Text(logging.Formatter):
    """One line for each record, whatever clients and stages have put into it; then a traceback, if any."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # logging's name
        return on_one_line(super().formatMessage(record))


def configure(settings: Logging) -> None:
    """Send the log to standard error. ``auto`` is text on a terminal and in a plain pipe alike."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        handler.setFormatter(_Json())
    elif sys.stderr is not None and sys.stderr.isatty():
        handler.setFormatter(_Text("%(asctime)s %(message)s", "%H:%M:%S"))
    else:
        handler.setFormatter(_Text("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("operatord")
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    root.propagate = False
