"""An application that maps the same tables with SQLAlchemy, in a process of its own: all that it writes is seen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from offlinekit.nodes import everything
from offlinekit.schema import Collection, Field, Schema, field
from offlinekit.store.sqlite.authority_store import SQLiteStore


class Author(Collection):
    """As the application maps it."""

    id: Field[int] = field(key=True)
    name: Field[str]


class Book(Collection):
    """As the application maps it."""

    isbn: Field[str] = field(key=True)
    author_id: Field[int | None] = field(ref=Author)
    title: Field[str]
    number: Field[int | None]


SCHEMA = Schema(Author, Book)
Run = Callable[[str], None]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Run]]:
    """The file and what runs a step of the application."""
    path = tmp_path_factory.mktemp("mapped") / "books.db"
    script = Path(__file__).with_name("mapped_writer.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def run(step: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{step}\n")
        assert process.stdout.readline() == "done\n", step

    yield path, run
    process.communicate()


@pytest.mark.slow
def test_all_that_a_mapped_application_writes_is_seen(application: tuple[Path, Run]) -> None:
    path, run = application
    store = SQLiteStore(path)
    store.bind(SCHEMA)
    keys: dict[str, dict[int, object]] = {"author": {}, "book": {}}

    def seen(step: str) -> dict[str, set[object]]:
        with store.snapshot() as snapshot:
            before = snapshot.cursor
        run(step)
        found = {}
        with store.snapshot() as snapshot:
            for info in SCHEMA:
                all_ = snapshot.evaluate(info.name, everything, {info.name: everything})
                keys[info.name] |= {int(str(row[0])): row[1] for row in snapshot.rows(info.name, info.key, all_)}
                if touched := snapshot.touched(info.name, before):
                    found[info.name] = {keys[info.name].get(n, "gone") for n in touched}
                assert not snapshot.unfit(info.name)
        return found

    assert seen("begin") == {"author": {1, 2}, "book": {"a", "b", "c"}}
    assert seen("add") == {"book": {"d"}}
    assert seen("change") == {"book": {"a"}}
    assert seen("same") == {}
    assert seen("undone") == {}
    assert seen("orphan") == {"book": {"b"}}
    assert seen("merge") == {"book": {"c", "e"}}
    assert seen("bulk") == {"author": {*range(10, 28), "gone"}}
    assert seen("put") == {"book": {"a", "c"}}
    assert seen("put") == {}
    assert seen("replace") == {"book": {"c", "z"}}
    assert seen("rename") == {"book": {"a", "a2"}}
    assert seen("gone") == {"author": {1, 2}, "book": {"a2", "d", "e"}}
    store.close()
