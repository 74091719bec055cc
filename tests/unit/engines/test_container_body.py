# SPDX-License-Identifier: MIT
"""The whole of what the Docker Engine is asked to create for a stage: nothing is there by chance."""

from __future__ import annotations

from typing import Any

import pytest

from operatord.engines.base import SHIM, Network, NetworkPlan, Publish, StagePlan
from operatord.engines.docker.bodies import (
    NOBODY,
    Hardening,
    at_home,
    behind_shim,
    container_body,
    engine_event,
    has_command,
    is_podman,
)
from operatord.engines.docker.values.cpu_weight import Conversion
from operatord.engines.docker.values.networks import network_body
from operatord.engines.options import Options

MIB = 1024**2
LABELS = {"operatord.instance": "i", "operatord.session": "s"}
ULIMITS = [
    {"Name": "nofile", "Soft": 4096, "Hard": 4096},
    {"Name": "core", "Soft": 0, "Hard": 0},
]
PLAIN = {
    "Image": "demo-stream",
    "Env": ["stream_port=12346", "plain_stream=True"],
    "Labels": LABELS,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "StopTimeout": 1,
    "User": "65534:65534",
    "NetworkingConfig": {"EndpointsConfig": {"net-id": {"Aliases": ["stream"]}}},
    "HostConfig": {
        "NetworkMode": "net-id",
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "ReadonlyRootfs": True,
        "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=16m"},
        "IpcMode": "private",
        "Init": True,
        "PidsLimit": 64,
        "CpuShares": 256,
        "Memory": 96 * MIB,
        "MemorySwap": 96 * MIB,
        "Ulimits": ULIMITS,
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "RestartPolicy": {"Name": "no"},
    },
}


def plan(**changes: Any) -> StagePlan:
    """Return the plan of a streaming server, with changes."""
    members: dict[str, Any] = {
        "name": "network_E6647_stream",
        "stage": "stream",
        "image": "demo-stream",
        "network": Network(id="net-id", name="network_E6647"),
        "env": {"stream_port": "12346", "plain_stream": "True"},
        "labels": LABELS,
        "port": 12346,
        "aliases": ("stream",),
        "cpus": 0.25,
        "memory": 96 * MIB,
        "pids": 64,
    }
    return StagePlan(**(members | changes))


def changed(expected: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a body with members changed, those of its `HostConfig` too; None takes one away."""
    host = changes.pop("HostConfig", {})
    body = {**expected, "HostConfig": {**expected["HostConfig"], **host}, **changes}
    return {key: value for key, value in body.items() if value is not None}


def test_the_whole_body_of_a_stage() -> None:
    """S12: hardened, limited, on its own network, and nothing else."""
    assert container_body(plan(), NOBODY, Hardening(), "none") == PLAIN


PUBLISHED = {"ExposedPorts": {"12346/tcp": {}}}
EVERYTHING = {
    "cpu_limit": 0.5,
    "memory_reservation": 32 * MIB,
    "gpus": ("GPU-1", "3"),
    "command": ("serve", "--fast"),
    "stdin": True,
    "publish": Publish("127.0.0.1", (20000, 20010)),
    "publish_port": 12347,
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a port of the engine's choice": (
        {"publish": Publish("127.0.0.1")},
        {**PUBLISHED, "HostConfig": {
            "PortBindings": {"12346/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}
        }},
    ),
    "one certain port": (
        {"publish": Publish("192.0.2.1", (80, 80))},
        {**PUBLISHED, "HostConfig": {
            "PortBindings": {"12346/tcp": [{"HostIp": "192.0.2.1", "HostPort": "80"}]}
        }},
    ),
    "another stage's network namespace": (
        {"join": "network_E6647_segmentation"},
        {"NetworkingConfig": None,
         "HostConfig": {"NetworkMode": "container:network_E6647_segmentation"}},
    ),
    "a network that it is connected to later": (
        {"connect_later": True},
        {"NetworkingConfig": None, "HostConfig": {"NetworkMode": "none"}},
    ),
    "less memory for sure than an engine takes": (
        {"memory_reservation": MIB},
        {"HostConfig": {"MemoryReservation": 6 * MIB}},
    ),
    "more memory for sure than it may have": (
        {"memory_reservation": 97 * MIB},
        {"HostConfig": {"MemoryReservation": 96 * MIB}},
    ),
    "everything that can be asked for": (
        EVERYTHING,
        {
            "Cmd": ["serve", "--fast"],
            "OpenStdin": True,
            "ExposedPorts": {"12347/tcp": {}},
            "HostConfig": {
                "NanoCpus": 500_000_000,
                "MemoryReservation": 32 * MIB,
                "DeviceRequests": [
                    {"Driver": "nvidia", "DeviceIDs": ["GPU-1", "3"], "Capabilities": [["gpu"]]}
                ],
                "PortBindings": {
                    "12347/tcp": [{"HostIp": "127.0.0.1", "HostPort": "20000-20010"}]
                },
            },
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_else_a_plan_asks_for_is_added_and_nothing_goes(case: str) -> None:
    """S12: the whole body again, whatever the plan."""
    asked, added = CASES[case]
    assert container_body(plan(**asked), NOBODY, Hardening(), "none") == changed(PLAIN, **added)


@pytest.mark.parametrize(("converted", "shares"), [("linear", 644), ("quadratic", 166)])
def test_cores_are_asked_for_in_what_the_runtime_makes_the_right_weight_of(
    converted: Conversion, shares: int
) -> None:
    """E6: a quarter of a core is a weight of 25."""
    expected = changed(PLAIN, HostConfig={"CpuShares": shares})
    assert container_body(plan(), NOBODY, Hardening(), converted) == expected


def test_image_with_a_user_of_its_own_keeps_it() -> None:
    """S12: nobody's rights are for images that would run as root."""
    assert container_body(plan(), None, Hardening(), "none") == changed(PLAIN, User=None)


@pytest.mark.parametrize("user", ["", "0:0", "root", "nobody", "65534:65534"])
def test_nobody_has_a_home_that_can_be_written(user: str) -> None:
    """F23: libraries keep their caches there, and nobody's own home does not exist."""
    found = at_home({"Config": {"User": user, "Env": ["PATH=/bin"]}}, plan())
    assert dict(found.env) == {"HOME": "/tmp", **plan().env}


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        ({"User": "app"}, {}),
        ({"User": "", "Env": ["HOME=/models"]}, {}),
        ({"User": ""}, {"env": {"HOME": "/scratch"}}),
        ({"User": ""}, {"options": Options(user="1000:1000")}),
    ],
)
def test_home_that_is_somebodys_stays(config: dict[str, Any], changes: dict[str, Any]) -> None:
    """F23."""
    assert at_home({"Config": config}, plan(**changes)) == plan(**changes)


@pytest.mark.parametrize("driver", ["json-file", "local", "none"])
def test_each_part_of_the_hardening_is_where_it_belongs(driver: str) -> None:
    """S12: and a log driver that takes no options is given none."""
    hardening = Hardening(
        init=False, log_driver=driver, log_size="5m", log_files=7, tmp_size="1m", open_files=99
    )
    options = {} if driver == "none" else {"max-size": "5m", "max-file": "7"}
    expected = changed(
        PLAIN,
        HostConfig={
            "Init": False,
            "Tmpfs": {"/tmp": "rw,noexec,nosuid,nodev,mode=1777,size=1m"},
            "Ulimits": [{"Name": "nofile", "Soft": 99, "Hard": 99}, ULIMITS[1]],
            "LogConfig": {"Type": driver, "Config": options},
        },
    )
    assert container_body(plan(), NOBODY, hardening, "none") == expected


def test_stage_has_a_command_of_its_plan_or_its_image() -> None:
    assert has_command({"Config": {"Cmd": ["serve.py"]}}, plan(command=()))
    assert has_command({"Config": {"Cmd": None}}, plan(command=("serve.py",)))
    assert has_command({}, plan(command=())), "nothing is known of it"
    assert not has_command({"Config": {"Cmd": None, "Entrypoint": []}}, plan(command=()))


def test_podman_is_known_by_its_component() -> None:
    assert is_podman({"Components": [{"Name": "Podman Engine"}, {"Name": "Conmon"}]})
    assert not is_podman({"Components": [{"Name": "Engine"}]})
    assert not is_podman({})


@pytest.mark.parametrize(("action", "kind"), [("restart", "stopped"), ("remove", "removed")])
def test_events_as_podman_calls_them_are_hints(action: str, kind: str) -> None:
    line = (
        f'{{"Type":"container","Action":"{action}","Actor":'
        '{"ID":"a","Attributes":{"operatord.instance":"i"}}}'
    )
    event = engine_event(line, "i")
    assert event is not None
    assert event.kind == kind


def test_shim_stands_before_what_the_image_runs() -> None:
    """S12: the image's own program, or the plan's command, comes behind it."""
    image = {"Config": {"Entrypoint": ["python3", "-u"], "Cmd": ["serve.py"]}}
    shim = ["sh", "-c", SHIM, "operatord-shim"]
    own = {"Entrypoint": shim, "Cmd": ["python3", "-u", "serve.py"]}
    assert behind_shim(image, ()) == own
    assert behind_shim(image, ("other.py",)) == {**own, "Cmd": ["python3", "-u", "other.py"]}
    assert behind_shim({}, ()) == {"Entrypoint": shim, "Cmd": []}


def test_the_whole_body_of_a_network() -> None:
    """S12: a bridge with the addresses of the plan, whose name need not be unique."""
    assert network_body(NetworkPlan("network_E6647", "10.213.0.16/28", LABELS)) == {
        "name": "network_E6647",
        "driver": "bridge",
        "ipam": {
            "Driver": "default",
            "Config": [{"Subnet": "10.213.0.16/28", "Gateway": "10.213.0.17"}],
        },
        "labels": LABELS,
        "check_duplicate": False,
    }
