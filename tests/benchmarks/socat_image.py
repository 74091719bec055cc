# SPDX-License-Identifier: MIT
"""This machine's socat as an image, without a registry: the program, its libraries, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from daemons import interruptions_later
from engine_api import RUN, EngineApi

REPOSITORY = "operatord-bench-socat"
FOLDER = "/opt/socat"


@contextlib.contextmanager
def socat_image(engine: EngineApi) -> Iterator[str | None]:
    """Have the image for a while; yield its name, or None where there is no socat."""
    program = shutil.which("socat")
    if program is None:
        yield None
        return
    name = f"{REPOSITORY}:{RUN}"
    try:
        with interruptions_later():
            _import(engine, Path(program))
        yield name
    finally:
        with interruptions_later():
            engine.call("DELETE", f"/images/{name}?force=1", missing_ok=True)


def _import(engine: EngineApi, program: Path) -> None:
    files = [program, *_libraries(program)]
    loader = next(file for file in files if file.name.startswith("ld-"))
    # Started by the loader, it needs nothing that would have to be where it is on this machine.
    entry = [f"{FOLDER}/{loader.name}", "--library-path", FOLDER, f"{FOLDER}/{program.name}"]
    query = {"fromSrc": "-", "repo": REPOSITORY, "tag": RUN}
    change = urllib.parse.quote(f"ENTRYPOINT {json.dumps(entry)}")
    path = f"/images/create?{urllib.parse.urlencode(query)}&changes={change}"
    engine.call("POST", path, _packed(files))


def _libraries(program: Path) -> list[Path]:
    """Return the shared libraries that a program is loaded with, the loader among them."""
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True)
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", done.stdout)]


def _packed(files: list[Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for file in files:
            tar.add(file.resolve(), f"{FOLDER.lstrip('/')}/{file.name}")
    return packed.getvalue()
