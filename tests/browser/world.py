"""The processes that the browser tests drive, and the person at the browser."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import apsw
from attrs import frozen
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

HERE = Path(__file__).parent
SHOTS = HERE.parent.parent / "build" / "browser"
PICTURES = os.environ.get("PICTURES")  # where pictures for the documents go, if they are to be made
PICTURED = {"orders_offline"}
PASSWORD = "rota-2026-teste"
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]  # fmt: skip
SIZES: dict[str, dict[str, Any]] = {
    "1280": {"viewport": {"width": 1280, "height": 900}},
    "390": {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True},
}
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Program:
    """A process of the portal's, with the addresses that it says on its standard output."""

    def __init__(self, *arguments: object) -> None:
        env = os.environ | {"OFFLINEKIT_PORTAL_PASSWORD": PASSWORD}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "offlinekit_portal", *map(str, arguments)], stdout=subprocess.PIPE, text=True, env=env
        )

    def addresses(self, name: str) -> list[str]:
        """Waits for the line that begins with the name, and returns the URLs in it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(f"{name} http"):
                return [url.rstrip("/") for url in re.findall(r"http://\S+", line)]
        raise AssertionError(f"the process ended with {self.process.wait()} before it named its {name}")

    def stop(self) -> None:
        """Ends it."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=10)
        self.process.kill()
        self.process.communicate()


@frozen
class World:
    """Where the portal and the plug's switch are, and the head office's database."""

    url: str
    control: str
    database: Path

    def line(self, kind: str) -> None:
        """Switches the line between portal and head office."""
        body = json.dumps({"kind": kind}).encode()
        request = urllib.request.Request(f"{self.control}/mode", data=body, headers={"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=10).read()

    def taken(self) -> list[tuple[str, int]]:
        """The orders that devices sent and the head office has: local number and number."""
        db = apsw.Connection(str(self.database), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            return list(db.execute("SELECT local_number, number FROM orders WHERE local_number<>'' ORDER BY number"))
        finally:
            db.close()


class Reader:
    """A person at the browser: goes to pages, and on each looks for faults that a person would not see."""

    def __init__(self, context: BrowserContext, url: str, size: str) -> None:
        self.page: Page = context.new_page()
        self.url, self.size, self.shots = url, size, 0
        self.said: list[str] = []  # errors and warnings on the console
        self.found: list[str] = []  # faults of pages, by axe and by measure
        self.pages = 0
        self.page.set_default_timeout(15_000)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.said.append(f"page error: {error}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _picture(self, path: Path) -> None:
        """A picture for the documents, as small as it may be and still be read."""
        path.parent.mkdir(parents=True, exist_ok=True)
        told = self.page.context.new_cdp_session(self.page).send("Page.captureScreenshot", {"format": "webp", "quality": 82})
        path.write_bytes(base64.b64decode(told["data"]))

    def go(self, path: str) -> None:
        """Opens a page."""
        self.page.goto(self.url + path)

    def look(self, name: str) -> None:
        """Takes a screenshot, asks axe, and measures: nothing may stick out sideways."""
        expect(self.page.locator(".htmx-request, .old")).to_have_count(0)  # what was asked for has come
        self.page.evaluate("window.scrollTo(0, 0)")  # else the bar at the top may lie over half a button
        self.shots += 1
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SHOTS / f"{self.shots:02}_{name}_{self.size}.png", full_page=False)
        if PICTURES and name in PICTURED:
            self._picture(Path(PICTURES) / f"portal_{name}_{self.size}.webp")
        over = self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        self.found += [f"{name}: {over} px stick out at the side"] if over > 0 else []
        self.page.evaluate((HERE / "axe.min.js").read_text(encoding="utf-8"))
        found = self.page.evaluate("tags => axe.run({runOnly: {type: 'tag', values: tags}})", AXE_TAGS)
        self.found += [f"{name}: {v['id']}: {v['help']}: {n['html'][:200]}" for v in found["violations"] for n in v["nodes"]]
        self.pages += 1
