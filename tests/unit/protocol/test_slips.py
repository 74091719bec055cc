# SPDX-License-Identifier: MIT
"""Lines as somebody types them by hand, slips included: the answer says what to do."""

from __future__ import annotations

import pytest
from protocol_vectors import examine

from operatord_protocol.codec import Refusal, Request, decode_line
from operatord_protocol.errors import InvalidParams, InvalidRequest, ParseError
from operatord_protocol.slips import START


def refused(line: str | bytes) -> Refusal:
    found, _ = examine(line if isinstance(line, bytes) else line.encode("utf-8"))
    assert isinstance(found, Refusal), found
    return found


@pytest.mark.parametrize(
    "name", ["methd", "Method", "METHOD", "method ", "meth", "mehtod", "methods", "command", "do"]
)
def test_who_slips_in_the_word_method_has_not_asked_for_a_start(name: str) -> None:
    found = refused(f'{{"{name}":"session.get","id":7,"params":{{"session_id":"0"}}}}')
    assert (found.dialect, found.id) == ("plain", 7)
    assert isinstance(found.error, InvalidRequest)
    assert found.error.message == f"unknown member {name!r}; did you mean 'method'?"


def test_the_same_in_json_rpc() -> None:
    found = refused('{"jsonrpc":"2.0","id":7,"methd":"session.get"}')
    assert (found.dialect, found.id) == ("rpc", 7)
    assert found.error.message == "unknown member 'methd'; did you mean 'method'?"


@pytest.mark.parametrize("name", ["params", "parms", "Params"])
def test_params_without_a_method_are_no_start(name: str) -> None:
    found = refused(f'{{"{name}":{{"count":5}}}}')
    assert isinstance(found.error, InvalidRequest)
    assert '"method":"session.start","params"' in found.error.message


@pytest.mark.parametrize(
    "name, example",
    [
        ("session_id", '{"method":"session.get","params":{"session_id":…}}'),
        ("ttl", '{"method":"session.extend","params":{"ttl":…}}'),
        ("id", '{"method":"session.start","id":…,"params":{…}}'),
    ],
)
def test_what_no_start_has_is_told_where_it_belongs(name: str, example: str) -> None:
    found = refused(f'{{"count":5,"{name}":"x"}}')
    assert found.dialect == "seed"
    assert isinstance(found.error, InvalidParams)
    assert found.error.data["path"] == f"params.{name}"
    assert found.error.message.endswith(example)


def test_the_name_of_a_method_is_no_member() -> None:
    message = refused('{"session.get":{"session_id":"0"}}').error.message
    assert message == 'session.get is a method: {"method":"session.get","params":{…}}'


def test_no_parameter_of_a_start_is_taken_for_anything_else() -> None:
    for name in START:
        found = decode_line(f'{{"{name}":"session.get"}}'.encode())
        assert isinstance(found, Request) and found.dialect == "seed", name


@pytest.mark.parametrize("name", ["mode", "image", "type", "hello", "cuont"])
def test_what_resembles_no_envelope_is_a_parameter_that_is_wrong(name: str) -> None:
    found = refused(f'{{"{name}":1}}')
    assert found.error.message.startswith(f"params.{name}: unknown member; ")


@pytest.mark.parametrize("envelope", ["", '"jsonrpc":"2.0","id":1,'])
def test_what_stands_beside_params_is_told_to_go_into_them(envelope: str) -> None:
    found = refused(f'{{{envelope}"method":"session.stop","session_id":"0123456789ABCDEF"}}')
    assert found.error.message == (
        'put \'session_id\' into params: {"method":"session.stop","params":{"session_id":…}}'
    )


@pytest.mark.parametrize(
    "line, sentence",
    [
        ('{"method":"session.get","params":"E"}', '{"session_id":…}, without quotes around it'),
        ('{"method":"session.get","params":["E"]}', 'in an object such as {"session_id":…}'),
        ('{"method":"system.ping","params":5}', "this method has no params: leave them out"),
        ('{"method":1}', 'a request needs a method, a string; an example: {"method":'),
        ('{"count":"5"}', "params.count: expected int, got str: a number, without quotes"),
        ('{"count":1e3}', "got float: a whole number such as 1000, without a point and without e"),
        ('{"plain_stream":"no"}', "expected bool, got str: true or false, without quotes"),
        ('{"lease":{"tll":5}}', "params.lease.tll: unknown member; did you mean 'ttl'?"),
        ('{"lease":"forever"}', 'known: connection, pinned, {"ttl":…}'),
        ('{"plain":true}', "params.plain: unknown member; did you mean 'plain_stream'?"),
        ('{"lease":30}', "expected one of 'pinned', 'connection', {\"ttl\":…}; got int"),
    ],
)
def test_what_is_json_and_wrong(line: str, sentence: str) -> None:
    assert sentence in refused(line).error.message


@pytest.mark.parametrize(
    "line, sentence",
    [
        ('{"method":"system.ping",}', ": leave out the comma; "),
        ("{'method':'system.ping'}", ": put names and text in double quotes "),
        ('{"method":\'system.ping\'}', ": put names and text in double quotes "),
        ("'{\"method\":\"system.ping\"}'", ": a request is an object, and begins with {; "),
        ("{“method”:“system.ping”}", ": type plain double quotes, not typographic ones; "),
        ('{\\"method\\":\\"system.ping\\"}', ": leave out the backslashes; "),
        ("{method:system.ping}", ": names stand in double quotes, which a shell leaves alone if "),
        ('{"method":system.ping}', ": text stands in double quotes, which a shell leaves alone if "),
        ('{"method":"system.ping"', ": an object is whole on one line, and this one has no end; "),
        ('{"owner":"\\ud83d"}', ": a lone surrogate is half a letter: write the letter itself"),
        ('{"owner":"\\ude00 and more"}', ": a lone surrogate is half a letter: "),
        ('{"method":"system.ping"} {"count":1}', ": send one object a line; "),
        ('{"method":"system.ping"}}', ": there is one } too many; "),
        ('{"method":"system.ping"} # me', ": there are no comments in JSON; "),
        ('{"method":"system.ping"};', ": nothing may follow the object in its line; "),
        ('{"method":"system.ping"};\x01', ": nothing may follow the object in its line; "),
        ('{"method":"system.ping"}\x1b[A', "(byte 25)): it has a control character, which arrow keys in"),
        ('{"method":"system.ping"} \0', ": it has a control character"),
        ('\x1b[A{"method":"system.ping"}', ": it has a control character"),
        ('{"plain_stream":True}', ": JSON has true and false, in small letters; "),
        ('{"count":None}', ": leave out what has no value; "),
        ('{"count":NaN}', ": JSON has no such number; "),
        ('{"count":0x10}', ": a number is written as 200 or 0.5; "),
        ('{"count":010}', ": a number is written as 200 or 0.5; "),
        ('{"count":1_000}', ": a number is written as 200 or 0.5; "),
        ('{"count":+3}', ": a number is written without +; "),
        ('{"method":"system\tping"}', ": it has a control character, "),
        ('{"method":"system.pi\x1b[Dng"}', ": it has a control character, "),
        ("\0", ": it has a control character, "),
        ("\0\n", ": it has a control character, "),
        ('\0{"method":"system.ping"}', ": it has a control character, "),
        ('{"method":\u00a0"system.ping"}', ": there is a no-break space: type a plain one; "),
        ("status", ": a request is an object, and begins with {; "),
        ('{"method" "system.ping"}', "expected ':' (byte 10)); an example: "),
    ],
)  # fmt: skip
def test_what_is_no_json(line: str, sentence: str) -> None:
    found = refused(line)
    assert isinstance(found.error, ParseError)
    assert sentence in found.error.message
    assert found.error.message.endswith('an example: {"method":"system.status"}')


def test_byte_of_another_encoding_is_shown_with_its_place() -> None:
    """F18: as a terminal that is set to Latin-1 sends it."""
    found = refused('{"owner":"Müller"}'.encode("latin-1"))
    assert ": 0xfc at byte 11 is not UTF-8: is the terminal, or the file, " in found.error.message


def test_any_bytes_are_told_something() -> None:
    for begin in (b"", b"{", b'{"a":', b'{"a":1', b'{"a":1}'):
        for byte in range(256):
            line = begin + bytes((byte,))
            if b"\n" not in line:
                decode_line(line)
