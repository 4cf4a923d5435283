"""docs/security.md says what is so: its tests are there, its errors documented, its limits those of the code, and all of them."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from offlinekit import exceptions
from tests.test_docs import exists, named_tests

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
UNITS = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
HEAD = "| input | what happens | error | test |"
# Not limits on what anybody sends: how often this package tries, and its shortest step.
NOT_OF_INPUT = {"offlinekit.sync.REPEATS_MAX", "offlinekit.store.sqlite.replica_files.LOOKS_MAX"}


def table(head: str) -> Iterator[list[str]]:
    """The cells of every row of every table with that head."""
    for part in PAGE.split(head)[1:]:
        for line in part.splitlines()[2:]:
            if not line.startswith("|"):
                break
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def number(text: str) -> int:
    """`8 MiB`, `10,000` or `3,600 s` as a number."""
    digits, _, unit = text.partition(" ")
    return int(digits.replace(",", "")) * UNITS[unit]


def constants() -> Iterator[str]:
    """Every `…_MAX` that a module of the library or of its adapters declares."""
    for root, package in ((ROOT, "offlinekit"), (ROOT / "adapters", "offlinekit_adapters")):
        for path in sorted((root / package).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts)
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                for target in node.targets if isinstance(node, ast.Assign) else []:
                    if isinstance(target, ast.Name) and re.fullmatch(r"[A-Z_]+_MAX", target.id) and "testing" not in module:
                        yield f"{module}.{target.id}"


def test_every_input_names_its_error_and_a_test_that_is_there() -> None:
    rows = list(table(HEAD))
    assert len(rows) > 30
    known = {*exceptions.__all__, *exceptions.RefusalCode, *exceptions.RejectionCode, "fork"}
    for told, happens, error, tests in rows:
        assert told, happens
        assert error == "none" or re.search(r"\b4\d\d\b", error) or set(re.findall(r"`(\w+)`", error)) <= known, error
        assert error == "none" or re.search(r"`|\b4\d\d\b", error), told
        assert named_tests(tests), told
    assert sorted(test for test in named_tests(PAGE) if not exists(test)) == []


@pytest.mark.parametrize("row", list(table("| what | limit | constant |")), ids=lambda row: row[2].strip("`"))
def test_a_limit_is_that_of_the_code(row: list[str]) -> None:
    module, _, name = row[2].strip("`").rpartition(".")
    assert getattr(importlib.import_module(module), name) == number(row[1])


def test_no_limit_is_left_out() -> None:
    told = {row[2].strip("`") for row in table("| what | limit | constant |")}
    assert sorted(set(constants()) - told - NOT_OF_INPUT) == []


def test_every_hostile_test_is_in_the_page() -> None:
    """A test of hostile input that no table names is one that nobody finds."""
    tests = {
        f"{path.relative_to(ROOT).as_posix()}::{node.name}"
        for path in sorted((ROOT / "tests" / "hostile").glob("test_*.py"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not node.name.startswith("test_the_same_")
    }
    assert sorted(tests - named_tests(PAGE)) == []
