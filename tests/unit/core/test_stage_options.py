# SPDX-License-Identifier: MIT
# ruff: noqa: E501  # sentences stand in one line, as they are said
"""What a stage's image may be given: the forms that are taken, and what is said of all others."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import yaml

from operatord.core import stage_forms as forms
from operatord.core.pipelines import Pipeline, Stage, problems, warnings
from operatord.core.plans import SessionPlan
from operatord.core.units import custom, plain
from operatord.settings.config import ConfigError
from operatord.settings.loading import from_dict

OWNS = "whoever runs in this stage owns the machine"
SOCKET = f"this is the socket of a container engine, ro or not, so {OWNS}"


def stage_with(text: str) -> Stage:
    settings: dict[str, Any] = yaml.safe_load(text) or {}
    return msgspec.convert({"image": "i", "port": 1, **settings}, Stage, dec_hook=custom)


def pipeline_with(text: str, **settings: Any) -> Pipeline:
    other = Stage(image="i", port=2)
    return Pipeline(stages={"camera": stage_with(text), "other": other}, **settings)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("volumes: [/srv/m]", "volumes[0]: expected SOURCE:TARGET such as /srv/models:/models, or models:/models:rw, got '/srv/m'"),
        ("volumes: [./m:/m]", "volumes[0]: a path of the engine's machine is absolute, and './m' is not"),
        ("volumes: ['~/m:/m']", "volumes[0]: a path of the engine's machine is absolute, and '~/m' is not"),
        ("volumes: [/srv/m:m]", "volumes[0]: a path in the container is absolute, and 'm' is not"),
        ("volumes: [/srv/../m:/m]", "volumes[0]: a path of the engine's machine is written without . and .. and needless slashes, and '/srv/../m' is not"),
        ("volumes: [m://m]", "volumes[0]: a path in the container is written without . and .. and needless slashes, and '//m' is not"),
        ("volumes: [/srv/m:/]", "volumes[0]: nothing can be mounted at /; choose another path in the container"),
        ("volumes: [/srv/m:/proc/m]", "volumes[0]: nothing can be mounted at /proc/m; choose another path in the container"),
        ("volumes: [m:/m:z]", "volumes[0]: after the target only ro or rw is possible, not 'z'"),
        ("volumes: ['m:/m:rw,z']", "volumes[0]: after the target only ro or rw is possible, not 'rw,z'"),
        ('volumes: ["m:/m\\n"]', "volumes[0]: a path in the container has no control characters, and '/m\\n' has one"),
        ("volumes: [a:/m, b:/m]", "two things are mounted at /m in the container"),
        ("{volumes: [a:/run/secrets/t], secrets: {t: /t}}", "two things are mounted at /run/secrets/t in the container"),
        ("{volumes: [a:/m], tmpfs: [/m]}", "two things are mounted at /m in the container"),
        ("tmpfs: [run]", "tmpfs[0]: a path in the container is absolute, and 'run' is not"),
        ("tmpfs: ['/run:sise=1m']", "tmpfs[0]: expected TARGET:size=64m,mode=1777, and 'sise=1m' is not an option; did you mean 'size'?"),
        ("tmpfs: ['/run:mode=9']", "tmpfs[0]: expected TARGET:size=64m,mode=1777, and 'mode=9' is not an option"),
        ("tmpfs: ['/run:size=1g']", "tmpfs[0]: 1073741824 bytes, and with what is in it the stage is killed at 268435456; raise memory_limit"),
        ("shm_size: 1GiB", "shm_size: 1073741824 bytes, and with what is in /dev/shm the stage is killed at 268435456; raise memory_limit"),
        ("shm_size: 0", "shm_size: must be more than 0"),
        ("devices: [nvidia.com/gpu=all]", "devices[0]: a device is a path such as /dev/video0, and 'nvidia.com/gpu=all' is not one; for graphics cards, use gpus"),
        ("devices: [/dev/a:/dev/a:rr]", "devices[0]: permissions are some of r, w and m, such as rw, not 'rr'"),
        ("devices: [/dev/a, /dev/b:/dev/a]", "devices: two of them are /dev/a in the container"),
        ("group_add: [a b]", "group_add[0]: expected a name or a number such as 1000, got 'a b'"),
        ("user: 'a:b:c'", "user: expected a name or number, and maybe a group's, such as 1000:1000, got 'a:b:c'"),
        ("user: -1", "user: expected a name or number, and maybe a group's, such as 1000:1000, got -1"),
        ("cap_add: [NET_RAWS]", "cap_add[0]: there is no capability 'NET_RAWS'; did you mean 'NET_RAW'?"),
        ("ulimits: {nofiles: 3}", "ulimits: there is no limit 'nofiles'; did you mean 'nofile'?"),
        ("ulimits: {nofile: {soft: -1, hard: 3}}", "ulimits.nofile: soft (-1) is more than hard (3)"),
        ("extra_hosts: [scanner]", "extra_hosts[0]: expected NAME:ADDRESS such as scanner:10.0.0.7, got 'scanner'"),
        ("extra_hosts: [a:10.0.0.1, a:10.0.0.2]", "extra_hosts: a has two addresses"),
        ("extra_hosts: [a:b]", "extra_hosts[0]: expected an address such as 10.0.0.7, got 'b'"),
        ("dns: [ns1]", "dns[0]: expected an address such as 10.0.0.7, got 'ns1'"),
        ("secrets: {t: t.txt}", "secrets.t: a path of the engine's machine is absolute, and 't.txt' is not"),
        ("env_file: [lab.env]", "env_file[0]: a path of the daemon's machine is absolute, and 'lab.env' is not"),
        ("healthcheck: true", "healthcheck: expected off; leave it out, and the image's own check is run"),
        ("stop_signal: INT", "stop_signal: there is no signal 'INT'; did you mean 'SIGINT'?"),
        ("runtime: a b", "runtime: expected the name of a runtime such as runsc, got 'a b'"),
        ("platform: arm64", "platform: expected OS/ARCHITECTURE such as linux/arm64, got 'arm64'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_one_sentence(text: str, sentence: str) -> None:
    [problem] = problems("x", Pipeline(stages={"camera": stage_with(text)}))
    assert problem.removeprefix("pipelines.x.stages.camera").lstrip(".: ") == sentence


@pytest.mark.parametrize(
    ("written", "meant"),
    [("volume", "volumes"), ("device", "devices"), ("readonly", "read_only"), ("secret", "secrets")],
)  # fmt: skip
def test_name_that_is_nearly_right_is_answered_with_the_right_one(written: str, meant: str) -> None:
    stage = {"image": "i", "port": 1, written: []}
    with pytest.raises(ConfigError) as refused:
        from_dict({"pipelines": {"x": {"stages": {"camera": stage}}}})
    [problem] = refused.value.problems
    assert problem == (
        f"pipelines.x.stages.camera.{written}: unknown member; did you mean '{meant}'?"
    )


@pytest.mark.parametrize("text", ["dns: [10.0.0.1]", "extra_hosts: [scanner:10.0.0.7]"])
def test_stage_with_names_of_its_own_shares_no_namespace(text: str) -> None:
    assert pipeline_with(text).namespaces == "separate"
    assert problems("x", pipeline_with(text)) == []
    assert problems("x", pipeline_with(text, network="shared")) == [
        "pipelines.x: with network: shared every stage needs a port of its own, and none may have "
        "extra_hosts or dns"
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("volumes: [/var/run/docker.sock:/s]", [f"volumes[0]: {SOCKET}"]),
        ("volumes: [m:/m, /run/podman/podman.sock:/s:rw]", [f"volumes[1]: {SOCKET}"]),
        ("volumes: [/etc:/e:rw]", [f"volumes[0]: /etc of the machine can be written to, so {OWNS}"]),
        ("volumes: [/usr/local/bin:/e:rw]", [f"volumes[0]: /usr/local/bin of the machine can be written to, so {OWNS}"]),
        ("volumes: [/run:/r]", [f"volumes[0]: the socket of the container engine may be below /run, ro or not, so {OWNS}"]),
        ("secrets: {s: /run/docker.sock}", [f"secrets.s: {SOCKET}"]),
        ("devices: [/dev/video0, /dev/sda1]", ["devices[1]: this is memory or a disk of the machine, which root in this stage then owns"]),
        ("devices: [/dev/mem]", ["devices[0]: this is memory or a disk of the machine, which root in this stage then owns"]),
        ("volumes: [/etc:/e, /srv/m:/m:rw, /etcetera:/t:rw, usr:/u:rw]", []),
        ("{cap_add: [SYS_MODULE], user: root}", [f"cap_add: with SYS_MODULE, {OWNS}"]),
        ("cap_add: [KILL]", ["cap_add: Docker gives capabilities to root only; set user: root, too, if the image needs them"]),
        ("{cap_add: [KILL], user: '0:7'}", []),
        ("{cap_add: [KILL, net_raw], user: '0:7'}", ["cap_add: with NET_RAW this stage can send packets outside, though no stage has egress: lan"]),
        ("{cap_add: [NET_ADMIN], user: '0:7', egress: lan}", []),
        ("dns: [10.0.0.1]", ["dns: nothing outside the session is reached, as no stage has egress: lan"]),
        ("extra_hosts: [scanner:10.0.0.7]", ["extra_hosts: nothing outside the session is reached, as no stage has egress: lan"]),
        ("{dns: [10.0.0.1], extra_hosts: [scanner:10.0.0.7], egress: lan}", []),
        ("egress: none", []),
        ("stop_signal: SIGINT", []),
        ("stop_signal: SIGUSR1", ["stop_signal: the program must end itself at SIGUSR1: what does not is killed after stop_grace"]),
    ],
)  # fmt: skip
def test_what_may_not_be_meant_is_a_warning(text: str, sentences: list[str]) -> None:
    assert problems("x", pipeline_with(text)) == []
    found = warnings("x", pipeline_with(text))
    assert [each.removeprefix("pipelines.x.stages.camera.") for each in found] == sentences


def test_one_stage_opens_the_network_for_all() -> None:
    stages = {
        "camera": stage_with("egress: lan"),
        "stream": stage_with("{port: 2, egress: none}"),
        "last": stage_with("port: 3"),
    }
    pipeline = Pipeline(stages=stages)
    assert pipeline.reaches_out
    assert warnings("x", pipeline) == [
        "pipelines.x.stages.stream.egress: another stage has lan, and the network of a session is open for all"
    ]
    assert warnings("x", pipeline, local=True) == []
    assert not Pipeline(stages=stages | {"camera": stage_with("egress: none")}).reaches_out


EACH = [
    "volumes: [m:/m]", "volumes: [m:/m:rw]", "tmpfs: [/run]", "shm_size: 64MiB", "devices: [/dev/a]",
    "group_add: [7]", "user: 7", "read_only: false", "cap_add: [KILL]", "ulimits: {core: 1}",
    "extra_hosts: [a:10.0.0.1]", "dns: [10.0.0.1]", "secrets: {t: /t}", "env_file: [/e]", "healthcheck: off",
    "stop_signal: SIGINT", "init: false", "runtime: runsc", "platform: linux/arm64",
    "egress: lan", "egress: none", "pull: missing", "pull: never",
]  # fmt: skip


def test_each_setting_makes_another_stage_and_another_plan() -> None:
    """So a slot that was made before a reload is not claimed after it."""
    stages = [stage_with(text) for text in ("{}", *EACH)]
    plans = [SessionPlan("x", "shared", {"camera": stage}, {}, "json") for stage in stages]
    assert len({plan.digest() for plan in plans}) == len(stages)
    assert all(one != other for one in stages for other in stages if one is not other)


def test_stage_that_asks_for_nothing_is_written_down_as_before() -> None:
    """Rows of sessions that an earlier version has made stay the same, and so do the hashes of their plans."""
    names = set(msgspec.to_builtins(Stage(image="i", port=1), enc_hook=plain))
    assert not names & {text.partition(":")[0] for text in EACH}


def test_stage_survives_being_written_down() -> None:
    for text in EACH:
        stage = stage_with(text)
        row = msgspec.json.encode(stage, enc_hook=plain)
        assert msgspec.json.decode(row, type=Stage, dec_hook=custom) == stage


def test_sizes_are_written_as_mount_has_them_or_as_settings_do() -> None:
    sizes = [forms.memory_files(f"/a:size={each}").size for each in ("7", "2k", "3M", "4MiB")]
    assert sizes == [7, 2 << 10, 3 << 20, 4 << 20]


def test_variables_are_read_as_they_are_written() -> None:
    text = """# a comment, and a blank line

export first=1
second= two words\t# no comment
  third="quoted # {stream.host} $first"
fourth='it is'
fifth=
sixth="half
first=again\r
"""
    assert forms.variables(text) == {
        "first": "again",
        "second": " two words\t# no comment",
        "third": "quoted # {stream.host} $first",
        "fourth": "it is",
        "fifth": "",
        "sixth": '"half',
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a=1\nsesame", "line 2 is not NAME=VALUE"),
        ("1a=sesame", "line 1 is not NAME=VALUE"),
        ("a =sesame", "line 1 is not NAME=VALUE"),
        ("a=ses\x00ame", "line 1 has a control character"),
        ("\na=ses\rame", "line 2 has a control character"),
    ],
)
def test_line_that_is_no_variable_is_named_and_not_quoted(text: str, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        forms.variables(text)
    assert str(refused.value) == says
