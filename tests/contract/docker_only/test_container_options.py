# SPDX-License-Identifier: MIT
"""A container has what its stage's settings ask for, by the engine's own account and by the program's."""

from __future__ import annotations

import json
import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import msgspec
import pytest
from engine_lab import Lab

from operatord.engines.base import ImageMissing, StageRefused
from operatord.engines.options import Device, Mount, Options, Ulimit

pytestmark = pytest.mark.engine

Json = dict[str, Any]
SAME, TAKEN = "as Docker", "taken all the same"
"""What Podman makes of something that is not there: it makes an empty folder for a missing path, and runs
its own runtime whatever another is called."""
SECRET = "open sesame"
LOOKS = """
import json, os
def tried(what):
    try:
        return what()
    except OSError as exc:
        return type(exc).__name__
def written(path):
    with open(path, "x") as file:
        file.write("x")
    return "written"
def status(name):
    return next(l.split()[1:] for l in open("/proc/self/status") if l.startswith(name))
mounts = {l.split()[1]: l.split()[3].split(",") for l in open("/proc/mounts")}
print(json.dumps({
    "ids": [os.getuid(), os.getgid(), sorted(os.getgroups())],
    "root": tried(lambda: written("/srv/new")),
    "ro": tried(lambda: written("/ro/new")),
    "rw": tried(lambda: written("/rw/new")),
    "tmpfs": tried(lambda: written("/scratch/new")),
    "options": [each for each in mounts.get("/scratch", []) if each in ("noexec", "nosuid", "nodev")],
    "shm": os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize,
    "secret": tried(lambda: open("/run/secrets/token").read()),
    "secret_written": tried(lambda: open("/run/secrets/token", "a") and "written"),
    "device": tried(lambda: open("/dev/lab-zero", "rb").read(2).hex()),
    "bounding": status("CapBnd:")[0],
    "files": __import__("resource").getrlimit(7),
    "scanner": any("10.0.0.7\\tscanner" in line for line in open("/etc/hosts")),
    "first": open("/proc/1/comm").read().strip(),
}))
"""


@pytest.fixture
def client() -> Iterator[docker.APIClient]:
    found = docker.APIClient(base_url=os.environ["DOCKER_HOST"], version="auto")
    yield found
    found.close()


@pytest.fixture
def is_podman(client: docker.APIClient) -> bool:
    return any(each["Name"] == "Podman Engine" for each in client.version()["Components"])


@pytest.fixture
def volume(client: docker.APIClient) -> Iterator[str]:
    """The name of a volume that is gone afterwards."""
    name = f"operatord-test-{uuid.uuid4().hex[:8]}"
    yield name
    client.remove_volume(name, force=True)


async def looks(lab: Lab, options: Options) -> Json:
    """Return what a program sees that runs with ``options``."""
    network = await lab.network()
    command = ("python3", "-I", "-S", "-c", LOOKS)
    made = await lab.run_until_ended(network, "shows", command=command, options=options)
    [line, *_] = await lab.output(made)
    found: Json = json.loads(line.line)
    return found


async def test_program_finds_what_was_asked_for_and_nothing_else(
    volume: str, docker_lab: Lab, engine_folder: Path
) -> None:
    secret, shared = engine_folder / "token", engine_folder / "shared"
    secret.write_text(SECRET)
    secret.chmod(0o666)
    shared.mkdir()
    shared.chmod(0o777)
    options = Options(
        mounts=(
            Mount(str(shared), "/ro"),
            Mount(str(shared), "/rw", writable=True),
            Mount(volume, "/named"),
            Mount(str(secret), "/run/secrets/token"),
        ),
        tmpfs={"/scratch": "rw,noexec,nosuid,nodev,mode=1777,size=1048576"},
        shm_size=8 << 20,
        devices=(Device("/dev/zero", "/dev/lab-zero", "r"),),
        group_add=("4242",),
        user="1234:2345",
        cap_add=("NET_RAW",),
        ulimits={"nofile": Ulimit(50, 60)},
        extra_hosts=(("scanner", "10.0.0.7"),),
        init=False,
    )
    seen = await looks(docker_lab, options)
    groups = set(seen["ids"][2])
    assert (seen["ids"][:2], 4242 in groups) == ([1234, 2345], True)
    assert (seen["root"], seen["ro"], seen["rw"]) == ("OSError", "OSError", "written")
    assert (seen["tmpfs"], seen["options"]) == ("written", ["nosuid", "nodev", "noexec"])
    assert (seen["secret"], seen["secret_written"]) == (SECRET, "OSError")
    assert (seen["shm"], seen["device"]) == (8 << 20, "0000")
    assert (int(seen["bounding"], 16), seen["files"]) == (1 << 13, [50, 60])
    assert (seen["scanner"], seen["first"]) == (True, "python3")
    assert (shared / "new").read_text() == "x"


async def test_program_without_options_is_as_confined_as_ever(docker_lab: Lab) -> None:
    seen = await looks(docker_lab, Options())
    assert seen["ids"][:2] == [65534, 65534]
    assert (seen["root"], int(seen["bounding"], 16), seen["files"]) == ("OSError", 0, [4096, 4096])
    assert (seen["secret"], seen["device"]) == ("FileNotFoundError", "FileNotFoundError")


async def test_root_can_be_asked_for_with_an_image_that_can_be_written_to(docker_lab: Lab) -> None:
    seen = await looks(docker_lab, Options(user="0:0", read_only=False))
    assert (seen["ids"][:2], seen["root"], int(seen["bounding"], 16)) == ([0, 0], "written", 0)


def plain(inspected: Json) -> Json:
    """Return what an engine tells of a container, spelled one way: Podman's names are longer."""
    config, host = inspected["Config"], inspected["HostConfig"]
    stop = config.get("StopSignal")
    return {
        "caps": sorted(each.removeprefix("CAP_") for each in host.get("CapAdd") or ()),
        "devices": [(each["PathOnHost"], each["PathInContainer"]) for each in host["Devices"] or ()],
        "dns": list(host.get("Dns") or ()),
        "groups": sorted(host.get("GroupAdd") or ()),
        "health": [each for each in (config.get("Healthcheck") or {}).get("Test") or () if each != "NONE"],
        "hosts": list(host.get("ExtraHosts") or ()),
        "init": bool(host.get("Init")),
        "limits": {
            each["Name"].lower().removeprefix("rlimit_"): (each["Soft"], each["Hard"])
            for each in host["Ulimits"]
            if "nproc" not in each["Name"].lower()  # Podman's own
        },
        "mounts": sorted(
            (each["Type"], each.get("Name") or each["Source"], each["Destination"], each["RW"])
            for each in inspected["Mounts"]
        ),
        "read_only": host["ReadonlyRootfs"],
        "shm": host["ShmSize"],
        "stop": signal.Signals(int(stop)).name if str(stop).isdigit() else stop,
        "tmpfs": {path: set(each.split(",")) for path, each in host["Tmpfs"].items()},
        "user": config["User"],
    }  # fmt: skip


EVERYTHING = Options(
    tmpfs={"/run": "rw,noexec,nosuid,nodev,size=1048576"},
    shm_size=8 << 20,
    devices=(Device("/dev/zero", "/dev/lab-zero", "r"),),
    group_add=("7", "8"),
    user="1234:2345",
    read_only=False,
    cap_add=("NET_RAW", "SYS_NICE"),
    ulimits={"core": Ulimit(1, 2)},
    extra_hosts=(("scanner", "10.0.0.7"),),
    dns=("10.0.0.1",),
    health_checked=False,
    stop_signal="SIGINT",
    init=False,
)


async def test_each_option_is_in_the_engine_s_own_account(
    volume: str, client: docker.APIClient, docker_lab: Lab, engine_folder: Path
) -> None:
    platform = f"linux/{client.version()['Arch']}"
    mounts = Mount(str(engine_folder), "/m"), Mount(volume, "/v", writable=True)
    options = msgspec.structs.replace(EVERYTHING, mounts=mounts, platform=platform)
    made = await docker_lab.engine.create(
        docker_lab.plan(await docker_lab.network(), "idle", options=options)
    )
    found = plain(client.inspect_container(made))
    assert found.pop("tmpfs")["/run"] >= {"rw", "noexec", "nosuid", "nodev", "size=1048576"}
    assert found == {
        "caps": ["NET_RAW", "SYS_NICE"],
        "devices": [("/dev/zero", "/dev/lab-zero")],
        "dns": ["10.0.0.1"],
        "groups": ["7", "8"],
        "health": [],
        "hosts": ["scanner:10.0.0.7"],
        "init": False,
        "limits": {"core": (1, 2), "nofile": (4096, 4096)},
        "mounts": [("bind", str(engine_folder), "/m", False), ("volume", volume, "/v", True)],
        "read_only": False,
        "shm": 8 << 20,
        "stop": "SIGINT",
        "user": "1234:2345",
    }


async def test_runtime_can_be_named(docker_lab: Lab, client: docker.APIClient) -> None:
    runtime = client.info()["DefaultRuntime"]
    network = await docker_lab.network()
    options = Options(runtime=runtime)
    made = await docker_lab.run_until_ended(network, "ends-3", options=options)
    assert (await docker_lab.engine.inspect(made)).exit_code == 3


async def test_stage_is_stopped_by_its_own_signal(docker_lab: Lab) -> None:
    """With SIGKILL after the grace it would end with 137."""
    code = "import os, signal\nsignal.signal(2, lambda *_: os._exit(9))\nprint(1, flush=True)\nsignal.pause()"
    made = await docker_lab.run_until_ready(
        await docker_lab.network(),
        "idle",
        command=("python3", "-I", "-S", "-c", code),
        options=Options(stop_signal="SIGINT"),
    )
    await docker_lab.engine.stop(made, 30)
    assert (await docker_lab.engine.inspect(made)).exit_code == 9


async def test_anonymous_volume_goes_with_its_container(
    volume: str, client: docker.APIClient, docker_lab: Lab
) -> None:
    network = await docker_lab.network()
    image = await _image_with_a_volume(client, docker_lab.image("idle"))
    try:
        options = Options(mounts=(Mount(volume, "/named"),))
        plan = docker_lab.plan(network, "idle", image=image, options=options)
        made = await docker_lab.engine.create(plan)
        mounts = client.inspect_container(made)["Mounts"]
        [anonymous] = [each["Name"] for each in mounts if each["Destination"] == "/data"]
        await docker_lab.engine.remove(made)
        there = {each["Name"] for each in client.volumes()["Volumes"] or ()}
        assert anonymous not in there
        assert volume in there, "a named one is its owner's"
    finally:
        # By force: on busy cores Docker counts a container for a moment more that is gone already.
        client.remove_image(image, force=True)


async def _image_with_a_volume(client: docker.APIClient, image: str) -> str:
    made = client.create_container(image, ["true"])["Id"]
    try:
        name = f"operatord-test-{uuid.uuid4().hex[:8]}"
        client.commit(made, repository=name, changes="VOLUME /data")
        return name
    finally:
        client.remove_container(made, v=True)


@pytest.mark.parametrize(
    ("options", "says", "podman"),
    [
        (Options(mounts=(Mount("/run/operatord-no-such", "/m"),)), "among its volumes or secrets", TAKEN),
        (Options(devices=(Device("/dev/no-such", "/dev/x"),)), "a device of", SAME),
        (Options(user="nobody-knows"), "its image: correct `user` of the stage", SAME),
        (Options(group_add=("nobody-knows",)), "a group in `group_add`", SAME),
        (Options(runtime="no-such"), "no runtime of the name in `runtime`", TAKEN),
        (Options(platform="linux/s390x"), "is for another platform", "is not on this engine"),
    ],
)  # fmt: skip
async def test_what_is_not_there_is_said_without_paths(
    docker_lab: Lab, is_podman: bool, options: Options, says: str, podman: str
) -> None:
    network = await docker_lab.network()
    if is_podman and podman == TAKEN:
        await docker_lab.run(network, "idle", options=options)  # PROTOCOL.md says so
        return
    with pytest.raises((StageRefused, ImageMissing)) as refused:
        await docker_lab.run(network, "idle", options=options)
    assert (podman if is_podman and podman != SAME else says) in str(refused.value)
    assert "no-such" not in str(refused.value)
