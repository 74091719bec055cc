# SPDX-License-Identifier: MIT
"""Build the images of `recipes`, and the Python base image they stand on where none can be pulled.

The engine arrives as an argument: this module knows what it asks of a client, not which library it
is. The base is the first of these that works, and each choice is said aloud:

1. the one that was asked for,
2. the Dockerfiles' own default, already on the engine,
3. ``operatord-python:bookworm`` of an earlier run,
4. the default, pulled,
5. ``operatord-python:bookworm``, made here with debootstrap.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from .recipes import EMULATORS, RECIPES, USUAL, Recipe

OWN_BASE = "operatord-python:bookworm"
SUITE = "bookworm"

PULL_FIRST_WORD_SECONDS = 10.0  # a registry that says nothing for this long is not reachable
PULL_STALL_SECONDS = 60.0
DEBOOTSTRAP_SECONDS = 900.0
SAY_EVERY = 10.0
"""Seconds between words about something that takes long."""

# Nobody reads, in a container: what apt can fetch again, manuals, translations. ./dev is the runtime's.
_LEFT_OUT = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./tmp/*",
    "./usr/share/doc/*",
    "./usr/share/info/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
)
_CHANGES = ["ENV LANG=C.UTF-8", 'CMD ["python3"]']
_COMPILE_STDLIB = (
    "import compileall, sysconfig;"
    "compileall.compile_dir(sysconfig.get_path('stdlib'), quiet=2, workers=0)"
)
_ADMIN_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"

Say = Callable[[str], None]


class ImageError(Exception):
    """An image could not be had; the text is a sentence for the operator."""


class ImageClient(Protocol):
    """What is asked of an engine's client; docker-py's ``APIClient`` has this shape."""

    def images(self, name: str | None = None) -> Any: ...

    def pull(self, repository: str, *, stream: bool = ..., decode: bool = ...) -> Any: ...

    def build(  # noqa: PLR0913 - the shape is the library's
        self,
        path: str | None = ...,
        tag: str | None = ...,
        *,
        rm: bool = ...,
        forcerm: bool = ...,
        decode: bool = ...,
        buildargs: dict[str, str] | None = ...,
        network_mode: str | None = ...,
    ) -> Any: ...

    def import_image_from_stream(
        self,
        stream: IO[bytes],
        repository: str | None = ...,
        tag: str | None = ...,
        changes: list[str] | None = ...,
    ) -> Any: ...

    def tag(self, image: str, repository: str, tag: str | None = None) -> Any: ...


class Progress:
    """Says now and then how far something is that takes long, and how long it took."""

    def __init__(self, say: Say, what: str) -> None:
        self._say, self._what = say, what
        self._began = time.monotonic()
        self._next = self._began + SAY_EVERY

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    def heard(self, words: str) -> None:
        """Take the last line of what it says itself, which is passed on every ten seconds."""
        line = words.strip().rpartition("\n")[2].strip()
        if line and time.monotonic() >= self._next:
            self._next = time.monotonic() + SAY_EVERY
            self._say(f"{self._what}: {self.seconds:.0f} s so far: {line}")


@dataclass(frozen=True, slots=True)
class BuiltImages:
    """The base that was used, and the id of each image by its name."""

    base: str
    ids: Mapping[str, str]


def missing_images(client: ImageClient, names: Iterable[str]) -> list[str]:
    """Return those of the names that the engine does not have, in their order."""
    return [name for name in names if _image_id(client, name) is None]


def build_images(
    client: ImageClient, base: str | None, say: Say, names: Iterable[str] = USUAL
) -> BuiltImages:
    """Build images in the order of the names, and return what was built.

    Unchanged images come from the engine's cache within a fraction of a second.

    Raises:
        ImageError: no base image can be had, or a build failed.
    """
    chosen = choose_base(client, base, default_base(), say)
    ids = {name: _build_one(client, name, RECIPES[name], chosen, say) for name in names}
    return BuiltImages(chosen, ids)


def default_base() -> str:
    """Return the base image that the Dockerfiles name themselves.

    Raises:
        ImageError: a Dockerfile is missing or names none.
    """
    file = RECIPES[EMULATORS[0]].sources() / "Dockerfile"
    try:
        text = file.read_text("utf-8")
    except OSError as exc:
        raise ImageError(f"The emulators' Dockerfile cannot be read: {exc}.") from exc
    found = re.search(r"^ARG PYTHON_IMAGE=(\S+)$", text, re.MULTILINE)
    if found is None:
        raise ImageError(f"{file} has no line ARG PYTHON_IMAGE=….")
    return found[1]


# --- the base ---------------------------------------------------------------------------------


def choose_base(client: ImageClient, wanted: str | None, default: str, say: Say) -> str:
    """Return the name of a base image that is on the engine, fetching or making one if need be.

    Raises:
        ImageError: none can be had.
    """
    if wanted is not None:
        return _wanted_base(client, wanted, say)
    if not missing_images(client, [default]):
        say(f"base image: {default}, the default, is on the engine")
        return default
    if not missing_images(client, [OWN_BASE]):
        say(f"base image: {OWN_BASE}, made here earlier")
        return OWN_BASE
    say(f"base image: trying to pull {default}")
    try:
        _pull(client, default, say)
    except ImageError as exc:
        say(f"base image: {exc}")
        return _make_own_base(client, say)
    say(f"base image: {default}, pulled")
    return default


def _wanted_base(client: ImageClient, wanted: str, say: Say) -> str:
    if missing_images(client, [wanted]):
        say(f"base image: pulling {wanted}, as asked")
        _pull(client, wanted, say)
    say(f"base image: {wanted}, as asked")
    return wanted


def _pull(client: ImageClient, image: str, say: Say) -> None:
    """Pull, giving up when the registry says nothing for too long.

    The library's call has no timeout, so a thread makes it. When it is given up, the thread ends
    with the process, and the engine abandons the pull when the connection closes.
    """
    words: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()
    thread = threading.Thread(target=_pull_into, args=(client, image, words), daemon=True)
    thread.start()
    progress = Progress(say, f"base image: pulling {image}")
    patience = PULL_FIRST_WORD_SECONDS
    while True:
        try:
            word = words.get(timeout=patience)
        except queue.Empty:
            raise ImageError(f"{image} cannot be pulled: no answer for {patience:.0f} s.") from None
        if word is None:
            return
        if isinstance(word, Exception):
            raise ImageError(f"{image} cannot be pulled: {_reason(word)}.") from word
        if "error" in word:
            raise ImageError(f"{image} cannot be pulled: {_tidy(word['error'])}.")
        progress.heard(
            " ".join(str(word[key]) for key in ("id", "status", "progress") if key in word)
        )
        patience = PULL_STALL_SECONDS


def _pull_into(
    client: ImageClient,
    image: str,
    words: queue.SimpleQueue[dict[str, Any] | Exception | None],
) -> None:
    try:
        # Without a tag the client would take `latest`, as every other tool does.
        for word in client.pull(image, stream=True, decode=True):
            words.put(word)
    except Exception as exc:
        words.put(exc)
    else:
        words.put(None)


def _make_own_base(client: ImageClient, say: Say) -> str:
    _require_debootstrap()
    say(
        f"base image: making {OWN_BASE} with debootstrap, which takes half a minute to some minutes"
    )
    progress = Progress(say, "base image")
    # /var/tmp: /tmp may be mounted without device nodes, which debootstrap refuses.
    with tempfile.TemporaryDirectory(prefix="operatord-base-", dir="/var/tmp") as folder:
        root = Path(folder, "root")
        _debootstrap(root, progress)
        _finish(root, progress)
        _import(client, root)
    say(f"base image: {OWN_BASE}, made in {progress.seconds:.0f} s")
    return OWN_BASE


def _require_debootstrap() -> None:
    if os.geteuid() == 0 and shutil.which("debootstrap", path=_admin_path()):
        return
    raise ImageError(
        "No Python base image is available. Two ways remain: install debootstrap and run this as"
        " root (apt-get install debootstrap), or name an image with Python 3.11 or later that"
        " is on the engine with --base IMAGE."
    )


def _debootstrap(root: Path, progress: Progress) -> None:
    """Install a minimal Debian with Python.

    In a mount namespace of its own, so that the /proc it mounts in there vanishes however it ends.
    """
    _run(
        "unshare",
        "--mount",
        "debootstrap",
        "--variant=minbase",
        "--include=python3-minimal,libpython3-stdlib",
        SUITE,
        str(root),
        progress=progress,
    )


def _finish(root: Path, progress: Progress) -> None:
    # Both spellings of the interpreter exist in the official images, so they do in ours.
    (root / "usr/bin/python").symlink_to("python3")
    # Debian byte-compiles only half of the library. In a container with a read-only root Python
    # can never write the rest, and would compile asyncio and its like at each start.
    _run("chroot", str(root), "python3", "-c", _COMPILE_STDLIB, progress=progress)


def _import(client: ImageClient, root: Path) -> None:
    repository, _, tag = OWN_BASE.partition(":")
    command = [
        "tar",
        "--create",
        "--file=-",
        "--numeric-owner",
        "--anchored",
        f"--directory={root}",
    ]
    command += [f"--exclude={pattern}" for pattern in _LEFT_OUT]
    with subprocess.Popen([*command, "."], stdout=subprocess.PIPE) as tar:
        assert tar.stdout is not None
        with _told_as(f"{OWN_BASE} could not be imported"):
            answer = client.import_image_from_stream(tar.stdout, repository, tag, _CHANGES)
    if tar.returncode != 0:
        raise ImageError(f"{OWN_BASE} could not be packed: tar ended with {tar.returncode}.")
    items = list(_lines(answer))
    _raise_error_items(items, f"{OWN_BASE} could not be imported")
    if missing_images(client, [OWN_BASE]):
        _tag(client, items, repository, tag)


def _tag(client: ImageClient, items: list[Any], repository: str, tag: str) -> None:
    """Give the imported image its name: Podman 4.3 leaves the tag out of account."""
    said = items[-1].get("status") if items else None
    with _told_as(f"{OWN_BASE} was imported and could not be named"):
        client.tag(str(said), repository, tag)
    if missing_images(client, [OWN_BASE]):
        raise ImageError(f"{OWN_BASE} was imported, but the engine does not have it afterwards.")


def _admin_path() -> str:
    """Return PATH with the folders of the administrator's tools, which a user's PATH may lack."""
    return f"{os.environ.get('PATH', '')}:{_ADMIN_PATH}".lstrip(":")


def _run(*command: str, progress: Progress) -> None:
    environment = {**os.environ, "PATH": _admin_path(), "DEBIAN_FRONTEND": "noninteractive"}
    last = ""
    try:
        with (
            subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            ) as child,
            _killed_when_late(child),
        ):
            assert child.stdout is not None
            for line in child.stdout:
                last = line.strip() or last
                progress.heard(line)
    except OSError as exc:
        raise ImageError(f"{OWN_BASE} could not be made: {exc}.") from exc
    if child.returncode != 0:
        raise ImageError(
            f"{OWN_BASE} could not be made: {command[0]} ended with {child.returncode}: {last}"
        )


@contextlib.contextmanager
def _killed_when_late(child: subprocess.Popen[str]) -> Iterator[None]:
    timer = threading.Timer(DEBOOTSTRAP_SECONDS, child.kill)
    timer.start()
    try:
        yield
    except BaseException:
        child.kill()
        raise
    finally:
        timer.cancel()


# --- one image --------------------------------------------------------------------------------


def _build_one(client: ImageClient, name: str, recipe: Recipe, base: str, say: Say) -> str:
    before = _image_id(client, name)
    progress = Progress(say, name)
    stands_on = recipe.stands_on
    with _told_as(f"{name} could not be built"):
        items = client.build(
            str(recipe.sources()),
            name,
            rm=True,
            forcerm=True,
            decode=True,
            buildargs={"STAGE_IMAGE": stands_on} if stands_on else {"PYTHON_IMAGE": base},
            # Where the Dockerfile installs packages: a bridge may lead nowhere, the host's network does not.
            network_mode="host" if recipe.downloads else None,
        )
        _raise_error_items(items, f"{name} could not be built", progress)
    after = _image_id(client, name)
    if after is None:
        raise ImageError(f"{name} could not be built: the engine does not have it afterwards.")
    how = "up to date" if after == before else "built"
    say(f"{name}: {how} ({progress.seconds:.1f} s)")
    return after


# --- reading the engine's answers -------------------------------------------------------------


def _image_id(client: ImageClient, name: str) -> str | None:
    # A list with a filter, because asking for one image by name answers its absence with an
    # exception of the library's own.
    with _told_as("The engine does not list its images"):
        found = client.images(name)
    return str(found[0]["Id"]) if found else None


def _raise_error_items(
    items: Iterable[Any], sentence: str, progress: Progress | None = None
) -> None:
    """Read an answer's stream to its end; failures arrive in it as items, under status 200."""
    output: list[str] = []
    for item in items:
        if "error" in item:
            said = "".join(output[-5:]).strip()
            raise ImageError(f"{sentence}: {_tidy(item['error'])}." + (f"\n{said}" if said else ""))
        output.append(str(item.get("stream", "")))
        if progress is not None:
            progress.heard(output[-1])


def _lines(answer: str | bytes) -> Iterator[Any]:
    for line in answer.splitlines():
        if line.strip():
            yield json.loads(line)


@contextlib.contextmanager
def _told_as(sentence: str) -> Iterator[None]:
    """Turn whatever a client raises into ours: the one edge of this module."""
    try:
        yield
    except ImageError:
        raise
    except Exception as exc:
        raise ImageError(f"{sentence}: {_reason(exc)}.") from exc


def _reason(exc: Exception) -> str:
    """Return the engine's own words where the exception carries them."""
    return _tidy(getattr(exc, "explanation", None) or exc)


def _tidy(words: object) -> str:
    return str(words).strip().rstrip(".")
