# SPDX-License-Identifier: MIT
"""What a daemon does not load, for it stays in its memory as long as it runs."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
from operatord.commands.parser import build_parser
build_parser(serves=True)
import operatord.engines.docker.engine
print(*sys.modules)
import charset_normalizer, requests
answer = requests.Response()
answer._content = "größer".encode()
assert answer.text == "größer"
assert charset_normalizer.from_bytes(b"text").best()
"""


def test_daemon_loads_neither_other_commands_nor_what_guesses_encodings() -> None:
    """And who wants the latter still gets it."""
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=False
    )
    assert not done.stderr
    loaded = done.stdout.split()
    assert "docker" in loaded
    assert "operatord.commands.serve" in loaded
    assert not {"operatord.commands.tokens", "operatord.recipes"} & set(loaded)
    assert not [name for name in loaded if name.startswith("charset_normalizer")]
