# SPDX-License-Identifier: MIT
"""docker-compose: the same three services, as its file describes them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from daemons import BenchFailed
from engine_api import LABEL, RUN
from relay import free_port
from topology import ENV, IMAGES, PORT


def has_compose() -> bool:
    """Tell whether there is a docker-compose to compare with."""
    return shutil.which("docker-compose") is not None


class Compose:
    """``docker-compose up -d``, which starts what does not depend on each other at the same time."""

    def __init__(self, url: str, folder: Path) -> None:
        self._file = folder / "docker-compose.json"
        self._environ = {**os.environ, "DOCKER_HOST": url}
        self._project = f"bench{RUN}"
        self._up = False

    def start(self) -> tuple[str, int]:
        """Bring the services up; their names are their aliases."""
        port = free_port()
        self._file.write_text(json.dumps(_description(port)), "utf-8")
        self._up = True
        self._run("up", "-d")
        return "127.0.0.1", port

    def stop(self) -> None:
        """Take them down, with the grace that operatord gives."""
        if self._up:
            self._run("down", "-t", "2")
            self._up = False

    def _run(self, *arguments: str) -> None:
        command = ["docker-compose", "-p", self._project, "-f", str(self._file), *arguments]
        # In a session of its own: Ctrl-C is answered by us, with `down`.
        done = subprocess.run(
            command, env=self._environ, capture_output=True, start_new_session=True, check=False
        )
        if done.returncode:
            raise BenchFailed(f"{' '.join(command)}: {done.stderr.decode('utf-8', 'replace')}")


def _description(port: int) -> dict[str, Any]:
    labels = {LABEL: RUN}
    services: dict[str, Any] = {
        stage: {"image": image, "environment": ENV[stage], "labels": labels}
        for stage, image in IMAGES.items()
    }
    services["segmentation"]["ports"] = [f"127.0.0.1:{port}:{PORT}"]
    return {"version": "2.4", "services": services, "networks": {"default": {"labels": labels}}}
