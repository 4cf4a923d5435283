"""Fixtures of the tests of pulling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pull.pair import Pair


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Both sides."""
    made = Pair(tmp_path)
    yield made
    made.close()
