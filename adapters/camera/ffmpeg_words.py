# SPDX-License-Identifier: MIT
"""What ffmpeg says on standard error: facts of the source, and sentences that may be shown to people.

ffmpeg's messages repeat URLs as they were given. Nothing of them is passed on before user, password and query
are gone from each.
"""

from __future__ import annotations

import re
from typing import NamedTuple

LEVEL = re.compile(
    r"^(?:\[(?P<part>[^\]@]+?)(?: @ \S+)?\] )?(?:\[[^\]@]+ @ \S+\] )?"
    r"\[(?P<level>[a-z]+)\] ?(?P<text>.*)$"
)
"""A line with `-loglevel level+info`: the part of ffmpeg that speaks, a part of that, the level, the text."""
VIDEO = re.compile(r"Stream #0:\d+.*: Video: .*?\b(?P<fps>\d+(?:\.\d+)?) fps\b")
"""The line that describes a video stream, if it says a rate; thousands ("60k fps") are ticks of its clock."""
UNTIMED = re.compile(r"Stream #0:\d+.*: Video: .*\b(?:25|1200k) tbn\b")
"""The same line, with the ticks in which ffmpeg counts pictures that come without times, at a rate that it
has made up."""
USERINFO = re.compile(r"(?<=://)[^\s/?#'\"]*@")
QUERY = re.compile(r"(?<![^\s'\"])((?>[^\s'\"]*?://)[^\s?#'\"]*+)[?#][^\s'\"]*?(?=:?(?:[\s'\"]|$))")
"""Of a word with a URL; no word is looked at twice, however often it has `://`."""
SHOWN = 300
"""Characters of a message that are shown."""
PERMANENT = re.compile(
    r"\b40[0134] |Unauthorized|No such file|Permission denied|Is a directory|Invalid data found"
    r"|not on whitelist|matches no streams|Invalid too big|Protocol not found|Invalid argument|certificate"
    r"|No such device|exceeds specified max pixel count",
    re.IGNORECASE,
)
"""What does not mend itself: to try again would only say it later."""
OWN_NAME = re.compile(r"^(pipe:0|file:\S+|/dev/\S+): ")
"""What ffmpeg calls its input, which the sentence around it names already."""


class Line(NamedTuple):
    """A line of ffmpeg's."""

    level: str
    text: str

    @property
    def is_error(self) -> bool:
        """Whether something went wrong."""
        return self.level in ("error", "fatal", "panic")


def parse_words(line: str, secrets: tuple[str, ...]) -> Line:
    """Return a line's level and its text, in which no credentials are left."""
    found = LEVEL.match(line.strip())
    level, text = (found["level"], found["text"]) if found else ("info", line.strip())
    part = f"{found['part']}: " if found and found["part"] else ""
    return Line(level, redact(part + text, secrets)[:SHOWN])


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Take user, password, query and fragment out of each URL, and the secrets wherever else they are."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return QUERY.sub(r"\1", USERINFO.sub("", text))


def source_fps(text: str) -> float | None:
    """Return the frames a second that the description of a video stream says; None for another line."""
    found = VIDEO.search(text[:SHOWN])
    return float(found["fps"]) if found else None


def is_untimed(text: str) -> bool:
    """Tell whether the description of a video stream says that its pictures have no times."""
    return bool(UNTIMED.search(text[:SHOWN]))


def reason(errors: list[str], *, opened: bool) -> str:
    """Return the error that says most, as a clause: the first one, or the last one of a source that ran."""
    if not errors:
        return "it ended"
    return OWN_NAME.sub("", errors[-1] if opened else errors[0]).rstrip(". ")


def is_permanent(errors: list[str]) -> bool:
    """Tell whether to open the source again is of no use."""
    return any(PERMANENT.search(text) for text in errors)
