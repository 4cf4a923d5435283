"""What the tests of the portal stand on: companies built once, and scenes with a representative at the portal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from offlinekit_portal.web import desk
from tests.portal.selling import take_mine
from tests.portal.trading import build_office
from tests.portal.visiting import Act, Scene, play


@pytest.fixture(scope="session")
def small_office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company for tests of the head office alone."""
    return build_office(tmp_path_factory.mktemp("office"))


@pytest.fixture(scope="session")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company in which every representative has twenty-five customers."""
    return build_office(tmp_path_factory.mktemp("company"), products=420, customers=500, prospects=40)


@pytest.fixture
def at_the_portal(company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Act], None]:
    """Plays a scene of a representative who has just signed in."""
    monkeypatch.setattr(desk, "PROBE_S", 0.05)
    return lambda act: play(company, tmp_path, act)


@pytest.fixture
def selling(at_the_portal: Callable[[Act], None]) -> Callable[[Act], None]:
    """Plays a scene of a representative who has taken everything along."""

    def run(act: Act) -> None:
        async def whole(scene: Scene) -> None:
            await take_mine(scene)
            await act(scene)

        at_the_portal(whole)

    return run
