# SPDX-License-Identifier: MIT
"""The completion scripts, tried in the shells they are for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from daemon_lab import PATIENCE

from operatord_client.ctl import completion, parser

ASK_BASH = """
source "$1"; shift
operatorctl() { [ "$*" = "list --quiet" ] && echo EE705B6538693C50; }
COMP_WORDS=(operatorctl "$@") COMP_CWORD=$#
_operatorctl
printf '%s\\n' "${COMPREPLY[@]}"
"""
ASK_ZSH = """
script=$1; shift
compdef() { : }
compadd() { shift; print -l -- "$@" }
operatorctl() { [[ "$*" == "list --quiet" ]] && echo EE705B6538693C50 }
source $script
words=(operatorctl "$@") CURRENT=${#words}
_operatorctl
"""
ASK_FISH = """
source $argv[1]
function operatorctl; test "$argv" = "list --quiet"; and echo EE705B6538693C50; end
complete -C "operatorctl $(string join -- ' ' $argv[2..-1])" | string split -f1 \\t; true
"""
ASK = {
    "bash": ["bash", "--norc", "-c", ASK_BASH, "bash"],
    "zsh": ["zsh", "-f", "-c", ASK_ZSH, "zsh"],
    "fish": ["fish", "--no-config", "-c", ASK_FISH],
}


@pytest.fixture(params=sorted(completion.SHELLS))
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")
    return name


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["pro"], {"probe"}),
        (["probe", ""], {"add", "list", "get", "remove"}),
        (["start", "--format", ""], {"json", "y4m"}),
        (["--address", "list", "undr"], {"undrain"}),
        (["start", "--on-s"], {"--on-shortage"}),
        (["completion", ""], {"bash", "zsh", "fish"}),
        (["stop", ""], {"EE705B6538693C50"}),
        (["rm", ""], {"EE705B6538693C50"}),
        (["probe", "rm", "--add"], {"--address"}),
        (["events", "--session", ""], {"EE705B6538693C50"}),
    ],
)
def test_what_is_offered(shell: str, typed: list[str], offered: set[str], tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(completion.script(parser.build(), shell))
    command = [*ASK[shell], str(script), *typed]
    asked = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    words = set(asked.stdout.split())
    # zsh's own compadd picks what fits; this test's stand-in for it prints all.
    fitting = {word for word in words if word.startswith(typed[-1])}
    assert (fitting if shell == "zsh" else words) == offered


def test_every_command_and_option_is_in_every_script() -> None:
    tree = list(completion.commands(parser.build()))
    words = {word for command in tree for word in (*command.children, *command.flags)}
    assert {"start", "completion", "remove", "--request-key", "-f"} <= words
    for name in completion.SHELLS:
        script = completion.script(parser.build(), name)
        assert [word for word in words if word.lstrip("-") not in script] == []
