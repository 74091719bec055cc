# SPDX-License-Identifier: MIT
"""What each setting of a stage's container becomes in the body of a container, and that nothing else does."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from operatord.core.pipelines import Stage
from operatord.core.units import custom
from operatord.engines.base import Network, StagePlan
from operatord.engines.docker.bodies import NOBODY, Hardening, container_body
from operatord.provision.stage_options import engine_options

Json = dict[str, Any]
TMP = "rw,noexec,nosuid,nodev,mode=1777,size=16m"
NOFILE, CORE = (
    {"Name": "nofile", "Soft": 4096, "Hard": 4096},
    {"Name": "core", "Soft": 0, "Hard": 0},
)


def body_of(settings: Json) -> Json:
    """Return the body for a stage that is configured with ``settings``."""
    stage = msgspec.convert({"image": "i", "port": 1, **settings}, Stage, dec_hook=custom)
    network = Network(id="net", name="net")
    plan = StagePlan("c", "camera", "i", network, {}, {}, 1, options=engine_options(stage))
    return container_body(plan, NOBODY, Hardening(), "none")


def added(body: Json) -> Json:
    """Return the members in which ``body`` is not that of a stage without any of these settings."""
    plain = body_of({})
    host = {k: v for k, v in body["HostConfig"].items() if plain["HostConfig"].get(k) != v}
    rest = {k: v for k, v in body.items() if k != "HostConfig" and plain.get(k) != v}
    gone = plain.keys() - body.keys() | plain["HostConfig"].keys() - body["HostConfig"].keys()
    assert not gone
    return {**rest, **({"HostConfig": host} if host else {})}


def mount(kind: str, source: str, target: str, *, ro: bool = True) -> Json:
    return {"Type": kind, "Source": source, "Target": target, "ReadOnly": ro}


def device(source: str, target: str, permissions: str) -> Json:
    return {
        "PathOnHost": source,
        "PathInContainer": target,
        "CgroupPermissions": permissions,
    }


HOST: list[tuple[Json, Json]] = [
    ({"volumes": ["/srv/m:/m"]}, {"Mounts": [mount("bind", "/srv/m", "/m")]}),
    ({"volumes": ["/srv/m:/m:ro"]}, {"Mounts": [mount("bind", "/srv/m", "/m")]}),
    ({"volumes": ["m:/m:rw"]}, {"Mounts": [mount("volume", "m", "/m", ro=False)]}),
    (
        {"volumes": ["cache:/tmp:rw"]},
        {"Mounts": [mount("volume", "cache", "/tmp", ro=False)], "Tmpfs": {}},
    ),
    ({"tmpfs": ["/run"]}, {"Tmpfs": {"/tmp": TMP, "/run": "rw,noexec,nosuid,nodev"}}),
    (
        {"tmpfs": ["/tmp:size=64m,mode=700,uid=7,exec"]},
        {"Tmpfs": {"/tmp": "rw,nosuid,nodev,mode=700,uid=7,exec,size=67108864"}},
    ),
    ({"tmpfs": ["/a:size=1MiB,ro"]}, {"Tmpfs": {"/tmp": TMP, "/a": "noexec,nosuid,nodev,ro,size=1048576"}}),
    ({"shm_size": "128MiB"}, {"ShmSize": 128 << 20}),
    ({"devices": ["/dev/video0"]}, {"Devices": [device("/dev/video0", "/dev/video0", "rw")]}),
    ({"devices": ["/dev/a:/dev/b:rwm"]}, {"Devices": [device("/dev/a", "/dev/b", "rwm")]}),
    ({"group_add": ["video", 44]}, {"GroupAdd": ["video", "44"]}),
    ({"read_only": False}, {"ReadonlyRootfs": False}),
    ({"cap_add": ["SYS_NICE", "cap_net_raw"]}, {"CapAdd": ["SYS_NICE", "NET_RAW"]}),
    (
        {"ulimits": {"memlock": -1, "nofile": {"soft": 10, "hard": 20}}},
        {"Ulimits": [
            {"Name": "nofile", "Soft": 10, "Hard": 20}, CORE, {"Name": "memlock", "Soft": -1, "Hard": -1},
        ]},
    ),
    (
        {"extra_hosts": ["scanner:10.0.0.7", "six=[::1]", "here:host-gateway"]},
        {"ExtraHosts": ["scanner:10.0.0.7", "six:::1", "here:host-gateway"]},
    ),
    ({"dns": ["10.0.0.1"]}, {"Dns": ["10.0.0.1"]}),
    (
        {"secrets": {"token": "/etc/lab/token"}},
        {"Mounts": [mount("bind", "/etc/lab/token", "/run/secrets/token")]},
    ),
    ({"init": False}, {"Init": False}),
    ({"runtime": "runsc"}, {"Runtime": "runsc"}),
]  # fmt: skip
OTHER: list[tuple[Json, Json]] = [
    ({"user": "1000:1000"}, {"User": "1000:1000"}),
    ({"user": 1000}, {"User": "1000"}),
    ({"user": "root"}, {"User": "root"}),
    ({"healthcheck": "off"}, {"Healthcheck": {"Test": ["NONE"]}}),
    ({"healthcheck": False}, {"Healthcheck": {"Test": ["NONE"]}}),
    ({"stop_signal": "SIGINT"}, {"StopSignal": "SIGINT"}),
]
AS_EVER: list[Json] = [
    {}, {"volumes": []}, {"read_only": True}, {"init": True}, {"secrets": {}}, {"ulimits": {}},
]  # fmt: skip


@pytest.mark.parametrize(("settings", "host"), HOST)
def test_setting_of_the_host_s_becomes_one_member(settings: Json, host: Json) -> None:
    assert added(body_of(settings)) == {"HostConfig": host}


@pytest.mark.parametrize(("settings", "members"), OTHER)
def test_other_setting_becomes_one_member(settings: Json, members: Json) -> None:
    assert added(body_of(settings)) == members


@pytest.mark.parametrize("settings", AS_EVER)
def test_what_asks_for_nothing_changes_nothing(settings: Json) -> None:
    assert added(body_of(settings)) == {}
    assert body_of(settings)["HostConfig"]["Ulimits"] == [NOFILE, CORE]


def test_everything_at_once_takes_no_hardening_away_that_was_not_named() -> None:
    host = body_of({k: v for each, _ in HOST + OTHER for k, v in each.items()})["HostConfig"]
    assert (host["CapDrop"], host["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
    assert (host["IpcMode"], host["RestartPolicy"]) == ("private", {"Name": "no"})
    assert not host.keys() & {"Privileged", "Binds", "PidMode", "UsernsMode"}


def test_platform_is_asked_for_beside_the_body() -> None:
    options = engine_options(Stage(image="i", port=1, platform="linux/arm64"))
    assert options.platform == "linux/arm64"
    assert added(body_of({"platform": "linux/arm64"})) == {}
