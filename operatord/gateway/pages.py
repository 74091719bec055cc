# SPDX-License-Identifier: MIT
"""`GET /` and `/static/PATH`: the page, as files of this package that are read once."""

from __future__ import annotations

import base64
import hashlib
import mimetypes
import re
from collections.abc import Iterator, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from aiohttp import hdrs, web

from operatord_protocol.checking import clip
from operatord_protocol.errors import NotFound

from .guard import HEADERS

INDEX = "index.html"
INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
POLICY = "Content-Security-Policy"


class File(NamedTuple):
    """A file of the page."""

    body: bytes
    type: str
    etag: str


FILES: web.AppKey[dict[str, File]] = web.AppKey("files", dict)


def load() -> dict[str, File]:
    """Return the files of the page by their paths in its folder."""
    return dict(_within(files("operatord.gateway").joinpath("page"), ""))


def _within(folder: Traversable, path: str) -> Iterator[tuple[str, File]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _within(each, f"{path}{each.name}/")
            continue
        body = each.read_bytes()
        kind = mimetypes.guess_type(each.name)[0] or "application/octet-stream"
        yield f"{path}{each.name}", File(body, kind, hashlib.sha256(body).hexdigest()[:16])


def routes() -> Sequence[web.RouteDef]:
    """Return the routes of this file."""
    return [web.get("/", index), web.get("/static/{name:.+}", static)]


async def index(request: web.Request) -> web.StreamResponse:
    """Return the page."""
    page = request.app[FILES][INDEX]
    response = _sent(request, page)
    response.headers[POLICY] = f"{HEADERS[POLICY]}; script-src 'self' {_own_scripts(page.body)}"
    return response


def _own_scripts(page: bytes) -> str:
    """Return what a policy says so that a browser runs the scripts that stand in the page, and no others."""
    digests = (hashlib.sha256(script).digest() for script in INLINE.findall(page))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


async def static(request: web.Request) -> web.StreamResponse:
    """Return one of the page's other files."""
    name = request.match_info["name"]
    if (file := request.app[FILES].get(name)) is None or name == INDEX:
        raise NotFound(f"the page has no file {clip(name)!r}")
    return _sent(request, file)


def _sent(request: web.Request, file: File) -> web.Response:
    """Return a file, or that the browser has it: it asks each time, as the file may be another now."""
    etags = {each.value for each in request.if_none_match or ()}
    is_known = file.etag in etags
    response = web.Response(status=304) if is_known else web.Response(body=file.body)
    if not is_known:
        response.content_type = file.type
        response.charset = "utf-8" if file.type.startswith("text/") else None
    response.etag = file.etag
    response.headers[hdrs.CACHE_CONTROL] = "no-cache"
    return response
