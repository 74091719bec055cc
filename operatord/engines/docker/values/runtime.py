# SPDX-License-Identifier: MIT
"""Which runtime (runc, crun …) an engine starts its containers with, as far as it says. No I/O."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

Json = dict[str, Any]

_PODMANS = re.compile(r"OCI Runtime \((.+)\)")
"""Podman's component, from 3.4 on, whose version text is the runtime's own."""


def oci_runtime(version: Json, info: Json) -> str:
    """Read ``GET /version`` and ``GET /info``. Return ``runc 1.1.5``, or as much of that as they have."""
    components = version.get("Components") or ()
    for each in components:
        if found := _PODMANS.fullmatch(str(each.get("Name"))):
            return f"{found[1]} {_told(each)}".strip()
    # Docker lists it under the administrator's name for it; the program may have another name.
    given = str(info.get("DefaultRuntime") or "")
    path = ((info.get("Runtimes") or {}).get(given) or {}).get("path")
    number = next((_told(each) for each in components if each.get("Name") == given), "")
    return f"{PurePosixPath(str(path or given)).name} {number}".strip()


def _told(component: Json) -> str:
    """Return the number alone of ``crun version 1.21`` and further lines, or of ``1.1.5``."""
    words = str(component.get("Version") or "").partition("\n")[0].split()
    return words[-1] if words else ""
