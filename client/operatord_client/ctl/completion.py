# SPDX-License-Identifier: MIT
"""Completion scripts for bash, zsh and fish, drawn from an argparse tree.

    source <(operatorctl completion bash)
    source <(operatorctl completion zsh)
    operatorctl completion fish | source

A script knows the words of every command. Names that only the daemon knows are looked up with operatorctl
itself; without a daemon there are no completions, and no error messages.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

TYPE_CHECKING = False  # as typing's; importing typing would cost more than all of this
if TYPE_CHECKING:
    from typing import TypeAlias

    Parser: TypeAlias = argparse.ArgumentParser

ASK = {
    "ID": "operatorctl list --quiet 2>/dev/null",
    "PROBE": "operatorctl probe list --quiet 2>/dev/null",
    "PIPELINE": "operatorctl pipelines --quiet 2>/dev/null",
}
"""What to run for the names behind a metavar."""


class Option:
    """An option of a command: ``words`` are its spellings, ``values`` what may follow it."""

    def __init__(self, action: argparse.Action) -> None:
        self.words = tuple(action.option_strings)
        self.help = action.help or ""
        self.takes_value = action.nargs != 0
        self.values = _values(action)


class Command:
    """A command: its path from the root, and what may be typed after it."""

    def __init__(self, path: tuple[str, ...], parser: Parser) -> None:
        self.path = path
        self.place = "/".join(path)
        """The path as scripts write it: empty for the root, ``probe/add`` for a command below."""
        self.options = [Option(action) for action in parser._actions if action.option_strings]
        self.children = _children(parser)
        self.leads = _leads(parser)
        """The child behind each word that may be typed for one."""
        self.arguments = [
            value
            for action in parser._actions
            if not action.option_strings and not isinstance(action, argparse._SubParsersAction)
            for value in _values(action)
        ]

    def below(self, child: str) -> str:
        """Return the place of a child."""
        return "/".join((*self.path, child))

    @property
    def flags(self) -> list[str]:
        """Options, in all spellings."""
        return [word for option in self.options for word in option.words]

    @property
    def words(self) -> list[str]:
        """What may come next except options; options where nothing else may."""
        return [*self.children, *self.arguments] or self.flags


def _values(action: argparse.Action) -> list[str]:
    """Return an action's choices, else the substitution that its metavar stands for."""
    if action.choices is not None:
        return [str(choice) for choice in action.choices]
    ask = ASK.get(str(action.metavar))
    return [f"$({ask})"] if ask else []


def _children(parser: Parser) -> dict[str, str]:
    """Return the commands below, with their help."""
    return {
        choice.dest: choice.help or ""
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
    }


def _leads(parser: Parser) -> dict[str, str]:
    """Return the names of the commands below, by each word that stands for one."""
    return {
        word: choice.dest
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for choice in action._choices_actions
        for word, child in action.choices.items()
        if child is action.choices[choice.dest]
    }


def commands(parser: Parser, path: tuple[str, ...] = ()) -> Iterator[Command]:
    """Yield the root and every command below it."""
    yield Command(path, parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action._choices_actions:
                yield from commands(action.choices[choice.dest], (*path, choice.dest))


# --- bash, and zsh by the same shape --------------------------------------------------------------

BASH = """\
# bash completion of operatorctl; made by `operatorctl completion bash`
_operatorctl() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} at= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at:${{COMP_WORDS[i]}}" in
{steps}
    esac
  done
  COMPREPLY=()
  case "$at:$prev" in
{values}
  esac
  case "$at:${{cur:0:1}}" in
{words}
  esac
}}
complete -F _operatorctl operatorctl
"""

ZSH = """\
#compdef operatorctl
# zsh completion of operatorctl; made by `operatorctl completion zsh`
_operatorctl() {{
  local cur=${{words[CURRENT]}} prev=${{words[CURRENT-1]}} at= i
  for ((i = 2; i < CURRENT; i++)); do
    case "$at:${{words[i]}}" in
{steps}
    esac
  done
  case "$at:$prev" in
{values}
  esac
  case "$at:${{cur:0:1}}" in
{words}
  esac
}}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _operatorctl "$@"
else
  compdef _operatorctl operatorctl
fi
"""


def _bash(tree: list[Command]) -> str:
    def reply(values: list[str]) -> str:
        return f'COMPREPLY=($(compgen -W "{" ".join(values)}" -- "$cur"))' if values else ":"

    return _by_case(BASH, tree, reply)


def _zsh(tree: list[Command]) -> str:
    def reply(values: list[str]) -> str:
        return f"compadd -- {' '.join(values)}" if values else ":"

    return _by_case(ZSH, tree, reply)


def _by_case(template: str, tree: list[Command], reply: Callable[[list[str]], str]) -> str:
    """Fill in a script that follows the words typed so far with `case`, and answers at the place."""
    return template.format(
        steps="\n".join(f"      {line}" for command in tree for line in _steps(command)),
        values="\n".join(f"    {line}" for command in tree for line in _after(command, reply)),
        words="\n".join(f"    {line}" for command in tree for line in _here(command, reply)),
    )


def _steps(command: Command) -> Iterator[str]:
    """What a typed word leads to: a command, or past an option's value."""
    for word, child in command.leads.items():
        yield f'"{command.place}:{word}") at="{command.below(child)}" ;;'
    words = [word for option in command.options if option.takes_value for word in option.words]
    if words:
        yield f"{_either(command.place, words)}) ((i++)) ;;"


def _after(command: Command, reply: Callable[[list[str]], str]) -> Iterator[str]:
    """What follows an option that takes a value."""
    for option in command.options:
        if option.takes_value:
            yield f"{_either(command.place, option.words)}) {reply(option.values)}; return ;;"


def _here(command: Command, reply: Callable[[list[str]], str]) -> Iterator[str]:
    """What may be typed at a place: options after a dash, else names."""
    yield f'"{command.place}:-") {reply(command.flags)} ;;'
    yield f'"{command.place}:"*) {reply(command.words)} ;;'


def _either(place: str, words: list[str] | tuple[str, ...]) -> str:
    return "|".join(f'"{place}:{word}"' for word in words)


# --- fish ------------------------------------------------------------------------------------------

FISH = """\
# fish completion of operatorctl; made by `operatorctl completion fish`
function __operatorctl_at
  set -l at ''
  set -l value 0
  for word in (commandline -opc)[2..-1]
    if test $value = 1
      set value 0
      continue
    end
    switch "$at:$word"
{steps}
    end
  end
  test "$at" = "$argv[1]"
end
complete -c operatorctl -f
{completions}
"""


def _fish(tree: list[Command]) -> str:
    return FISH.format(
        steps="\n".join(f"      {line}" for command in tree for line in _fish_steps(command)),
        completions="\n".join(line for command in tree for line in _fish_here(command)),
    )


def _fish_steps(command: Command) -> Iterator[str]:
    for word, child in command.leads.items():
        yield f"case '{command.place}:{word}'; set at '{command.below(child)}'"
    words = [word for option in command.options if option.takes_value for word in option.words]
    if words:
        places = " ".join(f"'{command.place}:{word}'" for word in words)
        yield f"case {places}; set value 1"


def _fish_here(command: Command) -> Iterator[str]:
    start = f"""complete -c operatorctl -n "__operatorctl_at '{command.place}'\""""
    for child, help in command.children.items():
        yield f"{start} -a {child} -d {_quoted(help)}"
    if command.arguments:
        yield f"{start} -a {_fish_values(command.arguments)}"
    for option in command.options:
        spelled = " ".join(
            f"-l {word[2:]}" if word.startswith("--") else f"-s {word[1:]}" for word in option.words
        )
        takes = f" -x -a {_fish_values(option.values)}" if option.takes_value else ""
        yield f"{start} {spelled}{takes} -d {_quoted(option.help)}"


def _fish_values(values: list[str]) -> str:
    # Fish writes substitutions without a dollar and evaluates them when it completes.
    return _quoted(" ".join(v[1:] if v.startswith("$(") else v for v in values))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SHELLS: dict[str, Callable[[list[Command]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}


def script(parser: Parser, shell: str) -> str:
    """Return the completion script of ``parser`` for ``shell``, one of `SHELLS`."""
    return SHELLS[shell](list(commands(parser)))
