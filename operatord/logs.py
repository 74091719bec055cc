# SPDX-License-Identifier: MIT
"""The daemon's log on standard error: text for people, JSON lines for collectors.

In systemd's journal each line of text has its priority in front, as in sd-daemon(3), and no time, which the
journal has itself. After `stderr.never_wait`, logging never blocks on a slow reader; lost records are counted
and reported.
"""

from __future__ import annotations

import json
import logging
import os
import sys

from operatord_protocol.messages import Trouble
from operatord_protocol.visible import on_one_line

from .machine.clock import rfc3339
from .settings.config import Logging
from .stderr import background_writer

_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
"""syslog(3)'s."""
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


class _Journal(_Text):
    def format(self, record: logging.LogRecord) -> str:
        mark = f"<{_PRIORITIES[record.levelno]}>"
        return "\n".join(mark + line for line in super().format(record).splitlines())


def configure(settings: Logging) -> None:
    """Send the log to standard error. ``auto`` means text, on a terminal, in a pipe and in the journal."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.format == "json":
        handler.setFormatter(_Json())
    elif sys.stderr is not None and sys.stderr.isatty():
        handler.setFormatter(_Text("%(asctime)s %(message)s", "%H:%M:%S"))
    elif settings.format == "auto" and _is_journal():
        handler.setFormatter(_Journal("%(message)s"))
    else:
        handler.setFormatter(_Text("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger("operatord")
    root.handlers[:] = [handler]
    root.setLevel(settings.level.upper())
    root.propagate = False
    logging.getLogger("operatord.audit").setLevel(logging.INFO)  # whatever else is wanted
    if (writer := background_writer()) is not None:
        writer.lost_line = lambda lost: _line(handler, _LOST, lost)


def _is_journal() -> bool:
    """Tell whether standard error leads to systemd's journal (JOURNAL_STREAM of systemd.exec(5))."""
    if sys.stderr is None or not (stream := os.environ.get("JOURNAL_STREAM")):
        return False
    found = os.fstat(sys.stderr.fileno())
    return stream == f"{found.st_dev}:{found.st_ino}"


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
