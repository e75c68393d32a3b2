"""A headless Chromium for the tests of pages.

`browser` is started once per module; `open_page` gives a page that records its requests and errors. Without Playwright
or a browser the tests are skipped, unless KERAS_TAGGER_REQUIRE_BROWSER=1, as in CI: then they fail.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--autoplay-policy=no-user-gesture-required",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _missing(reason: str) -> None:
    if os.environ.get("KERAS_TAGGER_REQUIRE_BROWSER") == "1":
        pytest.fail(f"KERAS_TAGGER_REQUIRE_BROWSER=1, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start the Chromium of the machine; Playwright does not download its own.

    Playwright keeps an event loop running until it stops, and `asyncio.run` of another module would refuse to start.
    """
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        _missing(f"there is no browser: expected one of {', '.join(_NAMES)} on the PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _missing("playwright is not installed")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        yield found
        found.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a URL: `page = open_page(url, width=1000, color_scheme="dark")`.

    `page.requests` lists the URLs asked for, other than data:; `page.errors` what went wrong in scripts.
    """
    contexts = []

    def open_(url: str, width: int = 1000, height: int = 900, init_script: str = "", **options: Any) -> Any:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        if init_script:
            context.add_init_script(init_script)
        page = context.new_page()
        page.requests, page.errors = [], []
        page.on("request", lambda request: page.requests.append(request.url) if request.url[:5] != "data:" else None)
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda message: page.errors.append(message.text) if message.type == "error" else None)
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
