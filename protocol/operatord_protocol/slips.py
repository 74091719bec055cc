# SPDX-License-Identifier: MIT
"""Guesses what a person who typed a line by hand meant, for the error message. Nothing here decides whether a
line is valid: it has already been found invalid, or is an object without a method.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Mapping
from typing import Any

from .checking import clip, suggestion
from .errors import InvalidParams, InvalidRequest, WireError
from .methods import METHODS

ENVELOPE = frozenset(("jsonrpc", "id", "method", "params"))
"""The members of a request that names its method."""
START = frozenset(METHODS["session.start"].params.__struct_fields__)
PARAMS = frozenset(name for m in METHODS.values() for name in m.params.__struct_fields__)

CONTROL_CHARACTER = "a control character, which arrow keys in netcat make, too: type the line again"
_LIKE = 0.7
"""How like ``method`` a name must be to be a slip for it, as difflib's ratio; ``mode`` is none."""
_LOOKED_AT = 8
"""Members that are compared at most, for each costs some twenty microseconds."""


def not_a_start(obj: Mapping[str, Any]) -> WireError | None:
    """Return what is wrong with an object that has no method and was not meant to start a session, or None.

    Members that `session.start` knows are never treated as typos, nor are those that resemble nothing.
    """
    strange = [name for name in itertools.islice(obj, len(START) + _LOOKED_AT) if name not in START]
    for name in strange[:_LOOKED_AT]:
        meant = "method" if _names_method(obj[name]) else _near(name)
        if meant == "method":
            return InvalidRequest(f"unknown member {clip(name)!r}; did you mean 'method'?")
        if name in METHODS:
            return InvalidRequest(f'{name} is a method: {{"method":"{name}","params":{{…}}}}')
    for name in strange[:_LOOKED_AT]:
        if _near(name) == "params":
            return InvalidRequest(
                f"a line with {clip(name)!r} names its method, too: "
                '{"method":"session.start","params":{…}}'
            )
        if name in ENVELOPE or name in PARAMS:
            return InvalidParams(
                f"params.{name}: unknown member; a line with {name!r} names its method, too: "
                f"{_envelope(name)}",
                path=f"params.{name}",
            )
    return None


def _names_method(value: Any) -> bool:
    return type(value) is str and value.strip().casefold() in METHODS


def _near(name: str) -> str | None:
    """Return what ``name`` is a slip for when that is no member of a start."""
    word = clip(name.strip().casefold())
    near = difflib.get_close_matches(word, (*START, "method", "params"), n=1, cutoff=_LIKE)
    return near[0] if near and near[0] not in START else None


def _envelope(name: str) -> str:
    if name in ENVELOPE:
        return f'{{"method":"session.start","{name}":…,"params":{{…}}}}'
    method = next(key for key in ("session.get", *METHODS) if _takes(key, name))
    return f'{{"method":"{method}","params":{{"{name}":…}}}}'


def _takes(method: str, name: str) -> bool:
    return name in METHODS[method].params.__struct_fields__


def unknown_member(name: str, method: str) -> str:
    """Return the sentence for a member beside ``method`` that an envelope does not have."""
    known = METHODS[method].params.__struct_fields__ if method in METHODS else PARAMS
    if name in known:
        return f'put {name!r} into params: {{"method":"{clip(method)}","params":{{"{name}":…}}}}'
    return f"unknown member {clip(name)!r}{suggestion(name, ENVELOPE)}"


_AT = re.compile(r" \(byte (\d+)\)")
_TOO_MUCH = (
    (b"{", "send one object a line"),
    (b"}", "there is one } too many"),
    (b"#", "there are no comments in JSON"),
    (b"//", "there are no comments in JSON"),
    (b"", "nothing may follow the object in its line"),
)
_FOUND = (
    (("'", "`"), "put names and text in double quotes and, in a shell, the whole line in single ones"),
    (("\u201c", "\u201d", "\u201e", "\u2018", "\u2019"), "type plain double quotes, not typographic ones"),
    (("\\",), "leave out the backslashes"),
    (("+",), "a number is written without +"),
    (("True", "False"), "JSON has true and false, in small letters"),
    (("None", "nil", "undefined"), "leave out what has no value"),
    (("NaN", "Infinity", "-Infinity", "inf"), "JSON has no such number"),
    (("\u00a0",), "there is a no-break space: type a plain one"),
)  # fmt: skip
"""By what stands where the line goes wrong."""
_HALF_LETTER = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?:[^\\]|\\[^u])")
"""The first half of an escaped pair without the second, near whose end a line is said to be truncated."""


def what_is_typed_wrong(line: bytes, fault: str) -> str:
    """Return ``: what to do`` about a line that is no JSON by the decoder's ``fault``, or nothing."""
    match = _AT.search(fault)
    at = int(match[1]) if match else 0
    if fault.startswith("trailing characters"):
        at -= 1  # which is said to be one further on than it is
    hint = _foreign_byte(line) or _control_character(line[at : at + 1]) or _hint(line, fault, at)
    return f": {hint}" if hint else ""


def _hint(line: bytes, fault: str, at: int) -> str:
    rest = line[at:]
    if "surrogate" in fault or _HALF_LETTER.search(line):
        return "a lone surrogate is half a letter: write the letter itself, in UTF-8"
    if fault.startswith("truncated"):
        return "an object is whole on one line, and this one has no end"
    if fault.startswith("trailing comma"):
        return "leave out the comma"
    if fault.startswith("trailing characters"):
        return next(hint for begin, hint in _TOO_MUCH if line.startswith(begin, at))
    if line[:1] != b"{":
        return "a request is an object, and begins with {"
    return _within(rest[:16], fault, line[at - 1 : at + 1])


def _foreign_byte(line: bytes) -> str:
    """Say which byte of a line is not UTF-8, and what may have sent it; nothing if all are."""
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as exc:
        byte = f"{line[exc.start]:#x}"
        return f"{byte} at byte {exc.start} is not UTF-8: is the terminal, or the file, set to Latin-1?"
    return ""


def _control_character(byte: bytes) -> str:
    return f"it has {CONTROL_CHARACTER}" if is_control_character(byte) else ""


def is_control_character(byte: bytes) -> bool:
    """Tell whether a byte, or none, is one that a terminal does not show."""
    return bool(byte) and (byte < b" " or byte == b"\x7f")


def _within(rest: bytes, fault: str, around: bytes) -> str:
    """Return what to do where an object has begun and something in it is not as it should be."""
    if "number" in fault or re.match(rb"\d[xX_]", around):
        return "a number is written as 200 or 0.5"
    text = rest.decode("utf-8", "replace")
    found = next((hint for begins, hint in _FOUND if text.startswith(begins)), "")
    return found or _unquoted(text, fault)


def _unquoted(text: str, fault: str) -> str:
    what = "names" if fault.startswith("object keys") else "text"
    if not text[:1].isalpha() or not fault.startswith(("object keys", "invalid character")):
        return ""
    return (
        f"{what} stand{'' if what == 'names' else 's'} in double quotes, "
        "which a shell leaves alone if the whole line is in single ones"
    )
