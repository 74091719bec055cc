# SPDX-License-Identifier: MIT
"""What people write for an address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from daemon_lab import clean_env

from operatord_client import Tcp, Unix, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("lab-7:1234", Tcp("lab-7", 1234)),
        ("tcp://lab-7:1234", Tcp("lab-7", 1234)),
        ("lab-7", Tcp("lab-7", 7733)),
        (":1234", Tcp("127.0.0.1", 1234)),
        ("[::1]:1234", Tcp("::1", 1234)),
        ("[::1]", Tcp("::1", 7733)),
        ("unix:/run/o.sock", Unix("/run/o.sock")),
        ("unix:///run/o.sock", Unix("/run/o.sock")),
        ("/run/o.sock", Unix("/run/o.sock")),
        ("./o.sock", Unix("./o.sock")),
        (("h", 1), Tcp("h", 1)),
        (Unix("x"), Unix("x")),
    ],
)
def test_an_address_in_every_spelling(text: str, address: Tcp | Unix) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["h:", "h:x", "h:0", "h:65536", "h:1:2:x", "h:\u0661"])
def test_what_is_no_address_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a daemon"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("http://127.0.0.1:18850", "127.0.0.1:7733"),
        ("https://lab-7:8443/", "lab-7:7733"),
        ("http://[::1]:80/post/", "[::1]:7733"),
        ("http://", "127.0.0.1:7733"),
    ],
)
def test_who_names_the_port_of_http_is_told_of_the_control_port(text: str, example: str) -> None:
    with pytest.raises(ValueError, match="setting listen") as raised:
        parse_address(text)
    assert str(raised.value).endswith(f"; write one such as {example}")


def test_the_environment_and_then_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPERATORD_ADDRESS", raising=False)
    assert parse_address() == Tcp("127.0.0.1", 7733)
    monkeypatch.setenv("OPERATORD_ADDRESS", "unix:/o")
    assert parse_address() == Unix("/o")


def test_addresses_are_written_as_they_are_read() -> None:
    for text in ("h:1", "[::1]:2", "unix:/o"):
        assert str(parse_address(text)) == text


def test_example_says_in_one_sentence_that_nothing_answers(tmp_path: Path) -> None:
    dice = Path(__file__).parents[2] / "examples" / "dice.py"
    env = {**clean_env(), "OPERATORD_ADDRESS": f"unix:{tmp_path}/none"}
    done = subprocess.run(
        [sys.executable, dice], env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"nothing answers at unix:{tmp_path}/none: no such file")
    assert done.stderr.endswith("; is operatord running?\n")
