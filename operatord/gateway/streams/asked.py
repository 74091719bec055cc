# SPDX-License-Identifier: MIT
"""What stands behind the question mark of an address."""

from __future__ import annotations

from aiohttp import web

from operatord_protocol.checking import clip, suggestion
from operatord_protocol.errors import InvalidParams


def asked(request: web.Request, **known: tuple[str, ...]) -> dict[str, str]:
    """Return the members of the query by their names, ``token`` among them.

    Each may be one of what is ``known`` of it; the first of these counts where it is left out.
    Raises `InvalidParams`.
    """
    query = request.query
    for name in query:
        if name not in known and name != "token":
            names = ("token", *known)
            raise InvalidParams(
                f"unknown parameter {clip(name)!r}{suggestion(name, names)}", path=clip(name)
            )
        if len(query.getall(name)) > 1:
            raise InvalidParams(f"the parameter {name!r} is there twice", path=name)
    for name, choices in known.items():
        if (value := query.get(name, choices[0])) not in choices:
            shown = " or ".join(filter(None, choices))
            raise InvalidParams(f"{name} is {shown}, not {clip(value)!r}", path=name)
    return {name: choices[0] for name, choices in known.items()} | dict(query)
