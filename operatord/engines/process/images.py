# SPDX-License-Identifier: MIT
"""What the process engine runs where a plan names one of the emulators' images."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import operatord

_PROGRAMS = {
    "demo-probe": "probe/probe.py",
    "demo-stream": "streaming/streaming.py",
    "demo-segmentation": "segmentation/segmentation.py",
}


def packaged_programs() -> dict[str, tuple[str, ...]]:
    """Return the argument list for each emulator image whose script is there.

    No variables (-E), no user's packages (-s) and no site (-S), as in the images. -I would also remove the
    script's folder from the path, and with it the modules beside it.
    """
    scripts = {image: _script(path) for image, path in _PROGRAMS.items()}
    return {
        image: (sys.executable, "-EsS", str(script))
        for image, script in scripts.items()
        if script is not None
    }


def _script(path: str) -> Path | None:
    """Find a script where it is installed, or else in the checkout that the package runs from."""
    spec = importlib.util.find_spec("operatord.emulators")
    installed = list(spec.submodule_search_locations or ()) if spec is not None else []
    beside = [str(Path(package).parent / "emulators") for package in operatord.__path__]
    return next((f for folder in installed + beside if (f := Path(folder, path)).is_file()), None)
