# SPDX-License-Identifier: MIT
"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from engine_api import EngineApi


def facts(engine: EngineApi | None) -> dict[str, Any]:
    """Return the machine and the versions of what is compared."""
    version = engine.call("GET", "/version") if engine else None
    info = engine.call("GET", "/info") if engine else {}
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "engine": f"{version['Version']} (API {version['ApiVersion']})" if version else None,
        "storage": info.get("Driver"),
        "docker-py": importlib.metadata.version("docker"),
        "msgspec": importlib.metadata.version("msgspec"),
        "docker-compose": _compose_version(),
        "socat": _socat_version(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _compose_version() -> str | None:
    if shutil.which("docker-compose") is None:
        return None
    command = ["docker-compose", "version", "--short"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _socat_version() -> str | None:
    if shutil.which("socat") is None:
        return None
    done = subprocess.run(["socat", "-V"], capture_output=True, text=True, check=False)
    found = re.search(r"socat version (\S+)", done.stdout)
    return found[1] if found else None
