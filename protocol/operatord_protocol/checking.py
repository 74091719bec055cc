# SPDX-License-Identifier: MIT
"""Checks values against their types, and describes errors in the terms of this protocol. msgspec finds the
error and describes it in its own terms; here that becomes a sentence for the person who typed the line, with
the likely name for a typo.
"""

from __future__ import annotations

import difflib
import functools
import re
import typing
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from .errors import InvalidParams

T = TypeVar("T")

_CLIP = 120
_SEARCHED = 64
"""Most members of an object among which the wrong one is searched."""
_BELOW = 512
"""Members that these may have together: to look at a thousand takes some two milliseconds."""
_CUTOFF = 0.6
"""How alike two words must be for one to be a slip for the other: difflib's ratio, 0…1."""
_COMPARED = 64
"""Most known words that a typo is compared with, those of similar length first: each costs some ten
microseconds, in which nobody else is served."""
_LISTED = 32
"""Known words that are listed at most."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean '…'?`` for a likely slip, else what is known, if anything is."""
    return _suggestion(word, tuple(known)) if len(word) <= _CLIP else _listed(tuple(known))


@functools.lru_cache(maxsize=256)
def _suggestion(word: str, known: tuple[str, ...]) -> str:
    near = sorted(known, key=lambda each: abs(len(each) - len(word)))[:_COMPARED]
    by_small = {each.casefold(): each for each in sorted(near)}
    small = word.strip().casefold()
    # People may remember only the last word of names such as `session.list`, or the first of `plain_stream`.
    meant = sorted(by_small[each] for each in by_small if each.rpartition(".")[2] == small)
    meant = meant or sorted(by_small[each] for each in by_small if each.startswith(f"{small}_"))
    # Two letters that changed places are a likelier slip than another letter, whatever difflib says.
    close = [each for each in by_small if sorted(each) == sorted(small)]
    close = close or difflib.get_close_matches(small, by_small, n=1, cutoff=_CUTOFF)
    meant = meant or [by_small[each] for each in close[:1]]
    return f"; did you mean {_either(meant)}?" if meant else _listed(known)


def _either(words: Sequence[str]) -> str:
    """Return the words as a choice between them."""
    *others, last = (repr(word) for word in words)
    return f"{', '.join(others)} or {last}" if others else last


@functools.lru_cache(maxsize=64)
def _listed(known: tuple[str, ...]) -> str:
    choices = sorted(known)
    if len(choices) > _LISTED:
        choices[_LISTED:] = ["…"]
    return f"; known: {', '.join(choices)}" if choices else "; there are none"


_LONG_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_CHOICES = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)\s+\{([^{}]*)\}")
_NO_CHOICE = re.compile(
    r"invalid choice: '(?P<word>.*)' \(choose from (?P<known>[^()]*)\)\Z", re.DOTALL
)


def likely_choice(said: str) -> str:
    """Return ``; did you mean '…'?`` for what argparse says of a word that is none of its choices.

    It is empty where no choice is likely: argparse lists all of them itself.
    """
    match = _NO_CHOICE.search(said)
    hint = suggestion(match["word"], re.findall(r"[\w.-]+", match["known"])) if match else ""
    return hint if hint.endswith("?") else ""


def unknown_argument(word: str, shown: str) -> str:
    """Return what to say of an argument that a command does not know, by what its help has ``shown``."""
    said = f"there is no {clip(word)!r} here"
    if not word.startswith("--"):
        return said
    known = sorted(set(_LONG_OPTION.findall(shown)))
    # All options have the dashes, which would make short words similar to any.
    bare = word.partition("=")[0][2:]
    hint = suggestion(bare, [name[2:] for name in known])
    if hint.endswith("?"):
        return said + hint.replace("did you mean '", "did you mean '--")
    if meant := _with_value(bare, shown):
        return f"{said}; did you mean {_either(meant)}?"
    return f"{said}; known: {', '.join(known)}"


def _with_value(word: str, shown: str) -> list[str]:
    """Return the options that likely have a word among their values, each with that value."""
    options = {name: values.split(",") for name, values in _CHOICES.findall(shown)}
    hint = suggestion(word, sorted({each for values in options.values() for each in values}))
    if not hint.endswith("?"):
        return []
    return [
        f"{name} {value}"
        for name, values in options.items()
        for value in values
        if repr(value) in hint
    ]


def clip(text: str) -> str:
    """Return ``text``, cut if a peer's own words would make an answer long."""
    return text if len(text) <= _CLIP else text[: _CLIP - 1] + "…"


_MSGSPEC_MESSAGE = re.compile(
    r"(?P<what>Object contains unknown field `(?P<unknown>.*?)`|.*?)"
    r"(?: - at (?P<key>`key` in )?`(?P<path>\$[\w.\[\]]*)`)?\Z",
    re.DOTALL,
)
_INVALID_ENUM = re.compile(r"Invalid enum value '(?P<value>.*)'\Z", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(?P<name>[^`]*)`")
_MISMATCH = re.compile(r"Expected `(?P<wanted>[^`]*)`, got `(?P<got>[^`]*)`\Z")
WRONG_NAME = "a name in it is wrong"
"""How `explain` begins what it says of a name in a mapping."""
_UNQUOTED = {"int": "a number", "float": "a number", "bool": "true or false"}
_NO_MATCH = re.compile(r"Expected `str` matching regex (?P<pattern>'.*')\Z", re.DOTALL)


def convert_params(params: Any, type_: type[T]) -> T:
    """Return ``params`` as ``type_``. Raises `InvalidParams`, whose path names the member."""
    if type(params) is not dict:
        raise InvalidParams(_not_by_name(params, type_))
    try:
        return msgspec.convert(params, type_)
    except (msgspec.ValidationError, RecursionError) as exc:
        path, message = explain(exc, type_)
        path = _named(path, params, type_)
        raise InvalidParams(f"{path}: {message}", path=path) from exc


def _not_by_name(params: Any, type_: type) -> str:
    names = getattr(type_, "__struct_fields__", ())
    if not names:
        return "this method has no params: leave them out"
    quotes = ", without quotes around it" if type(params) is str else ""
    return f'params are given by name, in an object such as {{"{names[0]}":…}}{quotes}'


def _named(path: str, params: dict[str, Any], type_: type) -> str:
    """Return ``path`` with names for each ``[...]``, which is how msgspec writes any name in a mapping.

    The name is the first whose member, left alone in its mapping, is refused. A path that leads nowhere is
    left as it is: the sender's own words can look like one.
    """
    if "[" in path.replace(
        "[...]", ""
    ):  # a place in a list: nothing in these params has mappings in one
        return path
    head, *rest = path.split("[...]")
    names, inner, hint = head.split(".")[1:], params, type_
    walked = 0
    for tail in rest:
        for name in names[walked:]:
            inner, hint = _member(inner, name), _mapping(_inside(hint, name))
        if not inner or not _is_small(inner):
            return path
        found = _first_refused(inner, hint)
        inner, hint = inner[found], _mapping(_inside(hint, "[...]"))
        names += [found, *tail.split(".")[1:]]
        walked = len(names) - tail.count(".")
    return ".".join(("params", *map(clip, names)))


def _is_small(mapping: Any) -> bool:
    """Tell whether ``mapping`` is small enough to have been written by hand."""
    if type(mapping) is not dict or len(mapping) > _SEARCHED:
        return False
    return sum(len(value) for value in mapping.values() if type(value) is dict) <= _BELOW


def _member(value: Any, name: str) -> Any:
    """Return the member of that name; None where there is none."""
    return value.get(name) if type(value) is dict else None


def _mapping(hint: Any) -> Any:
    """Return the mapping among what a member may be, or the only thing that it may be."""
    return next((part for part in _parts(hint) if typing.get_origin(part) is dict), hint)


def _first_refused(mapping: dict[str, Any], hint: Any) -> str:
    """Return the first name whose member is refused; one of them is. Halving looks at no member often."""
    names = list(mapping)
    while len(names) > 1:
        half = names[: len(names) // 2]
        refused = _is_refused({name: mapping[name] for name in half}, hint)
        names = half if refused else names[len(half) :]
    return names[0]


def _is_refused(value: dict[str, Any], hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except (msgspec.ValidationError, RecursionError):
        return True
    return False


_STEP = re.compile(r"\[[^\]]*\]|[^.\[]+")
"""One step of a path: a member's name, or the place in a mapping or a list."""


def explain(exc: Exception, type_: type, root: str = "params") -> tuple[str, str]:
    """Return where and what is wrong, from msgspec's message, in the words of this protocol."""
    match = _MSGSPEC_MESSAGE.match(str(exc))
    assert match is not None
    path = root + (match["path"] or "$").removeprefix("$")
    what = match["what"]
    unknown = match["unknown"]
    if unknown is not None:
        fields = _names(type_, path.removeprefix(root).removeprefix("."))
        hint = suggestion(unknown, fields) if fields or path == root else ""
        return f"{path}.{clip(unknown)}", f"unknown member{hint}"
    if missing := _MISSING_FIELD.match(what):
        return f"{path}.{missing['name']}", "is required"
    if enum := _INVALID_ENUM.match(what):
        inner = path.removeprefix(f"{root}.")
        known = suggestion(enum["value"], choices(type_, inner) + _shapes(_hints(type_, inner)))
        return path, f"{clip(enum['value'])!r} is not one of its values{known}"
    if pattern := _NO_MATCH.match(what):
        what = f"Expected {_meaning(type_, path.removeprefix(f'{root}.'), pattern['pattern'])}"
    elif mismatch := _MISMATCH.match(what):
        what = _mismatched(mismatch, _hints(type_, path.removeprefix(f"{root}.")))
    what = clip((what[:1].lower() + what[1:]).replace("`", ""))
    return path, f"{WRONG_NAME}: {what}" if match["key"] else what


def _mismatched(mismatch: re.Match[str], hints: Sequence[Any]) -> str:
    """Return an example of a value of the right type."""
    wanted, got = mismatch["wanted"], mismatch["got"]
    if wanted == "str | object":  # one of some words, or an object for what takes a number
        words = [repr(word) for hint in hints for word in _words(hint)]
        known = ", ".join(words + _shapes(hints))
        return f"Expected one of {known}; got {got}" if words else mismatch.string
    if got == "str" and wanted in _UNQUOTED:
        return f"{mismatch.string}: {_UNQUOTED[wanted]}, without quotes"
    if (wanted, got) == ("int", "float"):
        return f"{mismatch.string}: a whole number such as 1000, without a point and without e"
    return mismatch.string


def _words(hint: Any) -> Sequence[str]:
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _fields(hint: Any) -> Sequence[str]:
    return getattr(hint, "__struct_fields__", ())


def _shapes(hints: Iterable[Any]) -> list[str]:
    """Return the objects that a member may be, each as it is written with one name."""
    return [f'{{"{name}":…}}' for hint in hints for name in _fields(hint)]


def _names(type_: type, path: str) -> list[str]:
    """Return the members of what a member, at any depth, may be; of ``type_`` itself without a path."""
    return [name for hint in _hints(type_, path) for name in _fields(hint)]


def choices(type_: type, path: str) -> list[str]:
    """Return the strings that a member, at any depth, may be when it is a choice of strings."""
    return [word for hint in _hints(type_, path) for word in _words(hint)]


def _meaning(type_: type, path: str, quoted: str) -> str:
    """Return what a pattern of a member, or of a name in it, stands for, by the type's description."""
    for hint in _hints(type_, path):
        if isinstance(hint, Meta) and hint.description and repr(hint.pattern) == quoted:
            return hint.description
    return f"text that matches {quoted}"


@functools.lru_cache(maxsize=256)
def _hints(type_: type, path: str) -> Sequence[Any]:
    """Return the type of a member, at any depth, and all that this is put together of."""
    hints: list[Any] = [type_]
    for step in _STEP.findall(path):
        hints = [part for hint in hints for part in _parts(_inside(hint, step))]
    return hints


def _parts(hint: Any) -> list[Any]:
    return [hint, *(part for each in typing.get_args(hint) for part in _parts(each))]


def _inside(hint: Any, step: str) -> Any:
    """Return the type of a struct's member, or of what a mapping or a list holds; None if it has none."""
    if step.startswith("["):
        return typing.get_args(hint)[-1] if typing.get_origin(hint) in (dict, list) else None
    is_struct = isinstance(hint, type) and issubclass(hint, msgspec.Struct)
    return _members(hint).get(step) if is_struct else None


@functools.cache
def _members(struct: type) -> dict[str, Any]:
    """Return the types of a struct's members; reading them takes a millisecond."""
    return typing.get_type_hints(struct, include_extras=True)
