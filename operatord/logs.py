# SPDX-License-Identifier: MIT
"""The daemon's log on standard error: text for people, JSON lines for collectors.

Where `stderr.never_wait` was called before, nobody waits for whoever reads it, and what is lost so is told.
"""

from __future__ import annotations

import json
import logging
import sys

from operatord_protocol.messages import Trouble
from operatord_protocol.visible import on_one_line

from .machine.clock import rfc3339
from .settings.config import Logging
from .stderr import background_writer

_LOST = "%d log records were lost: nobody read them"


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
    if (writer := background_writer()) is not None:
        writer.lost_line = lambda lost: _line(handler, _LOST, lost)


def _line(handler: logging.Handler, message: str, *args: object) -> str:
    """Return a warning as ``handler`` would write it."""
    record = logging.LogRecord("operatord", logging.WARNING, __file__, 0, message, args, None)
    return f"{handler.format(record)}\n"


def troubles() -> list[Trouble]:
    """Return what `system.status` shows of records that were lost: ``times`` counts them."""
    writer = background_writer()
    if writer is None or writer.loss is None:
        return []
    lost, since, last = writer.loss
    error = "records were lost: nobody read standard error"
    return [Trouble("the log", lost, error, rfc3339(since), rfc3339(last))]
