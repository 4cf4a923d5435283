"""One plain writer for all tests of a module: starting Python anew for each would be most of their time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.authority.writing import PlainWriter


@pytest.fixture(scope="module")
def process() -> Iterator[PlainWriter]:
    """The process, with no file open."""
    with PlainWriter() as writer:
        yield writer


@pytest.fixture
def writer(process: PlainWriter) -> Iterator[PlainWriter]:
    """The process for one test, which opens files in it."""
    yield process
    process.close()
