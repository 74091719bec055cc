# SPDX-License-Identifier: MIT
"""Makes foreign text safe to show: control sequences are written as escapes. A terminal obeys control
characters: they clear the screen, rename its window, fill the clipboard, overwrite a line. Characters that
turn the direction of writing, or that cannot be seen, make a text look like another. Programs get texts as
they are; people get these.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False  # as typing's; importing typing would cost operatorctl more than all of this
if TYPE_CHECKING:
    from typing import Any

_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and newline, DEL, C1 (ECMA-48)
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
    "\ud800-\udfff]"  # bytes that were no text
)
"""The second line has direction marks, line separators and what has no width (Unicode's Bidi_Control, Zl, Zp,
and most of Cf). The joiners that scripts and emoji need stay."""


def visible(text: str) -> str:
    r"""Return ``text`` with ``\x1b`` and the like for what is unfit to be shown; lines stay lines."""
    return _UNFIT.sub(_escape, text)


def on_one_line(text: str) -> str:
    r"""Return ``text`` fit to be shown, and ``\n`` for line ends, which would make two entries of one."""
    return visible(text).replace("\n", "\\n")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def tidied(value: Any) -> Any:
    """Return a JSON value with each of its texts, and names, on one line and fit to be shown."""
    if isinstance(value, str):
        return on_one_line(value)
    if isinstance(value, dict):
        return {on_one_line(name): tidied(each) for name, each in value.items()}
    return [tidied(each) for each in value] if isinstance(value, list) else value
