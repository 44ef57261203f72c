"""A browser for tests of pages: Debian's Chromium, driven by Playwright's core."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.store.conftest import embedded_store, public_tmp

if TYPE_CHECKING:
    from playwright.sync_api import Browser

__all__ = ["embedded_store", "public_tmp"]

#: What distributions call it.
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests; skips where it is not installed, and says how to install it."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on PATH: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as core:
        # Chromium refuses its sandbox to root.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = core.chromium.launch(executable_path=found, args=sandbox)
        yield browser
        browser.close()
