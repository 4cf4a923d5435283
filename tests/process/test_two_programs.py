"""Two programs on one replica: loads, small answers, reads and sweeps of one beside those of the other, and kills in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from offlinekit.store.sqlite.inspecting import check_file
from tests.process.program import Part, Program, authority_in

ROWS = 500
ROOT = Path(__file__).resolve().parents[2]


class Other:
    """A program in a process of its own."""

    def __init__(self, folder: Path) -> None:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.process.program", str(folder)], cwd=ROOT, env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.until("ready")

    def tell(self, line: str) -> None:
        """Says what to do, and does not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def until(self, word: str) -> Any:
        """Waits for a word, and returns what came with it."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the program ended with {self.process.wait()} instead of saying '{word}'"
        said, value = json.loads(line)
        assert said == word
        return value

    def do(self, line: str) -> Any:
        """Says what to do, and waits for the result."""
        self.tell(line)
        return self.until("done")

    def load_until(self, place: str) -> None:
        """Begins a pull, which stops there."""
        self.do(f"stop_at('{place}')")
        self.tell("program.pull()")
        self.until(place)

    def go_on(self) -> Any:
        """Lets it go on, and waits for the result."""
        return self.do("")

    def kill(self) -> None:
        """As a power cut would, for the process."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[], Other]]:
    """Starts programs; the authority has parts, and the replica holds an empty catalogue."""
    started: list[Other] = []

    def start() -> Other:
        started.append(Other(tmp_path))
        return started[-1]

    authority = authority_in(str(tmp_path))
    put(authority, 0, ROWS)
    authority.close()
    yield start
    for other in started:
        other.kill()


def put(authority: Any, first: int, last: int) -> None:
    """Parts at the authority."""
    authority.load(Part(sku=f"{n:04}", name="bolt") for n in range(first, last))


def more(folder: Path, first: int, last: int) -> None:
    """The same, by a program of its own."""
    authority = authority_in(str(folder))
    put(authority, first, last)
    authority.close()


def rename(folder: Path, count: int, name: str) -> None:
    """Some parts change their name."""
    authority = authority_in(str(folder))
    with authority.transaction() as tx:
        tx.connection.execute("UPDATE part SET name=? WHERE sku IN (SELECT sku FROM part ORDER BY sku LIMIT ?)", (name, count))
    authority.close()


def files(folder: Path) -> list[str]:
    """The replica's files beside the main one."""
    return sorted(n for n in os.listdir(folder) if n.startswith("replica.db.") and not n.endswith(("-wal", "-shm")))


def sound(folder: Path, rows: int) -> None:
    """The replica holds so many parts, every check passes, and nothing is left lying about."""
    last = Program(str(folder))
    try:
        assert last.pull() == "same"
        assert (last.count(), last.found("bolt")) == (rows, rows)
        assert files(folder) == [f"replica.db.part.{last.replica.store.generations['part']}"]
    finally:
        last.close()
        last.authority.close()
    assert check_file(str(folder / "replica.db")) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["built", "sealed"])
def test_opening_takes_nothing_away_from_a_program_that_builds(program: Callable[[], Other], tmp_path: Path, place: str) -> None:
    one = program()
    one.load_until(place)
    two = program()
    assert two.do("program.count()") == 0
    assert two.do("program.sell('o1')") == 0  # nor does it wait
    assert one.go_on() == "bulk"
    assert two.do("program.count()") == one.do("program.count()") == ROWS
    one.kill()
    assert two.do("program.pull()") == "same"
    two.do("program.close()")
    sound(tmp_path, ROWS)


@pytest.mark.slow
def test_opening_takes_nothing_away_from_a_program_that_fetches(program: Callable[[], Other], tmp_path: Path) -> None:
    one = program()
    one.do("program.ask(fetch=True)")
    two = program()
    assert any("incoming" in name for name in files(tmp_path))
    assert one.do("program.take()") == "bulk"
    assert two.do("program.count()") == ROWS
    more(tmp_path, ROWS, 2 * ROWS)
    one.do("program.ask(fetch=True)")
    one.kill()
    assert any("incoming" in name for name in files(tmp_path))
    assert program().do("program.pull()") == "bulk"
    two.do("program.close()")
    sound(tmp_path, 2 * ROWS)


@pytest.mark.slow
def test_the_next_read_sees_what_another_program_made_current_and_an_open_one_does_not(
    program: Callable[[], Other], tmp_path: Path
) -> None:
    one, two = program(), program()
    assert one.do("program.pull()") == "bulk"
    assert two.do("program.sell('o1')") == ROWS
    assert two.do("program.begin()") == 1
    more(tmp_path, ROWS, 2 * ROWS)
    assert one.do("program.pull()") == "bulk"
    assert len(files(tmp_path)) == 2, "what is being read was deleted"
    assert two.do("program.end()") == [ROWS - 1, ROWS, 2 * ROWS]
    assert two.do("program.sell('o2')") == 2 * ROWS
    one.do("program.pull()")
    assert len(files(tmp_path)) == 1, "what nobody reads any more was left"
    one.do("program.close()")
    two.do("program.close()")
    one.kill()
    two.kill()


@pytest.mark.slow
@pytest.mark.invariant("I7")
def test_of_two_programs_that_load_at_once_one_wins_and_the_other_asks_again(
    program: Callable[[], Other], tmp_path: Path
) -> None:
    one, two = program(), program()
    for other in (one, two):
        other.load_until("built")
    for other in (one, two):
        other.tell("")
    assert sorted(other.until("done") for other in (one, two)) == ["bulk", "stale"]
    for other in (one, two):
        assert other.do("program.pull()") == "same"
        assert other.do("program.count()") == ROWS
        other.do("program.close()")
    sound(tmp_path, ROWS)


@pytest.mark.slow
def test_a_small_answer_of_one_program_overtakes_the_load_of_another(program: Callable[[], Other], tmp_path: Path) -> None:
    one, two = program(), program()
    assert one.do("program.pull()") == "bulk"
    rename(tmp_path, 200, "nut")
    one.load_until("sealed")
    two.do("setattr(program.authority.puller, 'inline_rows', 1000)")
    assert two.do("program.pull()") == "delta"
    assert one.go_on() == "stale"
    assert one.do("program.found('nut')") == two.do("program.found('nut')") == 200
    rename(tmp_path, 200, "bolt")
    one.do("program.pull()")
    one.kill()
    two.do("program.close()")
    sound(tmp_path, ROWS)


@pytest.mark.slow
@pytest.mark.invariant("I7")
def test_a_small_answer_to_a_generation_that_was_replaced_is_asked_for_again(
    program: Callable[[], Other], tmp_path: Path
) -> None:
    one, two = program(), program()
    assert one.do("program.pull()") == "bulk"
    two.do("setattr(program.authority.puller, 'inline_rows', 1000)")
    more(tmp_path, ROWS, ROWS + 10)
    two.do("program.ask()")
    assert one.do("program.pull()") == "bulk"
    assert two.do("program.take()") == "stale"
    assert two.do("program.pull()") == "same"
    assert two.do("program.count()") == ROWS + 10
    one.kill()
    two.do("program.close()")
    sound(tmp_path, ROWS + 10)


@pytest.mark.slow
@pytest.mark.invariant("I5")
@pytest.mark.parametrize(("place", "held"), [("built", 0), ("sealed", 0), ("flipped", ROWS)])
def test_a_load_that_is_killed_leaves_nothing(program: Callable[[], Other], tmp_path: Path, place: str, held: int) -> None:
    one = program()
    one.do("program.sell('o1')")
    one.load_until(place)
    one.kill()
    assert len(files(tmp_path)) > 1
    two = program()
    assert two.do("program.count()") == held
    built = [name for name in files(tmp_path) if "incoming" not in name]  # what has come is not fetched again
    assert built == [f"replica.db.part.{0 if held == 0 else 1}"]
    assert two.do("program.pull()") == ("same" if held else "bulk")  # of what is loaded; the rest is loaded after it
    assert two.do("program.pull(load=True)") == ("delta" if held else "same")
    assert two.do("program.pull()") == "same"
    assert two.do("program.sell('o2')") == ROWS
    assert two.do("len(program.replica.pending())") == 2
    assert len(files(tmp_path)) == 1
    two.do("program.close()")
    assert check_file(str(tmp_path / "replica.db")) == []
