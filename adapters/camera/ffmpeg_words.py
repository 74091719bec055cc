# SPDX-License-Identifier: MIT
"""What ffmpeg says on standard error: facts of the source, and sentences that may be shown to people.

ffmpeg's messages repeat URLs as they were given. Nothing of them is passed on before user, password and query
are gone from each.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from colours import MATRICES, UNKNOWN_MATRIX, Colours

LEVEL = re.compile(
    r"^(?:\[(?P<part>[^\]@]+?)(?: @ \S+)?\] )?(?:\[[^\]@]+ @ \S+\] )?"
    r"\[(?P<level>[a-z]+)\] ?(?P<text>.*)$"
)
"""A line with `-loglevel level+info`: the part of ffmpeg that speaks, a part of that, the level, the text."""
VIDEO = re.compile(r"Stream #0:\d+.*: Video: .*?\b(?P<fps>\d+(?:\.\d+)?) fps\b")
"""The line that describes a video stream, if it says a rate; thousands ("60k fps") are ticks of its clock."""
DURATION = re.compile(r"^\s*Duration: (?P<hours>\d+):(?P<minutes>\d\d):(?P<seconds>\d\d\.\d+)")
"""The line that says how long a recording is, by its own head."""
UNTIMED = re.compile(r"Stream #0:\d+.*: Video: .*\b(?:25|1200k) tbn\b")
"""The same line, with the ticks in which ffmpeg counts pictures that come without times, at a rate that it
has made up."""
WRITTEN = re.compile(
    r"Stream #0:0.*: Video: rawvideo .*?\), (?P<format>\w+)(?:\((?P<words>[^)]*)\))?"
)
"""The line that describes what ffmpeg writes, with what it knows of the colours: as `yuv420p(tv, bt709)`."""
USERINFO = re.compile(r"(?<=://)[^\s/?#'\"]*@")
QUERY = re.compile(r"(?<![^\s'\"])((?>[^\s'\"]*?://)[^\s?#'\"]*+)[?#][^\s'\"]*?(?=:?(?:[\s'\"]|$))")
"""Of a word with a URL; no word is looked at twice, however often it has `://`."""
SHOWN = 300
"""Characters of a message that are shown."""
PERMANENT = re.compile(
    r"\b40[0134] |Unauthorized|No such file|Permission denied|Is a directory|Invalid data found"
    r"|not on whitelist|matches no streams|Invalid too big|Protocol not found|Invalid argument|certificate"
    r"|No such device|exceeds specified max pixel count|partial file",
    re.IGNORECASE,
)
"""What does not mend itself: to try again would only say it later."""
REFUSED = re.compile(r"\b40[13] |Unauthorized|Forbidden", re.IGNORECASE)
"""What is said of credentials that do not open a source."""
ADVICE = {
    "Permission denied": "the user of this stage may not read it: change its permissions, or set user or "
    "group_add of the adapter",
    "moov atom not found": "it is no recording, or not a whole one: not finished by its writer, or cut in "
    "copying",
    "Invalid data found": "what came, if anything did, is no video that ffmpeg can read",
    "matches no streams": "there is no video in it",
    "not on whitelist": "this is no kind of file that is read as video",
    "partial file": "its table is at its end, and the web server gives no parts of files (Range): have "
    "ffmpeg -c copy -movflags +faststart write it anew, with the table first",
    r"\b401 |Unauthorized": "the source wants other credentials: register the probe with them",
    "certificate": "nobody who is known here has signed it; the setting tls_verify=false takes any",
    r"\b404 ": "nothing is at that path",
}
"""What can be done, by what ffmpeg says; the first that is found counts."""
OWN_NAME = re.compile(r"^(?:pipe:0|file:\S+|/dev/\S+|in#0: Error opening input): ")
"""What ffmpeg calls its input, which the sentence around it names already."""


NO_REASON = "concat: Impossible to open"
"""What is said before the reason, by the list in which a URL is kept from other users."""


class Line(NamedTuple):
    """A line of ffmpeg's."""

    level: str
    text: str

    @property
    def is_error(self) -> bool:
        """Whether something went wrong."""
        return self.level in ("error", "fatal", "panic") or "HTTP error" in self.text  # a warning


def parse_words(
    line: str, secrets: tuple[str, ...], hidden_place: tuple[str, str] = ("", "")
) -> Line:
    """Return a line's level and its text, in which no credentials are left.

    `hidden_place`: what is said instead of host and port of a relay.
    """
    found = LEVEL.match(line.strip())
    level, text = (found["level"], found["text"]) if found else ("info", line.strip())
    part = f"{found['part']}: " if found and found["part"] not in (None, "NULL") else ""
    shown = redact(part + text, secrets)
    relay, known = hidden_place
    return Line(level, (shown.replace(relay, known) if relay else shown)[:SHOWN])


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """Take user, password, query and fragment out of each URL, and the secrets wherever else they are."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return QUERY.sub(r"\1", USERINFO.sub("", text))


def source_fps(text: str) -> float | None:
    """Return the frames a second that the description of a video stream says; None for another line."""
    found = VIDEO.search(text[:SHOWN])
    return float(found["fps"]) if found else None


def source_seconds(text: str) -> float | None:
    """Return how long a recording says it is; None for another line."""
    found = DURATION.search(text[:SHOWN])
    if found is None:
        return None
    return 3600 * int(found["hours"]) + 60 * int(found["minutes"]) + float(found["seconds"])


def is_untimed(text: str) -> bool:
    """Tell whether the description of a video stream says that its pictures have no times."""
    return bool(UNTIMED.search(text[:SHOWN]))


def written_colours(text: str) -> Colours | None:
    """Return what the description of the pictures that ffmpeg writes says; None for another line."""
    if not (found := WRITTEN.search(text[:SHOWN])):
        return None
    words = [word.split("/")[0] for word in (found["words"] or "").split(", ")]
    matrix = next((MATRICES[word] for word in words if word in MATRICES), UNKNOWN_MATRIX)
    return Colours(full="pc" in words or found["format"].startswith("yuvj"), matrix=matrix)


def reason(errors: list[str], *, opened: bool) -> str:
    """Return the error that says most, as a clause: the first one, or the last one of a source that ran."""
    telling = [each for each in errors if not each.startswith(NO_REASON)] or errors
    if not telling:
        return "it ended"
    return OWN_NAME.sub("", telling[-1] if opened else telling[0]).rstrip(". ")


def advice(errors: list[str]) -> str:
    """Return what can be done about errors, as a clause after a semicolon; empty where nothing is known."""
    said = "\n".join(errors)
    found = (words for pattern, words in ADVICE.items() if re.search(pattern, said))
    return "".join(f"; {words}" for words in list(found)[:1])


def is_refused(errors: list[str]) -> bool:
    """Tell whether the source has refused whoever asked."""
    return any(REFUSED.search(text) for text in errors)


def is_permanent(errors: list[str]) -> bool:
    """Tell whether to open the source again is of no use."""
    return any(PERMANENT.search(text) for text in errors)
