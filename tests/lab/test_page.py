"""The page in a real headless Chromium with no network: every picture is drawn and nothing complains.

Scope: what only a browser can tell. The browser runs in a network namespace of its own with nothing in it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from swarmscope.compare import compare
from swarmscope.report import page
from tests.unit.synthetic_run import make

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--enable-logging=stderr", "--virtual-time-budget=8000", "--hide-scrollbars",
)  # fmt: skip
OWN_PAGES = ("chrome://", "chrome-extension://", "devtools://")
CHARTS = 8

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
    pytest.mark.skipif(os.geteuid() != 0, reason="unshare -n needs root to cut the browser's network"),
]
Browse = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """``browse(html, *flags)`` -> (the DOM after scripts ran, console lines of the page itself)."""

    def run(html: str, *flags: str) -> tuple[str, list[str]]:
        file = tmp_path / "report.html"
        file.write_text(html, "utf-8")
        command = ["unshare", "-n", str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags]
        done = subprocess.run(
            [*command, file.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        lines = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
        return done.stdout, [line for line in lines if not any(own in line for own in OWN_PAGES)]

    return run


@pytest.fixture(scope="module")
def html() -> str:
    made = make(dev="<img src=x onerror=document.title='owned'>")
    found = compare(made.run, made.tables, made.kallsyms, facts=made.facts)
    return page.render(made.run, found, made.tables, made.facts)


def test_every_picture_is_drawn_and_the_console_is_silent(browse: Browse, html: str) -> None:
    dom, console = browse(html, "--dump-dom")
    assert console == []
    assert f'data-drawn="{CHARTS}"' in dom
    plots = re.findall(
        r'<div class="chart js-plotly-plot" id="chart-([a-z0-9-]+)">(.*?)<figcaption>', dom, re.S
    )
    assert len(plots) == CHARTS
    for name, plot in plots:
        marks = len(re.findall(r'class="(?:point|js-line|slice)\b', plot))
        assert 'class="main-svg"' in plot and marks >= 2, name
    assert len(re.findall(r'<svg class="path"', dom)) == 4


def test_hostile_names_run_no_script(browse: Browse, html: str) -> None:
    dom, _ = browse(html, "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom)
    assert title is not None and "owned" not in title[1]
    assert "<img" not in dom


def test_an_error_in_the_page_would_be_seen(browse: Browse, html: str) -> None:
    _, console = browse(html.replace("draw();\n  media", "undefinedFunction();\n  media"), "--dump-dom")
    assert any("undefinedFunction" in line for line in console)


def test_a_load_from_outside_would_be_seen(browse: Browse, html: str) -> None:
    _, console = browse(
        html.replace("<main>", '<main><img src="https://example.invalid/x.png">', 1), "--dump-dom"
    )
    assert any("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("scheme", ["1", "0"], ids=["light", "dark"])
def test_the_screenshot_is_no_blank_sheet(browse: Browse, html: str, tmp_path: Path, scheme: str) -> None:
    shot = tmp_path / "page.png"
    browse(
        html,
        f"--screenshot={shot}",
        "--window-size=1280,4000",
        f"--blink-settings=preferredColorScheme={scheme}",
    )
    assert shot.stat().st_size > 150_000
