# SPDX-License-Identifier: MIT
"""axe-core has nothing to say against any view, in light and in dark."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from page_lab import Look, Site, Visitor, expect, visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

RUN = "axe.run(document, {resultTypes: ['violations']})"


def complaints(page: Page) -> list[str]:
    """Return what axe-core finds wrong with what is shown."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found = page.evaluate(f"{RUN}.then(({{violations}}) => violations)")
    return [
        f"{each['id']}: {each['help']}: {[node['html'] for node in each['nodes']]}"
        for each in found
    ]


def the_login(one: Visitor) -> Page:
    page = one.go()
    page.get_by_label("Token").fill("opd_wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    return page


def the_overview(one: Visitor) -> Page:
    for _ in range(3):
        one.site.begin(count=1000)
    one.site.begin(wait="accepted")
    page = one.go("", "operator")
    expect(page.locator("#queue li")).to_have_count(1)
    return page


def a_running_session(one: Visitor) -> Page:
    session = one.site.begin(count=3000)
    page = one.go(f"#/sessions/{session}", "operator")
    page.get_by_role("button", name="Begin the frames").click()
    expect(page.locator("#stages tbody tr")).to_have_count(3)
    expect(page.locator("[data-area]")).to_be_visible()
    return page


def a_question(one: Visitor) -> Page:
    session = one.site.begin(count=3000)
    page = one.go(f"#/sessions/{session}", "operator")
    page.get_by_role("button", name="Stop…").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    return page


def an_ended_session(one: Visitor) -> Page:
    session = one.site.begin(pipeline="segmented", env={"probe": {"fps": "many"}}, wait="accepted")
    one.site.ask("session.wait", session_id=session)
    page = one.go(f"#/sessions/{session}", "operator")
    expect(page.get_by_text("What to do:")).to_be_visible()
    return page


def the_history(one: Visitor) -> Page:
    one.site.ask("session.stop", session_id=one.site.begin(count=1000))
    page = one.go("#/history", "operator")
    expect(page.locator("#history tbody tr").first).to_be_visible()
    return page


def the_probes(one: Visitor) -> Page:
    one.site.ask("probe.register", name="theatre-2", host="127.0.0.1", port=9, labels={"room": "2"})
    page = one.go("#/probes", "viewer")
    expect(page.get_by_role("heading", name="theatre-2")).to_be_visible()
    return page


def a_start_that_is_wrong(one: Visitor) -> Page:
    page = one.go("#/start", "user")
    page.get_by_label("Frames").fill("-1")
    expect(page.locator("#field-count-error")).to_be_visible()
    return page


VIEWS = (
    the_login,
    the_overview,
    a_running_session,
    a_question,
    an_ended_session,
    the_history,
    the_probes,
    a_start_that_is_wrong,
)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_axe_has_no_complaints(
    view: Callable[[Visitor], Page], site: Site, browser: Browser
) -> None:
    with visitor(site, browser, Look(scheme="light")) as one:
        page = view(one)
        assert complaints(page) == []
        page.emulate_media(color_scheme="dark")
        assert complaints(page) == []
