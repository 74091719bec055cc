# SPDX-License-Identifier: MIT
"""A daemon with a page and a browser for the tests of a file, and who looks at it for each of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from page_lab import Look, Site, Visitor, chromium, visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    if os.environ.get("OPERATORD_NO_BROWSER"):
        pytest.skip("there is no browser to be had here")
    pytest.importorskip(
        "playwright", reason="playwright is not installed: tools/page/browser does it"
    )
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A daemon with its gateway, which the tests of a file share."""
    site = Site(tmp_path_factory.mktemp("site"))
    yield site
    site.close()


@pytest.fixture
def site(running: Site) -> Iterator[Site]:
    """The same, without sessions before and after."""
    yield running
    running.end_all()


@pytest.fixture
def desk(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Somebody at a desk."""
    with visitor(site, browser, Look()) as one:
        yield one


@pytest.fixture
def phone(browser: Browser, site: Site) -> Iterator[Visitor]:
    """Somebody with a narrow phone."""
    with visitor(site, browser, Look(360, 740), has_touch=True, is_mobile=True) as one:
        yield one
