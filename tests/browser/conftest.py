"""What the browser tests stand on: the head office, the plug and the portal as processes, and Chromium at two widths."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, sync_playwright

from tests.browser.world import ARGS, SIZES, Program, Reader, World


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The company, built once."""
    data = tmp_path_factory.mktemp("office")
    office = Program("office", "--data", data, "--port", 0)
    office.addresses("office")
    office.stop()
    return data


@pytest.fixture
def world(company: Path, tmp_path: Path) -> Iterator[World]:
    """The three processes over a copy of the company."""
    shutil.copytree(company, tmp_path / "office")
    programs: list[Program] = []

    def start(*arguments: object) -> Program:
        programs.append(Program(*arguments))
        return programs[-1]

    try:
        office = start("office", "--data", tmp_path / "office", "--port", 0)
        port = office.addresses("office")[0].rpartition(":")[2]
        line, control = start("plug", "--target", port, "--port", 0, "--control", 0).addresses("plug")
        portal = start("portal", "--office", line, "--data", tmp_path / "portal", "--port", 0, "--plug-control", control)
        yield World(portal.addresses("portal")[0], control, tmp_path / "office" / "office.db")
    finally:
        for program in reversed(programs):
            program.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium."""
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    assert path, "no Chromium: apt-get install chromium, or CHROMIUM=/path/to/chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, headless=True, args=ARGS)
        yield chromium
        chromium.close()


@pytest.fixture(params=list(SIZES))
def reader(request: pytest.FixtureRequest, browser: Browser, world: World) -> Iterator[Reader]:
    """A person at a desk, and one with a phone."""
    context = browser.new_context(locale="pt-BR", **SIZES[request.param])
    person = Reader(context, world.url, request.param)
    try:
        yield person
        assert not person.said + person.found, "\n".join(person.said + person.found)
    finally:
        with suppress(Error):
            context.close()
