# SPDX-License-Identifier: MIT
"""Settings: where they come from, what beats what, and a sentence for each that cannot be used."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from operatord.core.units import Bytes, Duration
from operatord.settings.checks import cautions
from operatord.settings.config import (
    Config,
    ConfigError,
    GpuSettings,
    Lease,
    Pressure,
    SystemReserved,
    to_dict,
)
from operatord.settings.loading import from_dict, load, with_env_files
from operatord.settings.variables import OTHER_VARIABLES, in_small_letters, not_settings

SHIPPED = Path(__file__).parents[3] / "operatord.yaml"
STAGE = {"image": "i", "port": 1}


def refused(data: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_dict(data)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def chain(**stage: Any) -> dict[str, Any]:
    return {"pipelines": {"x": {"stages": {"camera": {**STAGE, **stage}}}}}


def paths(data: Any, prefix: str = "") -> list[str]:
    """Return the dotted path of every setting."""
    if not isinstance(data, dict) or not data:
        return [prefix]
    return [path for key in data for path in paths(data[key], f"{prefix}.{key}".strip("."))]


def test_shipped_file_is_exactly_the_defaults() -> None:
    assert load(SHIPPED, {}, {}) == Config()


def test_shipped_file_mentions_every_setting_and_no_other() -> None:
    written = paths(yaml.safe_load(SHIPPED.read_text("utf-8")))
    assert sorted(written) == sorted(paths(to_dict(Config())))


def test_every_setting_of_the_shipped_file_has_a_word_said_about_it() -> None:
    text = SHIPPED.read_text("utf-8")
    for key in to_dict(Config()):
        block = re.search(rf"(?m)^(?P<above>(?:#.*\n)*){key}:(?P<rest>.*(?:\n +.*)*)", text)
        assert block is not None, key
        assert block["above"] or "#" in block["rest"], f"{key} is not explained"


def test_settings_survive_the_round_trip() -> None:
    assert from_dict(to_dict(Config())) == Config()


def test_file_is_laid_over_the_defaults_key_by_key() -> None:
    config = from_dict({"pipelines": {"segmented": {"stages": {"probe": {"cpus": 0.2}}}}})
    assert config.pipelines["segmented"].stages["probe"].cpus == 0.2
    assert config.pipelines["segmented"].stages["probe"].image == "demo-probe"
    assert list(config.pipelines["segmented"].stages) == ["probe", "stream", "segmentation"]
    assert config.pipelines["stream"] == Config().pipelines["stream"]


def test_units_are_understood() -> None:
    config = from_dict({"start_timeout": "2m", "limits": {"output_bytes": "1MiB"}})
    assert (config.start_timeout, config.limits.output_bytes) == (120, 2**20)


def test_command_line_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("listen: 127.0.0.1:1\nengine: docker\nstate_dir: /f\nlimits: {sessions: 5}\n")
    env = {"OPERATORD_LISTEN": "127.0.0.1:2", "OPERATORD_ENGINE": "process", "HOME": "/"}
    options = {"listen": "127.0.0.1:3", "engine": None, "log": None}
    config = load(file, env, options)
    assert (config.listen, config.engine, config.state_dir) == ("127.0.0.1:3", "process", "/f")
    assert config.limits.sessions == 5
    assert load(None, {"OPERATORD_LIMITS_SESSIONS": "7"}, {}).limits.sessions == 7
    assert load(None, {"OPERATORD_UNIX": "/run/o.sock"}, {}).unix == "/run/o.sock"
    assert load(None, {"OPERATORD_LOG_LEVEL": "debug"}, {"log": {"format": "json"}}).log == (
        Config().log.__class__(level="debug", format="json")
    )


def test_defaults_of_what_is_kept_back_and_watched() -> None:
    assert Config().system_reserved == SystemReserved(
        cpus=0.0, memory=Bytes(256 * 2**20), disk=Bytes(512 * 2**20)
    )
    assert Config().pressure == Pressure(cpu=None, memory_stall=0.2)
    assert Config().queue.ageing == 60
    assert Config().lease == Lease(idle_timeout=None, max_age=None)
    assert (Config().gpus, Config().limits.sessions_per_owner) == ("auto", None)


def test_what_may_be_switched_off_can_be() -> None:
    config = from_dict(
        {"gpus": [], "pressure": {"cpu": None, "memory_stall": None}, "queue": {"ageing": 0}}
    )
    assert (config.gpus, config.queue.ageing) == ([], 0)
    assert config.pressure == Pressure(cpu=None, memory_stall=None)
    assert from_dict({"pressure": {"cpu": 1}}).pressure.cpu == 1


def test_devices_are_listed_with_their_memory() -> None:
    ids = ["0", "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6", "MIG-GPU-1/1/0", "nvidia.com/gpu=0"]
    config = from_dict({"gpus": [{"id": name, "memory": "8GiB"} for name in ids]})
    assert config.gpus == [GpuSettings(id=name, memory=Bytes(2**33)) for name in ids]
    assert from_dict(to_dict(config)) == config


def test_environment_reaches_what_is_kept_back_and_what_is_null() -> None:
    env = {
        "OPERATORD_SYSTEM_RESERVED_MEMORY": "1GiB",
        "OPERATORD_SYSTEM_RESERVED_CPUS": "0.5",
        "OPERATORD_GPUS": "[{id: GPU-1, memory: 8GiB}]",
        "OPERATORD_PRESSURE_CPU": "null",
        "OPERATORD_PRESSURE_MEMORY_STALL": "0.5",
        "OPERATORD_QUEUE_AGEING": "5m",
        "OPERATORD_LEASE_IDLE_TIMEOUT": "null",
        "OPERATORD_LEASE_MAX_AGE": "24h",
        "OPERATORD_LIMITS_QUEUE": "7",
        "OPERATORD_LIMITS_SESSIONS_PER_OWNER": "4",
    }
    config = load(None, env, {})
    assert config.system_reserved == SystemReserved(cpus=0.5, memory=Bytes(2**30))
    assert config.gpus == [GpuSettings(id="GPU-1", memory=Bytes(2**33))]
    assert config.pressure == Pressure(cpu=None, memory_stall=0.5)
    assert config.queue.ageing == 300
    assert config.lease == Lease(idle_timeout=None, max_age=Duration(86400))
    assert (config.limits.queue, config.limits.sessions_per_owner) == (7, 4)
    assert load(None, {"OPERATORD_GPUS": "[]"}, {}).gpus == []
    with pytest.raises(ConfigError, match=r"lease\.idle_timeout"):
        load(None, {"OPERATORD_LEASE_IDLE_TIMEOUT": "0"}, {})


def test_empty_file_is_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    for text in ("", "# nothing\n", "{}\n"):
        file.write_text(text)
        assert load(file, {}, {}) == Config()


UNKNOWN: dict[str, dict[str, Any]] = {
    "sessions": {"sessions": 3},
    "limits.sesions": {"limits": {"sesions": 3}},
    "defaults.frames": {"defaults": {"frames": 3}},
    "system_reserved.gpus": {"system_reserved": {"gpus": 1}},
    "gpus[0].name": {"gpus": [{"id": "0", "memory": 1, "name": "A100"}]},
    "pressure.disk": {"pressure": {"disk": 0.9}},
    "queue.aging": {"queue": {"aging": 60}},
    "lease.ttl": {"lease": {"ttl": 60}},
    "pipelines.segmented.warmth": {"pipelines": {"segmented": {"warmth": 3}}},
    "pipelines.x.stages.camera.priviledged": chain(priviledged=True),
}
WRONG: dict[str, dict[str, Any]] = {
    "listen": {"listen": 7733},
    "engine": {"engine": "podman"},
    "limits": {"limits": 5},
    "limits.sessions": {"limits": {"sessions": 0}},
    "limits.line_bytes": {"limits": {"line_bytes": 10}},
    "limits.sessions_per_owner": {"limits": {"sessions_per_owner": 0}},
    "defaults.count": {"defaults": {"count": 2**31}},
    "system_reserved.cpus": {"system_reserved": {"cpus": -0.5}},
    "system_reserved.memory": {"system_reserved": {"memory": "plenty"}},
    "system_reserved.disk": {"system_reserved": {"disk": None}},
    "gpus: expected auto or a list": {"gpus": "all"},
    "gpus: expected auto": {"gpus": 2},
    "gpus[0]": {"gpus": ["GPU-1"]},
    "gpus[1].id": {"gpus": [{"id": "0", "memory": 1}, {"id": 1, "memory": 1}]},
    "gpus[0].memory": {"gpus": [{"id": "0", "memory": "big"}]},
    "gpus[0].memory: is required": {"gpus": [{"id": "0"}]},
    "pressure": {"pressure": None},
    "pressure.cpu": {"pressure": {"cpu": 0}},
    "pressure.cpu: expected float <=": {"pressure": {"cpu": 97}},
    "pressure.memory_stall": {"pressure": {"memory_stall": float("nan")}},
    "queue": {"queue": 1000},
    "queue.ageing": {"queue": {"ageing": None}},
    "lease.idle_timeout": {"lease": {"idle_timeout": -1}},
    "lease.max_age": {"lease": {"max_age": "for ever"}},
    "start_timeout": {"start_timeout": "soon"},
    "stop_grace": {"stop_grace": -1},
    "stall_timeout": {"stall_timeout": "never"},
    "shutdown_timeout": {"shutdown_timeout": float("nan")},
    "limits.output_bytes": {"limits": {"output_bytes": float("inf")}},
    "history.keep": {"history": {"keep": "many"}},
    "log.level": {"log": {"level": "loud"}},
    "pipelines": {"pipelines": []},
    "pipelines.x.stages": {"pipelines": {"x": {}}},
    "pipelines.x.network": {"pipelines": {"x": {"network": "host", "stages": {"a": STAGE}}}},
    "pipelines.x.stages.camera.port": chain(port=0),
    "pipelines.x.stages.camera.image": chain(image=""),
    "pipelines.x.stages.camera.cpus": chain(cpus=0),
    "pipelines.x.stages.camera.cpus: expected float <=": chain(cpus=float("inf")),
    "pipelines.x.stages.camera.cpu_limit": chain(cpu_limit=float("nan")),
    "pipelines.x.stages.camera.cpu_limit: expected float >=": chain(cpu_limit=0.001),
    "pipelines.x.stages.camera.memory": chain(memory="1 elephant"),
    "pipelines.x.stages.camera.memory_limit": chain(memory_limit=-1),
    "pipelines.x.stages.camera.gpus": chain(gpus=65),
    "pipelines.x.stages.camera.gpus: expected a whole number,": chain(gpus=0.5),
    "pipelines.x.stages.camera.gpu_memory": chain(gpus=1, gpu_memory="some"),
    "pipelines.x.reservations": {
        "pipelines": {"x": {"reservations": "guessed", "stages": {"a": STAGE}}}
    },
    "pipelines.x.stages.camera.env.a": chain(env={"a": ["list"]}),
    "pipelines.x.stages.camera.allow_env": chain(allow_env="fps"),
    "pipelines.segmented.stages.probe": {"pipelines": {"segmented": {"stages": {"probe": None}}}},
}
CONTRADICTORY: dict[str, dict[str, Any]] = {
    "listen: expected": {"listen": "127.0.0.1"},
    "listen: 0.0.0.0": {"listen": "0.0.0.0:7733"},
    "listen: every address can be reached": {"listen": ":7733"},
    "listen: 192.0.2.1": {"listen": "192.0.2.1:7733"},
    "listen: expected HOST:PORT": {"listen": "127.0.0.1:99999"},
    "subnets: expected": {"subnets": "ten"},
    "subnets: expected a CIDR such as 10.77.0.0/16": {"subnets": "10.77.0.1/16"},
    "subnets: 10.213.0.0/29": {"subnets": "10.213.0.0/29"},
    "subnets: 10.213.0.0/28": {"subnets": "10.213.0.0/28"},
    "ports: expected": {"ports": "many"},
    "ports: 30000-20000 ends before it begins": {"ports": "30000-20000"},
    "ports: 10 ports": {"ports": "20000-20009"},
    "advertise_host: 0.0.0.0 stands for every address": {"advertise_host": "0.0.0.0"},
    "advertise_host: :: stands for every address": {"advertise_host": "::"},
    "advertise_host: expected the name or the address": {"advertise_host": ""},
    "advertise_host: this is a URL; expected the name or the address of a host alone": {
        "advertise_host": "http://a"
    },
    "advertise_host: a host's name has no empty part": {"advertise_host": "a..b"},
    "gate_ports: expected a range": {"gate_ports": "many"},
    "gate_ports: 10 ports are fewer": {"gate_ports": "20000-20009"},
    "gate_ports: 20900-21000 has ports of `ports`": {
        "ports": "20000-20999",
        "gate_ports": "20900-21000",
    },
    "streams.allow": {"streams": {"allow": "everybody"}},
    "pipelines.x.stages": {"pipelines": {"x": {"stages": {}}}},
    "pipelines.x.stages.camera.allow_env": chain(allow_env=["camera_port"]),
    "pipelines.x.stages.camera.memory": chain(memory="1MiB"),
    "pipelines.x.stages.camera.memory_limit: an engine": chain(memory=0, memory_limit="5MiB"),
    "pipelines.x.stages.camera.memory_limit": chain(memory_limit="255MiB"),
    "pipelines.x.stages.camera.cpu_limit": chain(cpus=2, cpu_limit=1.5),
    "pipelines.x.stages.camera.gpu_memory": chain(gpu_memory="1GiB"),
    "gpus: the id '0'": {"gpus": [{"id": "0", "memory": 1}, {"id": "0", "memory": 2}]},
    "gpus[0].id: expected": {"gpus": [{"id": "0,1", "memory": 1}]},
    "gpus[0].id: expected a name": {"gpus": [{"id": "", "memory": 1}]},
    "lease.idle_timeout": {"lease": {"idle_timeout": 0}},
    "lease.max_age": {"lease": {"max_age": "0s"}},
    "stall_timeout: must be longer": {"stall_timeout": 0},
    "subnets: 127.0.0.0/8 has addresses of 127.0.0.0/8": {"subnets": "127.0.0.0/8"},
    "subnets: 128.0.0.0/1 has addresses of 224.0.0.0/3": {"subnets": "128.0.0.0/1"},
}


@pytest.mark.parametrize(("path", "data"), UNKNOWN.items(), ids=UNKNOWN)
def test_unknown_setting_is_named(path: str, data: dict[str, Any]) -> None:
    [problem] = refused(data)
    assert problem.startswith(f"{path}: ")
    assert "unknown" in problem


@pytest.mark.parametrize(("path", "data"), WRONG.items(), ids=WRONG)
def test_wrong_value_is_named(path: str, data: dict[str, Any]) -> None:
    [problem] = refused(data)
    assert problem.startswith((f"{path}: ", f"{path}.") if ": " not in path else path)
    assert "[...]" not in problem


@pytest.mark.parametrize(("start", "data"), CONTRADICTORY.items(), ids=CONTRADICTORY)
def test_contradiction_is_a_sentence_of_its_own(start: str, data: dict[str, Any]) -> None:
    [problem] = refused(data)
    assert problem.startswith(start)


def test_all_contradictions_are_found_at_once() -> None:
    problems = refused({"listen": "0.0.0.0:1", "subnets": "ten", "ports": "x", **chain(memory=1)})
    assert len(problems) == 4


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (
            {"state_dir": "state"},
            "state_dir: state is another place wherever the daemon is started",
        ),
        ({"unix": "run/x.sock"}, "unix: run/x.sock is another place"),
        (
            {"pipelines": {"stream": {"warm": 5}}, "limits": {"sessions": 4}},
            "pipelines.stream.warm: keeps 5 slots, more than the sessions that may run at once "
            "(limits.sessions: 4)",
        ),
        (
            {"pipelines": {"stream": {"stages": {"probe": {"memory": 32}}}}},
            "pipelines.stream.stages.probe.memory: reserves 32 bytes, next to nothing",
        ),
    ],
)
def test_what_makes_sense_and_is_likely_a_slip_is_a_warning(
    data: dict[str, Any], warning: str
) -> None:
    (found,) = cautions(from_dict(data))
    assert found.startswith(warning)


def test_usual_settings_have_no_warnings() -> None:
    usual = {"state_dir": "~/operatord", "unix": "/run/x.sock"}
    assert cautions(from_dict(usual)) == cautions(from_dict({})) == []


def test_slip_is_met_with_a_suggestion() -> None:
    [problem] = refused({"limit": {"sessions": 3}})
    assert "limits" in problem


@pytest.mark.parametrize(
    "text",
    ["a: [", "- 1\n- 2\n", "just words", "\t- x", "a: b: c", "5", "1: 2", "a: !!python/name:os.system x",
     "when: 2024-99-99", "[" * 5000],
)  # fmt: skip
def test_file_that_is_no_settings_is_refused_without_a_traceback(tmp_path: Path, text: str) -> None:
    file = tmp_path / "o.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert caught.value.path == file
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lease: {unread_timeout: 1m}\nlimits: {}\nlease: {max_age: 1h}\n",
            "lease: is given more than once, in lines 1 and 3; put all into one"),
        ("limits:\n  queue: 1\n  queue: 1\n  queue: 2\n",
            "limits.queue: is given more than once, in lines 2, 3 and 4; put all into one"),
        ("gpus:\n- id: a\n  memory: 1\n- {id: b, memory: 1, id: c}",
            "gpus[1].id: is given more than once, in line 4; put all into one"),
        ('pipelines:\n  x:\n    stages: {a: {env: {yes: 1, "n": 1, true: 2, "yes": 2}}}\n',
            "pipelines.x.stages.a.env.yes: is given more than once, in line 3; put all into one"),
        ("<<: {listen: 127.0.0.1:1}\n<<: {engine: docker}",
            "<<: is given more than once, in lines 1 and 2; put all into one"),
        ('listen: a:1\n"listen": a:1\n',
            "listen: is given more than once, in lines 1 and 2; put all into one"),
    ],
)  # fmt: skip
def test_key_that_is_given_twice_is_named_with_its_lines(
    tmp_path: Path, text: str, said: str
) -> None:
    """N15"""
    file = tmp_path / "o.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert (caught.value.problems, caught.value.path) == ([said], file)


def test_all_keys_that_are_given_twice_are_told_at_once(tmp_path: Path) -> None:
    """N15"""
    file = tmp_path / "o.yaml"
    file.write_text("limits: {queue: 1, queue: 2}\nlisten: a:1\nlisten: a:1\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert [each.partition(":")[0] for each in caught.value.problems] == ["listen", "limits.queue"]


def test_variable_in_which_a_key_is_given_twice_is_named() -> None:
    """N15"""
    with pytest.raises(ConfigError, match=r"^OPERATORD_GPUS: \[0\]\.id: is given more than once"):
        load(None, {"OPERATORD_GPUS": "[{id: a, id: b, memory: 1}]"}, {})


def test_anchors_aliases_and_merges_give_no_key_twice(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text(
        "pipelines:\n  x:\n    stages:\n"
        "      a: &a {image: i, port: 1, pids: 8, env: &e {A: 1}}\n"
        "      b: &b {<<: *a, port: 2}\n"
        "      c: {<<: [*b, *a], pids: 9, env: *e}\n"
    )
    stages = load(file, {}, {}).pipelines["x"].stages.values()
    assert [(s.port, s.pids, s.env) for s in stages] == [
        (1, 8, {"A": 1}), (2, 8, {"A": 1}), (2, 9, {"A": 1}),
    ]  # fmt: skip


NOT_YAML = "the settings file is not YAML: line 2: "


@pytest.mark.parametrize(
    ("value", "said"),
    [
        *((f"!!{tag} {text}", f"{NOT_YAML}this cannot be read as {tag}") for tag, text in (
            ("int", "sessions"), ("int", '""'), ("float", "x"), ("float", '""'), ("bool", "5"), ("null", "x"),
            ("int", "9" * 5000))),
        ("0x_", f"{NOT_YAML}this cannot be read as int"),
        *((tagged, "listen: has a tag that settings do not have, in line 2; leave it out") for tagged in (
            "!!set {a}", "!!binary x$", "!!timestamp x", "!!omap [a: 1]", "!mine x",
            "!!python/name:os.system x")),
        *((nested, f"{NOT_YAML}more than 64 levels of nesting") for nested in (
            "[" * 64 + "]" * 64, "[" * 5000, "{a: " * 5000)),
        ("&a [*a]", "listen[0]: contains itself, in line 2; leave it out"),
        ("&a {<<: *a}", "listen: contains itself, in line 2; leave it out"),
        ("\x01", f"{NOT_YAML}a character that is not allowed"),
        ("{<<: 5}", f"{NOT_YAML}expected a mapping or list of mappings for merging, but found scalar"),
    ],
)  # fmt: skip
def test_what_is_no_yaml_of_settings_is_told_with_its_line(
    tmp_path: Path, value: str, said: str
) -> None:
    file = tmp_path / "o.yaml"
    file.write_text(f"# settings\nlisten: {value}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert (caught.value.problems, caught.value.path) == ([said], file)


BASE_8 = "begins with 0, which some read to the base of 8"


@pytest.mark.parametrize("text", ['"\\ud800"', '"a\\0"'])
@pytest.mark.parametrize("where", ["env: {fps: %s}", "command: [%s]"])
def test_text_that_nothing_can_be_given_is_refused_with_its_line(
    tmp_path: Path, text: str, where: str
) -> None:
    """A session whose stages have it could be neither written down nor started."""
    file = tmp_path / "o.yaml"
    stage = f"probe: {{image: demo-probe, port: 1, {where % text}}}"
    file.write_text(f"# settings\npipelines: {{odd: {{stages: {{{stage}}}}}}}\n")
    with pytest.raises(
        ConfigError, match=r"half a surrogate pair, or NUL.*, in line 2; leave it out"
    ):
        load(file, {}, {})


@pytest.mark.parametrize("value", ["1" + 200 * ":1", "1" + 200 * ":1" + ".5"])
def test_number_that_is_too_large_for_one_is_refused_with_its_line(
    tmp_path: Path, value: str
) -> None:
    file = tmp_path / "o.yaml"
    file.write_text(f"# settings\nstop_grace: {value}\n")
    with pytest.raises(ConfigError, match="line 2"):
        load(file, {}, {})


@pytest.mark.parametrize(
    ("value", "what", "advice"),
    [
        ("1:30", "is read as 90, to the base of 60", "write a plain number"),
        ("-1:0.5", "is read as -60.5, to the base of 60", "write a plain number"),
        *((each, BASE_8, "write the number without it") for each in ("017", "0o17", "08", "+00_1")),
    ],
)  # fmt: skip
def test_number_that_is_another_than_it_looks_is_refused_with_its_line(
    tmp_path: Path, value: str, what: str, advice: str
) -> None:
    file = tmp_path / "o.yaml"
    for setting in ("stop_grace", "unix"):
        file.write_text(f"# settings\n{setting}: {value}\n")
        with pytest.raises(ConfigError) as caught:
            load(file, {}, {})
        said = f"{setting}: {what}, in line 2; {advice}, or put text in quotes"
        assert (caught.value.problems, caught.value.path) == ([said], file)
    with pytest.raises(ConfigError, match=r"^OPERATORD_STOP_GRACE: .* in line 1; "):
        load(None, {"OPERATORD_STOP_GRACE": value}, {})
    file.write_text(f"unix: '{value}'")
    assert load(file, {}, {}).unix == value


@pytest.mark.parametrize(
    ("value", "seconds"), [("0", 0), ("0.5", 0.5), ("1_000", 1000), ("0x10", 16), ("!!int 5", 5)]
)
def test_number_that_is_what_it_looks_like_is_read(value: str, seconds: float) -> None:
    assert load(None, {"OPERATORD_STOP_GRACE": value}, {}).stop_grace == seconds


def test_text_that_would_be_something_else_without_quotes_is_told(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    for text, got in (("no", "true or false"), ("5", "a whole number"), ("1.10", "a number")):
        file.write_text(f"unix: {text}")
        with pytest.raises(ConfigError, match=rf"^unix: expected text in quotes, got {got}$"):
            load(file, {}, {})
    file.write_text("unix: 9999-99-99")
    assert load(file, {}, {}).unix == "9999-99-99"


def test_stage_is_given_what_is_written(tmp_path: Path) -> None:
    """Truth values are as the original wrote them, and what only YAML takes for one is refused."""
    file = tmp_path / "o.yaml"
    words = [
        "1:30",
        "010",
        "0o17",
        "08",
        "1.10",
        ".5",
        "0x1F",
        "1_000",
        "2024-01-01",
        "1e3",
        "<<",
        "=",
        "+1",
    ]
    env = ", ".join(f"A{place}: {word}" for place, word in enumerate(words))
    command = ", ".join([*words, "5", "yes", "true"])
    stage = "pipelines: {x: {stages: {a: {image: i, port: 1, env: {%s}, command: [%s]}}}}"
    file.write_text(stage % (f"{env}, B: 5, C: true, D: 1.5, E: 'no'", command))
    got = load(file, {}, {}).pipelines["x"].stages["a"]
    assert list(got.env.values()) == [*words, 5, True, 1.5, "no"]
    assert got.command == [*words, "5", "yes", "true"]
    file.write_text(stage % ("A: yes", ""))
    with pytest.raises(
        ConfigError, match=r"env\.A: is a truth value in YAML, in line 1; write true"
    ):
        load(file, {}, {})


def test_off_needs_no_quotes_where_it_is_one_of_the_words(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text(
        "pipelines: {stream: {stages: {probe: {late_bind: off}}}}\nsources: {rtsp: {late_bind: off}}"
    )
    config = load(file, {}, {})
    found = config.pipelines["stream"].stages["probe"].late_bind, config.sources["rtsp"].late_bind
    assert found == ("off", "off")
    file.write_text("pipelines: {stream: {stages: {probe: {late_bind: yes}}}}")
    with pytest.raises(ConfigError, match=r"late_bind: 'yes' is not one of its values; known: "):
        load(file, {}, {})


def test_key_is_a_name_however_it_looks(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text(
        "pipelines: {yes: {stages: {on: {image: i, port: 1, env: {n: 1, y: 2, no: 3}}}}, 010: 5}"
    )
    with pytest.raises(ConfigError, match=r"^pipelines\.010: "):
        load(file, {}, {})
    file.write_text(file.read_text().replace(", 010: 5", ""))
    stages = load(file, {}, {}).pipelines["yes"].stages
    assert stages["on"].env == {"n": 1, "y": 2, "no": 3}


def test_settings_are_read_again_from_a_regular_file_only(tmp_path: Path) -> None:
    """N16: a pipe would be waited for, and a daemon waits for nobody."""
    pipe, file = tmp_path / "pipe", tmp_path / "o.yaml"
    os.mkfifo(pipe)
    file.write_text("listen: 127.0.0.1:1")
    assert load(file, {}, {}, again=True).listen == "127.0.0.1:1"
    for path in (pipe, Path(os.devnull)):
        with pytest.raises(ConfigError, match="regular file") as caught:
            load(path, {}, {}, again=True)
        assert str(tmp_path) not in str(caught.value)


def test_settings_may_come_through_a_pipe_at_the_start() -> None:
    """N16: as a shell's `<(…)` is one."""
    reads, writes = os.pipe()
    with os.fdopen(reads), os.fdopen(writes, "w") as pipe:
        pipe.write("listen: 127.0.0.1:1")
        pipe.close()
        assert load(Path(f"/dev/fd/{reads}"), {}, {}).listen == "127.0.0.1:1"
    assert load(Path(os.devnull), {}, {}) == Config()


def test_file_without_an_end_is_refused() -> None:
    """N16"""
    with pytest.raises(ConfigError, match="larger than 256 KiB; write once what pipelines have in"):
        load(Path("/dev/zero"), {}, {})


def test_file_that_is_not_text_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_bytes(b"listen: \xff\xfe\n")
    for path in (file, tmp_path / "none.yaml", tmp_path):
        with pytest.raises(ConfigError) as caught:
            load(path, {}, {})
        assert caught.value.path == path
    file.write_bytes(b"# \xc3\xa4\nlisten: \xff\n")
    with pytest.raises(ConfigError, match="not UTF-8: line 2"):
        load(file, {}, {})


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_file_of_an_editor_s_other_encoding_is_told_which(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("listen: 127.0.0.1:1\n", encoding)
    name = encoding[:6].upper()
    with pytest.raises(ConfigError, match=f"the settings file is {name}; save it as UTF-8"):
        load(file, {}, {})


def test_a_byte_order_mark_before_utf_8_is_passed_over(tmp_path: Path) -> None:
    file, env_file = tmp_path / "o.yaml", tmp_path / "lab.env"
    env_file.write_text("WIDTH=64\n", "utf-8-sig")
    stage = {"env_file": [str(env_file)]}
    text = f"pipelines: {{stream: {{stages: {{probe: {json.dumps(stage)}}}}}}}\n"
    for begin in ("", "# by an editor\n", "---\n", "%YAML 1.1\n---\n"):
        file.write_text(begin + text, "utf-8-sig")
        config = with_env_files(load(file, {}, {}))
        assert config.pipelines["stream"].stages["probe"].env["WIDTH"] == "64"


def test_environment_value_that_is_not_yaml_is_named() -> None:
    with pytest.raises(ConfigError, match="OPERATORD_LISTEN"):
        load(None, {"OPERATORD_LISTEN": "["}, {})
    with pytest.raises(ConfigError, match=r"limits\.sessions"):
        load(None, {"OPERATORD_LIMITS_SESSIONS": "many"}, {})


def test_state_directory_follows_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Config().state_path == tmp_path / "operatord"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Config().state_path == Path("/var/lib/operatord")
    assert Config(state_dir="/x").state_path == Path("/x")


def test_addresses_are_taken_apart() -> None:
    assert Config(listen="[::1]:7733").address == ("::1", 7733)
    assert Config(ports="20000-20999").port_range == (20000, 20999)
    assert Config().port_range is None


def test_choice_below_the_top_level_is_named_with_what_it_may_be() -> None:
    with pytest.raises(ConfigError) as refused:
        from_dict({"log": {"level": "warn"}})
    assert "did you mean 'warning'?" in str(refused.value)
    with pytest.raises(ConfigError) as refused:
        from_dict({"pipelines": {"stream": {"reservations": "guessed"}}})
    assert "known: declared, learned" in str(refused.value)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        ({"limits": {"sesions": 3}}, "limits.sesions: unknown member; did you mean 'sessions'?"),
        (chain(memroy="1GiB"), "pipelines.x.stages.camera.memroy: unknown member; did you mean 'memory'?"),
        ({"pipelines": {"x": {"stagse": {}}}}, "pipelines.x.stagse: unknown member; did you mean 'stages'?"),
    ],
)  # fmt: skip
def test_slip_in_a_key_below_the_top_level_is_told_with_what_was_meant(
    data: dict[str, Any], sentence: str
) -> None:
    assert refused(data) == [sentence]


@pytest.mark.parametrize("number", [7733, True])
def test_address_without_a_host_is_told_what_one_looks_like(number: object) -> None:
    assert refused({"listen": number}) == ["listen: expected HOST:PORT such as 127.0.0.1:7733"]


@pytest.mark.parametrize(
    ("variable", "value", "setting"),
    [
        ("OPERATORD_LISTEN", "7733", "listen"),
        ("OPERATORD_LIMITS_SESSIONS", "many", "limits.sessions"),
        ("OPERATORD_GPUS", "[{id: '-'}]", "gpus"),
    ],
)
def test_variable_with_a_wrong_value_is_named(variable: str, value: str, setting: str) -> None:
    """N12"""
    with pytest.raises(ConfigError) as caught:
        load(SHIPPED, {variable: value, "HOME": "/"}, {})
    assert [each.startswith(f"{variable}: {setting}") for each in caught.value.problems] == [True]
    assert "quotes" not in str(caught.value), "a variable has none"
    assert caught.value.path is None


def test_what_the_command_line_says_is_no_variable_s_fault(tmp_path: Path) -> None:
    env = {"OPERATORD_LISTEN": "127.0.0.1:1", "HOME": "/"}
    with pytest.raises(ConfigError) as caught:
        load(None, env, {"listen": "7733"})
    assert caught.value.problems == [
        "listen: expected HOST:PORT such as 127.0.0.1:7733, got '7733'"
    ]


def test_file_with_a_wrong_value_is_known_to_whoever_may_hear_its_path(tmp_path: Path) -> None:
    file = tmp_path / "o.yaml"
    file.write_text("limits: {sesions: 3}\n")
    with pytest.raises(ConfigError) as caught:
        load(file, {"HOME": "/"}, {})
    assert caught.value.path == file
    assert str(file) not in str(caught.value)


def test_variables_in_small_letters_are_told() -> None:
    """N12"""
    env = {"operatord_listen": "x", "Operatord_Engine": "x", "operatord_weather": "x", "home": "/"}
    assert in_small_letters(env | {"OPERATORD_UNIX": "x"}) == [
        "Operatord_Engine",
        "operatord_listen",
    ]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("OPERATORD_LISTN", "OPERATORD_LISTEN"),
        ("OPERATORD_LIMIT_SESSIONS", "OPERATORD_LIMITS_SESSIONS"),
        ("OPERATORD_STATEDIR", "OPERATORD_STATE_DIR"),
        ("OPERATORD_CONFG", "OPERATORD_CONFIG"),
        ("OPERATORD_ADRESS", "OPERATORD_ADDRESS"),
        ("OPERATORD_PORT", "OPERATORD_PORTS"),
    ],
)
def test_slip_in_the_name_of_a_variable_is_told(name: str, meant: str) -> None:
    """N12: as in the file, before anything is started."""
    with pytest.raises(ConfigError) as caught:
        load(None, {name: "1", "HOME": "/"}, {})
    assert caught.value.problems == [f"{name}: there is no such setting; did you mean {meant}?"]
    assert not_settings({name: "1"}) == []


def test_variables_of_others_are_passed_over() -> None:
    """N12: our own that are no settings, those of an orchestrator, and what is like nothing of ours."""
    links = {
        "OPERATORD_PORT": "tcp://10.0.0.1:7733", "OPERATORD_PORT_7733_TCP": "tcp://10.0.0.1:7733",
        "OPERATORD_PORT_7733_TCP_ADDR": "10.0.0.1", "OPERATORD_SERVICE_HOST": "10.0.0.1",
    }  # fmt: skip
    ours = dict.fromkeys(OTHER_VARIABLES, "x")
    others = {"OPERATORD_WEATHER": "fine", "OPERATORS": "x", "operatord_listn": "x"}
    assert load(None, links | ours | others | {"HOME": "/"}, {}) == load(None, {"HOME": "/"}, {})
    assert not_settings(links | ours | others) == ["OPERATORD_WEATHER"]


def test_no_home_at_all_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """N4: a user whom the machine does not know, and no ``HOME``."""
    for name in ("HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 54321)
    monkeypatch.setattr("os.getuid", lambda: 54321)
    with pytest.raises(ConfigError, match=r"state_dir: there is no home directory.*--state-dir"):
        load(None, {}, {})
    assert load(None, {}, {"state_dir": "/x"}).state_path == Path("/x")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"state_dir": ""}, "state_dir: is empty; name a directory"),
        ({"state_dir": "a\0b"}, "state_dir: a path has no control characters"),
        ({"unix": "/run/a\nb"}, "unix: a path has no control characters"),
        ({"unix": "/" + "é" * 54}, "unix: the path of a socket has 107 bytes at most, and this one has 109"),
    ],
)  # fmt: skip
def test_path_that_can_be_none_is_told(data: dict[str, Any], said: str) -> None:
    """An empty one would be the directory that the daemon happens to be started in."""
    [problem] = refused(data)
    assert problem.startswith(said)
