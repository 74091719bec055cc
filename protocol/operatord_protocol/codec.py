# SPDX-License-Identifier: MIT
"""Lines into requests and answers into lines, strictly, in the three dialects.

``decode_line`` never raises: a line that is no request becomes a `Refusal`, which knows to whom and in which
dialect the error goes. Nothing is executed before a whole line has been found valid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from .checking import clip
from .encodings import foreign_encoding, what_to_send
from .errors import InvalidParams, InvalidRequest, ParseError, WireError
from .framing import split_lines
from .slips import ENVELOPE, not_a_start, unknown_member, what_is_typed_wrong

Dialect = Literal["rpc", "plain", "seed"]
RequestId = int | str | None
Scalar = str | int | float | bool | None

SEED_METHOD = "session.start"
EXAMPLE = '{"method":"system.status"}'
BATCH = "batches are not supported: send one request object per line"

DEPTH = 64
"""Levels of nesting that a line may have, its own object included."""
TOO_DEEP = f"this line is nested too deeply: {DEPTH} levels are the most"

_ID_BOUND = 2**63
_ID_LENGTH = 256
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_decode = msgspec.json.Decoder().decode
_encoder = msgspec.json.Encoder()
_encode = _encoder.encode


class Request(msgspec.Struct, frozen=True):
    """A well-formed call. ``params`` may yet be anything: `checking.convert_params` is what validates them.

    So a notification with bad params is met with silence, as JSON-RPC 2.0 (section 4.1) wants it.
    """

    dialect: Dialect
    id: RequestId
    method: str
    params: Any
    wants_reply: bool


class Refusal(NamedTuple):
    """A line that is no request, and the error for its sender."""

    dialect: Dialect
    id: RequestId
    error: WireError


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """What nearly every line holds, in a form that msgspec checks while it decodes.

    Its params are an object of scalars, or of objects of them, three levels of that at most and no list: such
    params need no check of their nesting. ``gc=False``: decoded JSON has no reference cycles.
    """

    method: str
    jsonrpc: Literal["2.0"] | UnsetType = UNSET
    id: (
        Annotated[int, Meta(ge=-_ID_BOUND, le=_ID_BOUND - 1)]
        | Annotated[str, Meta(max_length=_ID_LENGTH)]
        | UnsetType
    ) = UNSET
    params: dict[str, Scalar | dict[str, Scalar | dict[str, Scalar]]] | UnsetType = UNSET

    def request(self) -> Request:
        """Return the call that it is."""
        dialect: Dialect = "plain" if self.jsonrpc is UNSET else "rpc"
        request_id = None if self.id is UNSET else self.id
        params = {} if self.params is UNSET else self.params
        wants_reply = dialect == "plain" or request_id is not None
        return Request(dialect, request_id, self.method, params, wants_reply)


Line = Envelope | bytes
"""The result of a quick look at a line: a request, or that `decode_with_care` is needed."""

_envelopes = msgspec.json.Decoder(Envelope)


def decode_line(line: bytes) -> Request | Refusal:
    """Return the request in ``line``, or the refusal of it."""
    found = _decode_quickly(line)
    return decode_with_care(line) if found is None else found.request()


def decode_block(block: bytes) -> Sequence[Line]:
    """Return the result of a quick look at each line of ``block``: whole lines with their ends. Blank ones
    are skipped. A line that needs care is left for later, since describing its error may take as long as
    decoding hundreds.
    """
    if block.find(b"\n") == len(block) - 1:  # one line, and its end is a blank to the decoder
        one = _decode_quickly(block)
        return split_lines(block) if one is None else [one]
    found = _decode_together(block.replace(b"\r\n", b"\n") if b"\r" in block else block)
    if found is not None:
        return found
    return [_decode_quickly(line) or line for line in split_lines(block)]


def _decode_together(block: bytes) -> list[Envelope] | None:
    """Return what the lines of ``block`` hold when one look is enough to know that all of them are good.

    The decoder takes a newline for any other blank, so it has to be shown that a value neither goes on in
    the next line nor shares its line with another. Where a line ends, ``}`` comes before and ``{`` after it.
    No value of JSON holds these two with only blanks between, and none holds a newline in a string. So
    each line is one value or more; and as many values as lines are one for each.
    """
    lines = block.count(b"\n")
    if block.count(b"}\n{") != lines - 1:
        return None
    try:
        found = _envelopes.decode_lines(block)
    except (ValueError, RecursionError):
        return None
    if len(found) != lines or not _nothing_was_lost(block, _encoder.encode_lines(found)):
        return None
    return found


def _decode_quickly(line: bytes) -> Envelope | None:
    """Return the request when a look is enough to know that the line is good.

    It takes less than half the time of `decode_with_care`.
    """
    try:
        found = _envelopes.decode(line)
    except (ValueError, RecursionError):
        return None
    return found if _nothing_was_lost(line, _encode(found)) else None


def _nothing_was_lost(text: bytes, again: bytes) -> bool:
    """Tell whether no member of ``text`` was dropped for another of its name, ``again`` being what was kept.

    Without escapes a string holds the same colons before and after. A member that was dropped had one or
    more, and none is ever added: so the two counts agree exactly when nothing was dropped from any line.
    """
    return b"\\" not in text and text.count(b":") == again.count(b":")


def decode_with_care(line: bytes) -> Request | Refusal:
    """Return the request in ``line``, or find out what is wrong."""
    try:
        obj = _parse(line)
    except WireError as exc:
        # JSON-RPC 2.0, section 5: an id that could not be read is answered as null.
        return Refusal("rpc" if b'"jsonrpc"' in line else "plain", None, exc)
    if type(obj) is not dict:
        return Refusal("rpc", None, _not_an_object(obj))
    if "jsonrpc" not in obj and "method" not in obj:
        return _without_method(obj)
    dialect: Dialect = "rpc" if "jsonrpc" in obj else "plain"
    request_id = obj.get("id")
    try:
        _check_envelope(obj, dialect)
    except WireError as exc:
        return Refusal(dialect, request_id if _is_id(request_id) else None, exc)
    params = obj.get("params", {})
    wants_reply = dialect == "plain" or "id" in obj
    return Request(dialect, request_id, obj["method"], {} if params == [] else params, wants_reply)


def _without_method(obj: dict[str, Any]) -> Request | Refusal:
    """Return the start that an object without a method stands for, unless something else was meant."""
    wrong = not_a_start(obj)
    if wrong is None:
        return Request("seed", None, SEED_METHOD, obj, True)
    if isinstance(wrong, InvalidParams):
        return Refusal("seed", None, wrong)
    request_id = obj.get("id")
    return Refusal("plain", request_id if _is_id(request_id) else None, wrong)


def _parse(line: bytes) -> Any:
    """Return the value that ``line`` holds, duplicate keys refused."""
    try:
        obj = _decode(line)
    except msgspec.ValidationError as exc:
        raise InvalidRequest("a number in this line is out of range") from exc
    except RecursionError as exc:
        raise ParseError(TOO_DEEP) from exc
    except ValueError as exc:
        raise ParseError(_no_json(line, exc)) from exc
    # A decoder keeps the last of duplicate keys. Every member has one colon outside of strings, so
    # the two counts agree exactly when no key was lost; colons within strings only cost the regex.
    members = _members(obj)
    if line.count(b":") != members and _STRING.sub(b"", line).count(b":") != members:
        raise InvalidRequest(f"the member {clip(_duplicate(line))!r} is given twice")
    return obj


def _no_json(line: bytes, exc: ValueError) -> str:
    if (name := foreign_encoding(line)) is not None:
        return what_to_send(name)
    if isinstance(exc, UnicodeDecodeError):
        return "this line is not valid UTF-8: send UTF-8, or escape such characters, as in \\u00fc"
    fault = _plainly(exc)
    return (
        f"this line is not JSON ({fault}){what_is_typed_wrong(line, fault)}; an example: {EXAMPLE}"
    )


def _plainly(exc: ValueError) -> str:
    return str(exc).removeprefix("JSON is malformed: ").removeprefix("Input data was ")


def _members(obj: Any) -> int:
    """Count the members of all objects within ``obj``. Raises `ParseError` beyond 64 levels."""
    count = 0
    level = [obj]
    for _ in range(DEPTH):
        deeper: list[Any] = []
        for value in level:
            if type(value) is dict:
                count += len(value)
                deeper += value.values()
            elif type(value) is list:
                deeper += value
        if not deeper:
            return count
        level = deeper
    if any(type(value) in (dict, list) for value in level):
        raise ParseError(TOO_DEEP)
    return count


def _duplicate(line: bytes) -> str:
    """Return the first key that an object of ``line`` has twice."""
    found: list[str] = []

    def check(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    json.loads(line, object_pairs_hook=check, parse_int=lambda _: 0)
    return found[0] if found else "?"


def _not_an_object(obj: Any) -> WireError:
    if type(obj) is list:
        return InvalidRequest(BATCH)
    return InvalidRequest(f"a request is a JSON object; an example: {EXAMPLE}")


def _is_id(value: Any) -> bool:
    if type(value) is int:
        return -_ID_BOUND <= value < _ID_BOUND
    return type(value) is str and len(value) <= _ID_LENGTH


def _check_envelope(obj: dict[str, Any], dialect: Dialect) -> None:
    if dialect == "rpc" and obj["jsonrpc"] != "2.0":
        raise InvalidRequest('"jsonrpc" must be "2.0", or be left out')
    if "id" in obj and not _is_id(obj["id"]):
        raise InvalidRequest(
            f"an id is a 64-bit integer or a string of at most {_ID_LENGTH} characters"
        )
    if "method" not in obj and (
        wrong := not_a_start({k: obj[k] for k in obj if k not in ENVELOPE})
    ):
        raise InvalidRequest(wrong.message)
    method = obj.get("method")
    if type(method) is not str:
        raise InvalidRequest(f"a request needs a method, a string; an example: {EXAMPLE}")
    for key in (key for key in obj if key not in ENVELOPE):
        raise InvalidRequest(unknown_member(key, method))


def encode_result(request: Request, result: bytes) -> bytes:
    """Return the reply line; ``result`` is JSON already."""
    if request.dialect == "rpc":
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}\n' % (_encode(request.id), result)
    if request.dialect == "seed":
        return result + b"\n"
    if request.id is None:
        return b'{"result":%b}\n' % result
    return b'{"id":%b,"result":%b}\n' % (_encode(request.id), result)


class Reply(msgspec.Struct, frozen=True, gc=False):
    """A reply in the making: what an `Envelope` says of its dialect and its id, and a result in JSON.

    ``gc=False``: it holds nothing that could lead back to it.
    """

    jsonrpc: str | UnsetType
    id: int | str | UnsetType
    result: msgspec.Raw


def encode_replies(replies: Sequence[Reply]) -> bytes:
    """Return the reply lines, byte for byte those of `encode_result`."""
    return _encoder.encode_lines(replies)


def encode_error(dialect: Dialect, request_id: RequestId, error: WireError) -> bytes:
    """Return the reply line for an error."""
    body = _encode(error.to_wire())
    if dialect == "rpc":
        return b'{"jsonrpc":"2.0","id":%b,"error":%b}\n' % (_encode(request_id), body)
    if request_id is None:
        return b'{"error":%b}\n' % body
    return b'{"id":%b,"error":%b}\n' % (_encode(request_id), body)


def encode_notification(dialect: Dialect, method: str, params: Any) -> bytes:
    """Return the line of a notification from the daemon."""
    body: dict[str, Any] = {"method": method, "params": params}
    return _encode({"jsonrpc": "2.0", **body} if dialect == "rpc" else body) + b"\n"


def encode_request(method: str, params: dict[str, Any], request_id: RequestId) -> bytes:
    """Return a JSON-RPC request line; without an id it is a notification."""
    body: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if request_id is not None:
        body["id"] = request_id
    if params:
        body["params"] = params
    return _encode(body) + b"\n"


def encode(value: Any) -> bytes:
    """Return ``value`` (builtins or message types) as JSON."""
    return _encode(value)


def decode(line: bytes) -> Any:
    """Return a line from the daemon as builtins. Raises `ParseError`."""
    try:
        return _decode(line)
    except (ValueError, RecursionError) as exc:
        raise ParseError("the peer sent a line that is not JSON") from exc
