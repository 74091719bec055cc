# SPDX-License-Identifier: MIT
"""What a stage's image may need beyond a processor and memory, under the names that Compose has for it.

All of it is off unless an operator of the machine has written it into the configuration: a client can neither
ask for it nor read it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from operatord_protocol.absent import given
from operatord_protocol.checking import suggestion

from . import stage_forms as forms
from .units import Bytes

SECRETS = "/run/secrets"
"""Where secrets are in a container."""
_CAPABILITIES = (
    "AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN",
    "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE",
    "LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_BROADCAST",
    "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN", "SYS_BOOT",
    "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO", "SYS_RESOURCE",
    "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM",
)  # fmt: skip
_OWNING = ("BPF", "DAC_READ_SEARCH", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO")
"""With one of these, root in a container finds a way out of it."""
_LEAVING = ("NET_ADMIN", "NET_RAW", "SYS_ADMIN")
"""With one of these, a program can change its network, or write packets past it."""
_ULIMITS = (
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss",
    "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip
_ENDING = ("SIGINT", "SIGQUIT", "SIGTERM", "SIGKILL")
"""Signals that are meant to end a program."""
_SIGNALS = (
    "SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGWINCH", "SIGRTMIN+3",
)  # fmt: skip
_ENGINE_SOCKETS = ("docker.sock", "podman.sock", "containerd.sock", "crio.sock")
_HAVE_SOCKETS = ("/", "/run", "/var", "/var/run")
"""Folders in or below which such sockets usually are; a folder that is read-only has them all the same."""
_OWNING_PATHS = (
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/root", "/sbin", "/sys", "/usr",
    "/var/lib/containers", "/var/lib/docker", "/var/spool/cron",
)  # fmt: skip
"""Whoever can write there, or below, owns the machine."""
_OWNING_DEVICES = re.compile(
    r"/dev/(k?mem|port|(sd|hd|vd|xvd)[a-z]+\d*|nvme\d.*|dm-\d+|mapper/.+)\Z"
)
"""Memory and disks of the machine."""
_AS_IN_CONTAINERS = ("env_file", "egress", "pull")
"""What holds for a local process, too, or says nothing of it: it has a way out, and no image to pull."""
_MISSED = ("volumes", "secrets", "user", "extra_hosts", "dns")
"""What a program cannot do without, if it is asked for."""

Text = Annotated[str, Meta(min_length=1, max_length=4096)]
Several = Annotated[list[Text], Meta(max_length=64)]
Limit = Annotated[int, Meta(ge=-1, le=2**63 - 1)]
SecretName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z",
        description="up to 64 letters, digits, _, . and -, and neither . nor - first",
    ),
]


class SoftHard(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A limit that a program may raise up to another one."""

    soft: Limit
    hard: Limit


class StageOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings; what is left out stays as hardened as it is for every stage."""

    volumes: Several | UnsetType = UNSET
    tmpfs: Several | UnsetType = UNSET
    shm_size: Bytes | UnsetType = UNSET
    devices: Several | UnsetType = UNSET
    group_add: Annotated[list[Text | int], Meta(max_length=64)] | UnsetType = UNSET
    user: Text | int | UnsetType = UNSET
    read_only: bool | UnsetType = UNSET
    cap_add: Several | UnsetType = UNSET
    ulimits: dict[str, Limit | SoftHard] | UnsetType = UNSET
    extra_hosts: Several | UnsetType = UNSET
    dns: Several | UnsetType = UNSET
    secrets: dict[SecretName, Text] | UnsetType = UNSET
    env_file: Several | UnsetType = UNSET
    """Files whose variables are read with the settings, and stand below ``env``."""
    healthcheck: Literal["off"] | bool | UnsetType = UNSET
    """``off``, which YAML reads as false as well; see `runs_health_check`."""
    stop_signal: Text | UnsetType = UNSET
    init: bool | UnsetType = UNSET
    runtime: Text | UnsetType = UNSET
    platform: Text | UnsetType = UNSET
    egress: Literal["none", "lan"] | UnsetType = UNSET
    """``lan``: it connects to the outside, so its session's network needs a way out."""

    pull: Literal["never", "missing"] | UnsetType = UNSET
    """``missing``: an image that is not on the engine is pulled from its registry."""

    @property
    def is_pulled(self) -> bool:
        """Whether an image that is missing is pulled."""
        return given(self.pull) == "missing"

    @property
    def runs_health_check(self) -> bool:
        """Whether the health check of the image, if it has one, is run."""
        return self.healthcheck is UNSET

    @property
    def needs_own_network(self) -> bool:
        """Whether it cannot share a network namespace, whose names and name servers are its owner's."""
        return bool(given(self.extra_hosts) or given(self.dns))

    @property
    def reaches_out(self) -> bool:
        """Whether it needs a way out of the session's network."""
        return given(self.egress) == "lan"


def capability(name: str) -> str:
    """Return its name as an engine has it. Raises `ValueError`."""
    short = name.upper().removeprefix("CAP_")
    if short not in _CAPABILITIES:
        raise ValueError(f"there is no capability {name!r}{suggestion(short, _CAPABILITIES)}")
    return short


def option_problems(where: str, options: StageOptions, most_memory: int) -> list[str]:
    """Return a sentence for each thing that cannot be; ``most_memory`` is in bytes."""
    found = [
        *_form_problems(where, options),
        *_ulimit_problems(f"{where}.ulimits", given(options.ulimits, {})),
        *_memory_problems(where, options, most_memory),
        *_name_problems(where, options),
    ]
    return found or _twice(where, options)


def _form_problems(where: str, options: StageOptions) -> Iterator[str]:
    readers: dict[str, Callable[[Any], object]] = {
        "volumes": forms.volume,
        "tmpfs": forms.memory_files,
        "devices": forms.device,
        "group_add": forms.account,
        "cap_add": capability,
        "extra_hosts": forms.extra_host,
        "dns": forms.address,
        "env_file": forms.on_this_machine,
    }
    for name, read in readers.items():
        for place, each in enumerate(given(getattr(options, name), [])):
            yield from _problem(f"{where}.{name}[{place}]", read, each)
    for name, path in given(options.secrets, {}).items():
        yield from _problem(f"{where}.secrets.{name}", forms.on_machine, path)
    if (user := given(options.user)) is not None:
        yield from _problem(f"{where}.user", forms.user, user)


def _problem(where: str, read: Callable[[Any], object], value: object) -> Iterator[str]:
    try:
        read(value)
    except ValueError as exc:
        yield f"{where}: {exc}"


def _ulimit_problems(where: str, limits: dict[str, int | SoftHard]) -> Iterator[str]:
    for name, limit in limits.items():
        if name not in _ULIMITS:
            yield f"{where}: there is no limit {name!r}{suggestion(name, _ULIMITS)}"
        if isinstance(limit, SoftHard) and _is_more(limit.soft, limit.hard):
            yield f"{where}.{name}: soft ({limit.soft}) is more than hard ({limit.hard})"


def _is_more(soft: int, hard: int) -> bool:
    return hard != -1 and (soft == -1 or soft > hard)


def _memory_problems(where: str, options: StageOptions, most: int) -> Iterator[str]:
    """Files in memory count as memory of the stage."""
    if (shm := given(options.shm_size)) is not None and not 0 < shm <= most:
        yield (
            f"{where}.shm_size: {shm} bytes, and with what is in /dev/shm the stage is killed at {most}; "
            "raise memory_limit"
            if shm
            else f"{where}.shm_size: must be more than 0"
        )
    for place, text in enumerate(given(options.tmpfs, [])):
        size = _size_of(text)
        if size is not None and size > most:
            yield (
                f"{where}.tmpfs[{place}]: {size} bytes, and with what is in it the stage is killed at "
                f"{most}; raise memory_limit"
            )


def _size_of(text: str) -> int | None:
    try:
        return forms.memory_files(text).size
    except ValueError:
        return None


def _name_problems(where: str, options: StageOptions) -> Iterator[str]:
    signal = given(options.stop_signal)
    if signal is not None and signal not in _SIGNALS:
        yield f"{where}.stop_signal: there is no signal {signal!r}{suggestion(signal, _SIGNALS)}"
    if options.healthcheck is True:
        yield f"{where}.healthcheck: expected off; leave it out, and the image's own check is run"
    runtime, platform = given(options.runtime), given(options.platform)
    if runtime is not None and not _is_word(runtime, "/_.-"):
        yield f"{where}.runtime: expected the name of a runtime such as runsc, got {runtime!r}"
    if platform is not None and (
        not _is_word(platform, "/_-") or platform.count("/") not in (1, 2)
    ):
        yield f"{where}.platform: expected OS/ARCHITECTURE such as linux/arm64, got {platform!r}"


def _is_word(text: str, besides: str) -> bool:
    return text.isascii() and all(each.isalnum() or each in besides for each in text)


def targets(options: StageOptions) -> list[str]:
    """Return every path in the container at which something is mounted. Raises `ValueError`."""
    return [
        *(forms.volume(each).target for each in given(options.volumes, [])),
        *(forms.memory_files(each).target for each in given(options.tmpfs, [])),
        *(f"{SECRETS}/{name}" for name in given(options.secrets, {})),
    ]


def _twice(where: str, options: StageOptions) -> list[str]:
    """Return what is there twice, of options whose forms are right."""
    devices = [forms.device(each).target for each in given(options.devices, [])]
    hosts = [forms.extra_host(each)[0] for each in given(options.extra_hosts, [])]
    return [
        *(
            f"{where}: two things are mounted at {each} in the container"
            for each in _more(targets(options))
        ),
        *(f"{where}.devices: two of them are {each} in the container" for each in _more(devices)),
        *(f"{where}.extra_hosts: {each} has two addresses" for each in _more(hosts)),
    ]


def _more(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def option_warnings(where: str, options: StageOptions) -> list[str]:
    """Return a sentence for each thing that can be, and that its writer may not have meant."""
    found = [f"{where}.{place}: {why}" for place, why in _dangers(options)]
    owning = [each for each in map(capability, given(options.cap_add, [])) if each in _OWNING]
    is_root = str(given(options.user, "")).partition(":")[0] in ("0", "root")
    if owning and is_root:
        found.append(
            f"{where}.cap_add: with {owning[0]}, whoever runs in this stage owns the machine"
        )
    if (signal := given(options.stop_signal, "SIGTERM")) not in _ENDING:
        found.append(
            f"{where}.stop_signal: the program must end itself at {signal}: what does not is killed after "
            "stop_grace"
        )
    if given(options.cap_add) and not is_root:
        found.append(
            f"{where}.cap_add: Docker gives capabilities to root only; set user: root, too, if the image "
            "needs them"
        )
    return found


def egress_warnings(where: str, options: StageOptions, *, reaches_out: bool) -> list[str]:
    """Return a sentence for each setting that contradicts the way out that its sessions have, or not."""
    if reaches_out:
        is_denied = given(options.egress) == "none"
        said = (
            f"{where}.egress: another stage has lan, and the network of a session is open for all"
        )
        return [said] if is_denied else []
    capabilities = [
        each for each in map(capability, given(options.cap_add, [])) if each in _LEAVING
    ]
    found = [
        f"{where}.{name}: nothing outside the session is reached, as no stage has egress: lan"
        for name in ("dns", "extra_hosts")
        if given(getattr(options, name))
    ]
    return found + [
        f"{where}.cap_add: with {each} this stage can send packets outside, though no stage has egress: lan"
        for each in capabilities
    ]


def process_warnings(where: str, options: StageOptions) -> list[str]:
    """Return a sentence for what a local process, which is in no container, does not get."""
    names = [name for name in StageOptions.__struct_fields__ if name not in _AS_IN_CONTAINERS]
    asked = [name for name in names if given(getattr(options, name))]
    asked += [name for name in ("read_only", "init") if getattr(options, name) is False]
    refused = [name for name in asked if name in _MISSED]
    found = []
    if refused:
        found.append(
            f"{where}: a local process cannot have {', '.join(refused)}, so its sessions are refused"
        )
    if ignored := [name for name in asked if name not in _MISSED]:
        found.append(f"{where}: {', '.join(ignored)}: ignored for a local process")
    return found


def _dangers(options: StageOptions) -> Iterator[tuple[str, str]]:
    """Yield which files of the machine give it away, and why."""
    volumes = {
        f"volumes[{place}]": forms.volume(each)
        for place, each in enumerate(given(options.volumes, []))
    }
    secrets = {
        f"secrets.{name}": forms.Volume(path, path, writable=False)
        for name, path in given(options.secrets, {}).items()
    }
    for place, each in (volumes | secrets).items():
        if why := _danger(each):
            yield place, f"{why}, so whoever runs in this stage owns the machine"
    for number, text in enumerate(given(options.devices, [])):
        if _OWNING_DEVICES.match(forms.device(text).source):
            why = "this is memory or a disk of the machine, which root in this stage then owns"
            yield f"devices[{number}]", why


def _danger(volume: forms.Volume) -> str | None:
    source = volume.source
    if source.rpartition("/")[2] in _ENGINE_SOCKETS:
        return "this is the socket of a container engine, ro or not"
    if volume.writable and any(f"{source}/".startswith(f"{each}/") for each in _OWNING_PATHS):
        return f"{source} of the machine can be written to"
    if source in _HAVE_SOCKETS:
        return f"the socket of the container engine may be below {source}, ro or not"
    return None
