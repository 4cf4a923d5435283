"""An authority with two tenants and a replica of one of them, as fuzz targets have them; made once, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.world import Device, Head, scratch


@pytest.fixture(scope="session")
def made() -> str:
    """The folder of both, closed."""
    folder = scratch()
    head = Head(folder)
    Device(folder, head).replica.close()
    head.authority.close()
    return folder


@pytest.fixture
def place(made: str) -> Iterator[Path]:
    """A copy of it, in memory where there is such a place."""
    folder = Path(scratch())
    shutil.copytree(made, folder, dirs_exist_ok=True)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def head(place: Path) -> Iterator[Head]:
    """The authority."""
    made = Head(str(place))
    yield made
    made.authority.close()


@pytest.fixture
def device(head: Head, place: Path) -> Iterator[Device]:
    """Ana's replica."""
    made = Device(str(place), head)
    yield made
    made.replica.close()
