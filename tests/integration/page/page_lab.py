# SPDX-License-Identifier: MIT
"""What the tests of the page work with: a daemon with its gateway, and a browser that looks at it.

Playwright's calls block, and it keeps an event loop of its own in the thread of the tests. So what has to do
with the daemon runs in the event loop of another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from daemon_lab import OPERATORD, PATIENCE, Json, Served, Wire, clean_env, run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

T = TypeVar("T")

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PATIENT = 1000 * PATIENCE
"""Milliseconds after which a test that waits gives up."""
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
"""What a browser says that has given up what it was loading: tests beside these make and remove networks."""
HOSTILE = '<img src=x onerror="document.title=7"><b>bold</b>&amp;'
"""Text that must never be more than text."""

CONFIG: Json = {
    "engine": "process",
    "start_timeout": PATIENCE,
    "limits": {"sessions": 3},
    "http": {"listen": "127.0.0.1:0"},
    "pipelines": {
        "segmented": {"warm": 0},
        "slicer": {
            "stages": {
                "probe": {"image": "demo-probe", "port": 12345},
                "viewers": {
                    "image": "operatord-openigtlink-out",
                    "port": 18944,
                    "serves": "openigtlink",
                },
            }
        },
        "talkative": {
            "stages": {
                "probe": {
                    "image": "demo-probe",
                    "port": 12345,
                    "command": ["sh", "-c", f"echo '{HOSTILE}'; exec sleep 60"],
                },
            }
        },
    },
}
"""`talkative` never sends a stream, so that its sessions are being started until they are stopped."""


class Beside:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, deed: Coroutine[Any, Any, T]) -> T:
        """Run something there to its end."""
        return asyncio.run_coroutine_threadsafe(deed, self._loop).result(2 * PATIENCE)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Site:
    """A daemon with a page, and tokens for it."""

    def __init__(
        self, folder: Path, config: Json | None = None, operator: str = "operator"
    ) -> None:
        self._beside = Beside()
        self._folder = folder
        self._config = {**CONFIG, **(config or {})}
        self._config["auth"] = {"tokens": str(folder / "tokens")}
        names = {"viewer": "viewer", "user": "user", "operator": operator}
        self.tokens = {role: self._token(name, role) for role, name in names.items()}
        self.start()

    def _token(self, name: str, role: str) -> str:
        env = {**clean_env(), "OPERATORD_AUTH_TOKENS": str(self._folder / "tokens")}
        made = run(OPERATORD, "token", "new", name, "--role", role, env=env)
        code, out, err = self._beside.run(made)
        assert code == 0, err
        return out.strip()

    def start(self) -> None:
        """Start the daemon, the first time or once more: its state and the address of its page stay."""
        self._beside.run(self._start())

    async def _start(self) -> None:
        self.daemon = await Served.start(self._folder / "state", config=self._config)
        said = await self.daemon.logged("listening on http://")
        assert said is not None, self.daemon.log
        place = said["message"].split("http://")[1].partition(",")[0]
        self.url = f"http://{place}/"
        self._config["http"] = {"listen": place}

    def stop(self) -> None:
        """Stop the daemon, and with it the gateway."""
        self._beside.run(self.daemon.stop())

    def close(self) -> None:
        self.stop()
        self._beside.close()

    def ask(self, method: str, **params: Any) -> Any:
        """Return what an operator is answered on the daemon's own socket."""
        return self._beside.run(self._ask(method, params))

    async def _ask(self, method: str, params: Json) -> Any:
        wire = await Wire.connect(self.daemon.address)
        try:
            await wire.call("auth.login", token=self.tokens["operator"])
            return await wire.call(method, **params)
        finally:
            await wire.close()

    @contextlib.contextmanager
    def probe(self, format: str, picture: bytes) -> Iterator[int]:
        """Be a probe that sends the same picture of 8 × 8 pixels again and again; yield its port."""
        said = {"type": "hello", "stream": "scope", "width": 8, "height": 8, "format": format, "fps": 20,
                "spacing": [0.2, 0.3], "depth": 80}  # fmt: skip

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(json.dumps(said).encode() + b"\n")
            parts = [{"name": "image", "bytes": len(picture)}]
            with contextlib.suppress(ConnectionError):
                for seq in itertools.count():
                    head = {"type": "frame", "seq": seq, "pts": seq / 20, "parts": parts}
                    writer.write(json.dumps(head).encode() + b"\n" + picture)
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(1 / 20):
                            await reader.read()
                            break
            writer.close()

        server = self._beside.run(asyncio.start_server(serve, "127.0.0.1", 0))
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            self._beside.run(_closed(server))

    def begin(self, **params: Any) -> str:
        """Start a session, and return its id."""
        return str(self.ask("session.start", **params)["session_id"])

    def end_all(self) -> None:
        """Stop every session."""
        for phase in ("queued", "starting", "running"):
            for session in self.ask("session.list", phase=phase)["sessions"]:
                self.ask("session.stop", session_id=session["session_id"], grace=0.2)


async def _closed(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()


class Look(NamedTuple):
    """How a browser looks at the page."""

    width: int = 1280
    height: int = 800
    scheme: str = "light"


def expect(what: Any) -> Any:
    """Return Playwright's assertions on a page or what it finds there: they wait until they hold."""
    from playwright.sync_api import expect as waiting

    return waiting(what)


class Visitor:
    """Somebody with a browser."""

    def __init__(self, site: Site, context: BrowserContext) -> None:
        self.site, self.context = site, context
        self.page: Page = context.new_page()
        self.page.set_default_timeout(PATIENT)
        self.complaints: list[str] = []
        """What the browser complains about: exceptions, and what the content security policy refuses."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._heard)

    def _heard(self, message: Any) -> None:
        # A browser says itself that a connection failed; the page has shown it by then, or loads itself anew.
        excused = ("WebSocket connection", NETWORK_CHANGED)
        if message.type == "error" and not any(each in message.text for each in excused):
            self.complaints.append(message.text)

    def go(self, where: str = "", role: str | None = None) -> Page:
        """Open a view, logged in with the token of a role."""
        if role is not None:
            token = self.site.tokens[role]
            self.context.add_init_script(f"sessionStorage.setItem('operatord.token', '{token}')")
        visited(self.page, f"{self.site.url}{where}")
        return self.page

    def reading(self, name: str) -> str:
        """Return a number that is read off the picture."""
        return self.page.locator(f'[data-reading="{name}"] b').inner_text()


def visited(page: Page, url: str) -> None:
    """Go there, once more where the browser has given it up because a network of the machine has changed."""
    from playwright.sync_api import Error

    while True:
        try:
            page.goto(url)
        except Error as exc:
            if NETWORK_CHANGED not in str(exc):
                raise
        else:
            return


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run Debian's Chromium, without a window."""
    from playwright.sync_api import expect as waiting
    from playwright.sync_api import sync_playwright

    waiting.set_options(PATIENT)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def visitor(site: Site, browser: Browser, look: Look, **more: Any) -> Iterator[Visitor]:
    """Have somebody look at the page; nothing may be complained about."""
    context = browser.new_context(
        viewport={"width": look.width, "height": look.height},
        color_scheme=look.scheme,  # type: ignore[arg-type]
        **more,
    )
    try:
        one = Visitor(site, context)
        yield one
        assert not one.complaints, one.complaints
    finally:
        context.close()


def true_area(seq: int, size: int = 256, cycle: int = 120) -> float:
    """Return the pixels that the emulated probe's ellipse has in frame ``seq``."""
    phase = 2 * math.pi * (seq % cycle) / cycle
    rx = size * (0.24 + 0.02 * math.sin(2 * phase))
    ry = size * (0.17 + 0.02 * math.cos(3 * phase))
    return math.pi * rx * ry


def tinted(page: Page) -> int:
    """Return how many pixels of the picture are not grey."""
    return int(
        page.evaluate(
            """() => {
                const canvas = document.querySelector(".screen canvas");
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                let count = 0;
                for (let i = 0; i < data.length; i += 4) count += data[i] - data[i + 2] > 8;
                return count;
            }"""
        )
    )
