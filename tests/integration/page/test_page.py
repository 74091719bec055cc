# SPDX-License-Identifier: MIT
"""The page in a real browser: who logs in starts a session, sees its picture with the mask, and stops it."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from page_lab import HOSTILE, Look, Site, Visitor, expect, tinted, true_area, visited, visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SHOWN = Path(__file__).parents[3] / "operatord" / "gateway" / "page"
MOST_BYTES = 150 * 1024
FIRST_PAINT = 500.0
"""Milliseconds, at the best of some visits: this machine may be busy."""


LATER = re.compile(r"^([3-9]|\d\d+)$")


def frames_come(page: Page) -> None:
    """See more frames than the first ones."""
    expect(page.locator("[data-seq]")).to_have_attribute("data-seq", LATER)


def drawn(page: Page) -> None:
    """Return once what was asked for is on the screen."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_a_session_from_its_start_to_its_end(desk: Visitor) -> None:
    page = desk.go()
    page.get_by_label("Token").fill(desk.site.tokens["user"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Start", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="It would start now")).to_be_visible()
    page.get_by_role("button", name="Start", exact=True).click()

    expect(page.locator(".title .mark")).to_have_text("running")
    sees_what_is_true(page)
    sees_the_mask_or_not(page)

    page.get_by_role("button", name="Stop…").click()
    page.get_by_role("button", name="Stop it").click()
    expect(page.locator(".title .mark")).to_have_text("stopped")
    expect(page.get_by_role("heading", name="Post-mortem")).to_be_visible()
    page.get_by_role("link", name="Overview").first.click()
    expect(page.get_by_text("No session runs.")).to_be_visible()


def sees_what_is_true(page: Page) -> None:
    """See frames move, with about the area that the probe's cyst has in each of them, whose edge is soft."""
    seen: dict[int, int] = {}
    while len(seen) < 8:
        readings = page.locator("[data-area]")
        expect(readings).not_to_have_attribute("data-seq", str(max(seen, default=-1)))
        read = readings.evaluate("each => [each.dataset.seq, each.dataset.area]")
        seen[int(read[0])] = int(read[1])
    assert all(abs(area - true_area(seq)) < 0.06 * true_area(seq) for seq, area in seen.items())
    assert len(set(seen.values())) > 1


def sees_the_mask_or_not(page: Page) -> None:
    """See as many pixels tinted as the mask has, and none without it."""
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Go on")).to_be_visible()
    area = int(page.locator("[data-area]").get_attribute("data-area") or 0)
    drawn(page)
    assert tinted(page) == area
    mask = page.get_by_role("switch", name="Mask")
    mask.uncheck()
    drawn(page)
    assert tinted(page) == 0
    mask.check()
    page.get_by_role("slider", name="Opacity").fill("80")
    drawn(page)
    assert tinted(page) == area


def test_it_loads_itself_again_when_the_browser_has_given_up_a_part(desk: Visitor) -> None:
    """A browser does so when a network of its machine comes or goes, as the networks of sessions do."""
    for part in ("main.js", "views/login.js", "style.css"):
        desk.page.route(f"**/static/{part}", lambda route: route.abort("failed"), times=1)
        page = desk.go()
        # It may be about to load itself again, which ends what is evaluated in it: this is evaluated anew.
        page.wait_for_function("document.styleSheets.length === 1")
        expect(page.get_by_label("Token")).to_be_visible()
        assert [each for each in desk.complaints if "ERR_FAILED" not in each] == []
        assert desk.complaints
        desk.complaints.clear()


def test_a_wrong_token_is_told_so(desk: Visitor) -> None:
    page = desk.go()
    page.get_by_label("Token").fill("opd_" + "x" * 43)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("the token is wrong")
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0
    page.get_by_label("Token").fill(desk.site.tokens["viewer"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Machine")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_label("Token")).to_be_focused()
    assert page.evaluate("sessionStorage.length") == 0


def test_a_viewer_looks_and_no_more(desk: Visitor) -> None:
    session = desk.site.begin(count=1000)
    page = desk.go(f"#/sessions/{session}", "viewer")
    expect(page.locator(".title .mark")).to_have_text("running")
    expect(page.get_by_text("only its owner and operators see it")).to_be_visible()
    expect(
        page.get_by_text("Only its owner and operators read what its stages write.")
    ).to_be_visible()
    assert page.get_by_role("button", name="Stop…").count() == 0
    assert page.get_by_role("link", name="Start", exact=True).count() == 0
    assert "tcp://" not in page.content()


def test_what_is_wrong_with_a_start_stands_where_it_is(desk: Visitor) -> None:
    page = desk.go("#/start", "user")
    page.get_by_label("Frames").fill("0")
    expect(page.get_by_label("Frames")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#field-count-error")).to_contain_text(">= 1")
    page.get_by_label("Frames").fill("")
    expect(page.get_by_role("status").filter(has_text="It would start now")).to_be_visible()
    sessions = [desk.site.begin(count=1000) for _ in range(3)]
    page.get_by_label("If there is no room").select_option("refuse")
    verdict = page.get_by_role("status").filter(has_text="It would be refused")
    expect(verdict).to_contain_text("3 of 3 sessions live; a start needs 1 place and 0 are free")
    expect(verdict.get_by_role("link", name=sessions[0][:8])).to_be_visible()


def test_who_waits_is_told_why(desk: Visitor) -> None:
    for _ in range(3):
        desk.site.begin(count=1000)
    waiting = desk.site.begin(wait="accepted")
    page = desk.go("", "operator")
    place = page.locator("#queue li").filter(has_text=waiting[:8])
    expect(place).to_contain_text("3 of 3 sessions live")
    expect(place).to_contain_text("starts in about")
    place.get_by_role("button", name="Take session").click()
    page.get_by_role("button", name="Leave the queue").click()
    expect(place).to_have_count(0)
    assert desk.site.ask("session.get", session_id=waiting)["outcome"] == "stopped"


def test_what_is_taken_along(desk: Visitor) -> None:
    session = desk.site.begin(count=1000)
    page = desk.go(f"#/sessions/{session}", "operator")
    page.get_by_role("button", name="Begin the frames").click()
    frames_come(page)
    with page.expect_download() as taken:
        page.get_by_role("button", name="Save PNG").click()
    assert taken.value.suggested_filename == f"{session}.png"
    assert taken.value.path().read_bytes().startswith(b"\x89PNG")
    page.get_by_role("button", name="Copy the player's command").click()
    expect(page.get_by_role("status").filter(has_text="Copied")).to_be_visible()
    desk.context.grant_permissions(["clipboard-read"])
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.endswith(f"'{desk.site.url}sessions/{session}/stream.y4m'")
    assert desk.site.tokens["operator"] not in copied


def test_a_lease_is_extended(desk: Visitor) -> None:
    session = desk.site.begin(count=1000, lease={"ttl": 60})
    page = desk.go(f"#/sessions/{session}", "operator")
    page.get_by_role("button", name="Extend…").click()
    page.get_by_label("Seconds from now").fill("soon")
    page.get_by_role("button", name="Extend", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("params.ttl")
    page.get_by_label("Seconds from now").fill("7200")
    page.get_by_role("button", name="Extend", exact=True).click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#about")).to_contain_text("in 1 h 59 min")


def test_nothing_moves_unasked_where_less_motion_is_wanted(site: Site, browser: Browser) -> None:
    session = site.begin(count=1000)
    with visitor(site, browser, Look(), reduced_motion="reduce") as one:
        page = one.go(f"#/sessions/{session}", "operator")
        page.get_by_role("button", name="Watch").click()
        frames_come(page)


def test_others_frames_do_not_begin_because_somebody_looks(desk: Visitor) -> None:
    session = desk.site.begin(count=500)
    page = desk.go(f"#/sessions/{session}", "operator")
    expect(page.get_by_text("Nobody reads the stream just now")).to_be_visible()
    assert "unread_since" in desk.site.ask("session.get", session_id=session)
    page.get_by_role("button", name="Begin the frames").click()
    frames_come(page)


DRAW = """async ([format, image, mask]) => {
    const { Picture } = await import("/static/stream/picture.js");
    const canvas = document.createElement("canvas");
    const bytes = Uint8Array.from(image);
    new Picture(canvas).draw(3, 1, format, bytes, mask && Uint8Array.from(mask), 0.5);
    const { data } = canvas.getContext("2d").getImageData(0, 0, 3, 1);
    return [0, 4, 8].map((at) => [...data.slice(at, at + 3)]);
}"""
"""Draws a picture of three pixels, and returns their colours."""
ORANGE = [230, 159, 0]
FORMATS = [
    ("gray8", [0, 128, 255], [[0] * 3, [128] * 3, [255] * 3]),
    ("gray16le", [255, 0, 0, 128, 255, 255], [[0] * 3, [128] * 3, [255] * 3]),
    ("rgb24", [255, 0, 0, 1, 2, 3, 0, 0, 255], [[255, 0, 0], [1, 2, 3], [0, 0, 255]]),
]


def test_pictures_of_each_format_are_drawn(desk: Visitor) -> None:
    page = desk.go("", "viewer")
    for format, image, colours in FORMATS:
        assert page.evaluate(DRAW, [format, image, None]) == colours
        masked = page.evaluate(DRAW, [format, image, [0, 255, 0]])
        assert masked == [colours[0], ORANGE, colours[2]], "the mask's outline, as it is one pixel"


def test_a_probes_colours_reach_the_screen(desk: Visitor) -> None:
    with desk.site.probe("rgb24", bytes([10, 200, 30] * 64)) as port:
        desk.site.ask("probe.register", name="scope", host="127.0.0.1", port=port)
        page = desk.go("#/probes", "operator")
        expect(page.get_by_text("8×8 rgb24")).to_be_visible()
        expect(page.get_by_text("0.2 × 0.3 mm a pixel, 80 mm deep")).to_be_visible()
        page = desk.go(f"#/sessions/{desk.site.begin(probe='scope', plain_stream=True)}")
        frames_come(page)  # of a stream without an end, whoever looks gets them
        drawn(page)
        shown = page.evaluate(
            """() => [...document.querySelector(".screen canvas").getContext("2d")
                .getImageData(7, 7, 1, 1).data]"""
        )
        assert shown == [10, 200, 30, 255]
        desk.site.end_all()
    desk.site.ask("probe.remove", name="scope")


def test_a_format_that_the_page_does_not_know_is_named(desk: Visitor) -> None:
    page = desk.go("", "viewer")
    reason = page.evaluate(
        """async () => {
            const { Watch } = await import("/static/stream/watch.js");
            const made = [];
            globalThis.WebSocket = class { constructor() { made.push(this); } close() {} };
            const watch = new Watch("ws://nowhere", () => null, () => {});
            watch.open(true);
            const hello = { type: "hello", width: 1, height: 1, format: "constructor" };
            made[0].onmessage({ data: new TextEncoder().encode(JSON.stringify(hello) + "\\n").buffer });
            return `${watch.state}: ${watch.reason}`;
        }"""
    )
    assert reason == (
        "failed: the stream's pictures are constructor, and this page draws gray8, gray16le, rgb24 only"
    )


def test_a_stream_for_slicer_says_how_to_open_it(desk: Visitor) -> None:
    page = desk.go(f"#/sessions/{desk.site.begin(pipeline='slicer')}", "operator")
    expect(page.get_by_text("In 3D Slicer: module OpenIGTLinkIF")).to_be_visible()
    expect(page.get_by_text("This stream is OpenIGTLink")).to_be_visible()
    expect(page.get_by_role("button", name="Watch")).to_have_count(0)
    desk.site.end_all()


def test_text_stays_text(desk: Visitor) -> None:
    desk.site.ask("probe.register", name="odd", host="127.0.0.1", port=9, labels={"room": HOSTILE})
    page = desk.go("#/probes", "operator")
    expect(page.get_by_text(HOSTILE)).to_be_visible()
    session = desk.site.begin(pipeline="talkative", wait="accepted")
    page = desk.go(f"#/sessions/{session}")
    expect(page.locator(".log").get_by_text(HOSTILE)).to_be_visible()
    assert page.locator("main img, main b:text-is('bold')").count() == 0
    assert "operatord" in page.title()
    desk.site.ask("probe.remove", name="odd")


def test_it_comes_back_with_the_daemon(browser: Browser, tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        with visitor(site, browser, Look()) as one:
            page = one.go("", "operator")
            expect(page.get_by_text("No session runs.")).to_be_visible()
            site.stop()
            expect(page.get_by_role("alert")).to_contain_text("Not connected to operatord")
            site.start()
            expect(page.get_by_role("alert")).to_have_count(0)
            session = site.begin(count=1000)
            expect(page.locator("#sessions").get_by_text(session[:8])).to_be_visible()
            site.end_all()
    finally:
        site.close()


def test_a_narrow_phone_shows_all_without_scrolling_sideways(phone: Visitor) -> None:
    session = phone.site.begin(count=3000)
    page = phone.go("", "operator")
    expect(page.locator("#sessions").get_by_text(session[:8])).to_be_visible()
    fits(page)
    for where in ("#/history", "#/probes", "#/start"):
        visited(page, f"{phone.site.url}{where}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        fits(page)
    visited(page, f"{phone.site.url}#/sessions/{session}")
    page.get_by_role("button", name="Begin the frames").tap()
    frames_come(page)
    fits(page)
    page.get_by_role("button", name="Stop…").tap()
    page.get_by_role("button", name="Stop it").tap()
    expect(page.locator(".title .mark")).to_have_text("stopped")
    fits(page)


def fits(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_all_of_it_by_keyboard(desk: Visitor) -> None:
    page = desk.go()
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(desk.site.tokens["user"])
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Machine")).to_be_visible()
    tab_to(page, "Start")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Start a session")).to_be_focused()
    tab_to(page, "fps")
    page.keyboard.type("50")
    tab_to(page, "Start")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1, name="Session")).to_be_focused()
    frames_come(page)
    tab_to(page, "Mask")
    page.keyboard.press("Space")
    expect(page.get_by_role("switch", name="Mask")).not_to_be_checked()
    tab_to(page, "Stop…")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Not now")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Stop…")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "Stop it")
    page.keyboard.press("Enter")
    expect(page.locator(".title .mark")).to_have_text("stopped")


NAME = """() => {
    const { activeElement: here } = document;
    const { outlineStyle, outlineWidth } = getComputedStyle(here);
    const isSeen = outlineStyle !== "none" && parseFloat(outlineWidth) >= 2;
    return [(here.labels?.[0] ?? here).innerText.trim(), isSeen || here === document.body];
}"""


def tab_to(page: Page, name: str) -> None:
    """Press Tab until a control of this name has the keyboard; each on the way is seen to have it."""
    for _ in range(60):
        page.keyboard.press("Tab")
        found, is_seen = page.evaluate(NAME)
        assert is_seen, f"nobody sees that {found!r} has the keyboard"
        if found == name:
            return
    raise AssertionError(f"Tab does not come to {name!r}")


def test_it_is_small_and_whole() -> None:
    files = [each for each in SHOWN.rglob("*") if each.is_file()]
    assert sum(each.stat().st_size for each in files) <= MOST_BYTES
    text = {each: each.read_text("utf-8") for each in files}
    for file, content in text.items():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", content
        ), file
        away = re.findall(r"""https?://[^\s"'`]+""", content)
        assert set(away) <= {"http://www.w3.org/2000/svg"}, f"{file} has something from elsewhere"


def test_it_is_there_at_once(desk: Visitor) -> None:
    paints = [math.inf]
    while min(paints) > FIRST_PAINT and len(paints) <= 10:
        page = desk.go("", "viewer")
        expect(page.get_by_role("heading", name="Machine")).to_be_visible()
        paints.append(
            page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
    assert min(paints) <= FIRST_PAINT, paints
    sizes = page.evaluate(
        "performance.getEntriesByType('resource').map((each) => each.decodedBodySize)"
    )
    assert sum(sizes) <= MOST_BYTES
