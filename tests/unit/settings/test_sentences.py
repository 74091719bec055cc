# SPDX-License-Identifier: MIT
"""What is said of a setting that is written in the wrong form shows the right one, and that is accepted."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from operatord.core.units import custom
from operatord.settings.checks import contradictions
from operatord.settings.config import Config, ConfigError, to_dict
from operatord.settings.loading import from_dict
from operatord.settings.type_errors import _ELSEWHERE, _EXPECTED

NO_PORT = "which is not a port from 1 to 65535; a range is 20000-20999"
TRUTH = "true or false, which YAML reads yes, no, on and off as"
LISTENER = "{address: 0.0.0.0:7734, auth: token, tls: {cert: FILE, key: FILE}}"


def told(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        from_dict(yaml.safe_load(text))
    [problem] = refused.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("gate_ports: 60000-70000", f"it ends with 70000, {NO_PORT}"),
        ("gate_ports: 0-100", f"it begins with 0, {NO_PORT}"),
        ("gate_ports: '70000'", "70000 is not a port from 1 to 65535; a range is 20000-20999"),
        ("gate_ports: 5000", "expected a range such as 20000-20999"),
        ("gate_ports: '5000'", "one port is fewer than limits.sessions (32); write a longer range"),
        ("gate_ports: 5000-", "expected a range such as 20000-20999, got '5000-'"),
        ("gate_ports: 5000-5003", "4 ports are fewer than limits.sessions (32); write a longer range"),
        ("gate_ports: 6000-5000", "6000-5000 ends before it begins; write 5000-6000"),
        ("gate_ports: 6\u0661-70", "expected a range such as 20000-20999, got '6\u0661-70'"),
        ("ports: 60000-70000", f"it ends with 70000, {NO_PORT}"),
        ("listeners: [0.0.0.0:7734]", f"expected a mapping such as {LISTENER}"),
        ("listeners: 0.0.0.0:7734", f"expected a list such as [{LISTENER}]"),
        (
            "listeners: [{address: 0.0.0.0:7734, auth: token, tls: true}]",
            "expected a mapping such as {cert: FILE, key: FILE}; without TLS, leave it out",
        ),
        ("probes: 10.0.0.0/8", "expected a mapping such as {allow: [10.0.0.0/8]}"),
        (
            "probes: {allow: 10.0.0.0/8}",
            "expected a list such as [10.0.0.0/8, 192.168.0.0/16:12345-12399, file:/srv/recordings]",
        ),
        ("tls: true", f"unknown member; it belongs to an address, as in listeners: [{LISTENER}]"),
        ("auth: token", "expected a mapping such as {tokens: /etc/operatord/tokens}"),
        ("auth: {certificates: [ada]}", "expected a mapping of names to roles, such as {ada: user}"),
        ("streams: token", "expected a mapping such as {allow: token}"),
        ("limits: 5", "expected a mapping, got a whole number; it is written as in limits: {sessions: 32}"),
        ("queue: [5]", "expected a mapping, got a list; it is written as in queue: {ageing: 60}"),
        (
            "probes: {allow: [10.0.0.0/8, 5]}",
            "expected a network, a file or a device in quotes, such as '10.0.0.0/8:12345'",
        ),
        (
            "sources: {rtsp: null}",
            "expected a mapping such as {image: operatord-camera}; no adapter can be taken away",
        ),
        (
            "sources: {file: {port: 1}, RTSP: {image: a}}",
            "a name in it is wrong: expected the scheme of a URL in small letters, such as rtsp, got 'RTSP'",
        ),
        ("limits: {sessions: [3]}", "expected a whole number, got a list"),
        ("limits: {sessions: '3'}", "expected a whole number, got text: a number, without quotes"),
        ("subnets: [10.0.0.0/16]", "expected text, got a list"),
        ("on_shutdown: [keep]", "expected keep or stop, got a list"),
        ("http: {auth: yes}", f"expected none or token, got {TRUTH}"),
        (
            "pipelines: {stream: null}",
            "expected a mapping such as {stages: {camera: {image: demo-probe, port: 12345}}}",
        ),
    ],
)  # fmt: skip
def test_wrong_form_is_answered_with_the_right_one(text: str, sentence: str) -> None:
    assert told(text).partition(": ")[2] == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("egress: yes", f"expected none or lan, got {TRUTH}"),
        ("pull: true", f"expected never or missing, got {TRUTH}"),
        ("late_bind: off", f"expected 'off' in quotes, native or shim, got {TRUTH}"),
        ("memory: 1G", "expected bytes or a size such as 128MiB or 2GiB, got '1G'; did you mean 1GiB?"),
        ("image: [a]", "expected text, got a list"),
    ],
)  # fmt: skip
def test_choice_of_a_stage_is_told_with_its_words(text: str, sentence: str) -> None:
    said = told(f"pipelines: {{stream: {{stages: {{probe: {{{text}}}}}}}}}")
    assert said == f"pipelines.stream.stages.probe.{text.partition(':')[0]}: {sentence}"


def test_name_of_a_stage_that_is_none_is_told() -> None:
    said = told("pipelines: {a.b: {stages: {}}, own: {stages: {Probe: {image: a, port: 1}}}}")
    assert said == (
        "pipelines.own.stages: a name in it is wrong: expected up to 32 small letters, digits and _, "
        "a letter first, got 'Probe'"
    )


def examples() -> list[tuple[str, str]]:
    """Return each setting of the table with the example in its sentence."""
    found = []
    for path, said in _EXPECTED.items():
        example = said.partition("such as ")[2].partition(";")[0]
        assert example, path
        found.append((path, example))
    return found


@pytest.mark.parametrize(("path", "example"), examples())
def test_what_is_shown_is_accepted(path: str, example: str) -> None:
    value: Any = yaml.safe_load(example)
    path = path.replace("stages[...]", "stages.camera").replace("[...]", ".stream")
    if path == "probes.allow[]":
        path, value = "probes.allow", [value]
    if path.startswith("listeners[]"):
        item = {"address": "0.0.0.0:7734", "auth": "token", "tls": value}
        path, value = "listeners", [item if path.endswith(".tls") else value]
    for name in reversed(path.split(".")):
        value = {name: value}
    merged = to_dict(Config())
    for name, section in value.items():
        both = isinstance(section, dict) and isinstance(merged[name], dict)
        merged[name] = {**merged[name], **section} if both else section
    if path == "listeners":
        merged["auth"]["tokens"] = "/etc/operatord/tokens"
    config = msgspec.convert(merged, Config, dec_hook=custom)
    assert not [each for each in contradictions(config) if each.startswith(path.split(".")[0])]


@pytest.mark.parametrize("name", _ELSEWHERE)
def test_what_is_looked_for_at_the_top_is_told_its_place(name: str) -> None:
    assert told(f"{name}: 1") == f"{name}: unknown member; {_ELSEWHERE[name]}"
    assert name not in to_dict(Config())


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pipelines: {strem: {warm: 1}}", "did you mean 'stream'?"),
        ("pipelines: {strem: }", "did you mean 'stream'?"),
        ("pipelines: {strem: {stages: {probe: {cpus: 1}}}}", "is required; did you mean 'stream'?"),
        ("pipelines: {stream: {stages: {prob: {cpus: 1}}}}", "is required; did you mean 'probe'?"),
        ("sources: {rtps: {cpus: 1}}", "is required; did you mean 'rtsp'?"),
    ],
)
def test_a_name_that_is_a_slip_for_one_of_the_installation_s_own_is_told_that(
    text: str, sentence: str
) -> None:
    assert told(text).endswith(sentence)


@pytest.mark.parametrize(
    "text",
    [
        "pipelines: {live: {warm: 1}}",
        "pipelines: {strem: {stages: {probe: {image: a, port: 1, cpus: many}}}}",
        "pipelines: {stream: {stage: }}",
        "listeners: [{auth: token}]",
    ],
)
def test_other_mistakes_are_no_slips_of_such_names(text: str) -> None:
    assert "did you mean 'stream'" not in told(text)
    assert told(text).count("did you mean") <= 1
