# SPDX-License-Identifier: MIT
"""Which program an engine has its containers started by, as far as it says. No I/O."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

Json = dict[str, Any]

_PODMANS = re.compile(r"OCI Runtime \((.+)\)")
"""The component that is Podman's, from 3.4 on, whose version is all that the runtime says of itself."""


def oci_runtime(version: Json, info: Json) -> str:
    """Read ``GET /version`` and ``GET /info``. Return ``runc 1.1.5``, or as much of that as is told."""
    components = version.get("Components") or ()
    for each in components:
        if found := _PODMANS.fullmatch(str(each.get("Name"))):
            return f"{found[1]} {_told(each)}".strip()
    # Docker has it under the name that the administrator gave it; the program may be another.
    given = str(info.get("DefaultRuntime") or "")
    path = ((info.get("Runtimes") or {}).get(given) or {}).get("path")
    number = next((_told(each) for each in components if each.get("Name") == given), "")
    return f"{PurePosixPath(str(path or given)).name} {number}".strip()


def _told(component: Json) -> str:
    """Return the number alone of ``crun version 1.21`` and further lines, or of ``1.1.5``."""
    words = str(component.get("Version") or "").partition("\n")[0].split()
    return words[-1] if words else ""
