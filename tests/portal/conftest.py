"""What the tests of the portal's pages stand on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from offlinekit_portal.web import desk
from tests.portal.selling import take_mine
from tests.portal.visiting import Scene, build_company, play

Act: TypeAlias = "Callable[[Scene], Awaitable[None]]"


@pytest.fixture(scope="session")
def selling_company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company, built once."""
    return build_company(tmp_path_factory.mktemp("selling"))


@pytest.fixture
def selling(selling_company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Act], None]:
    """Plays a scene of a representative who has taken everything along."""
    monkeypatch.setattr(desk, "PROBE_S", 0.05)

    def run(act: Act) -> None:
        async def whole(scene: Scene) -> None:
            await take_mine(scene)
            await act(scene)

        play(selling_company, tmp_path, whole)

    return run
