"""The shape of files: each says what it is, none grows too long, and none names what does not belong in a repository.

An exception is a line in one of the tables below, with its reason; a line that is no longer needed fails as well.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

# Python files of more than FILE_LINES_MAX lines, by path.
LONG_FILES: dict[str, str] = {}
# Functions of more than FUNCTION_LINES_MAX lines, as `path::name`.
LONG_FUNCTIONS: dict[str, str] = {}
# Test files that wait by the clock, by path.
SLEEPING_FILES: dict[str, str] = {}

# What no file may mention. Each pattern has a character class in it, so that this file does not match itself.
BANNED = {
    r"(?<![\w.])/wor[k]/|/roo[t]/|/hom[e]/\w": "a path of somebody's machine",
    r"pypi\.or[g]|pythonhosted\.or[g]|npmjs\.or[g]|npmjs\.co[m]": "the host of a package registry",
    r"\bassistan[t]s?\b|\blanguage mode[l]s?\b|\bcha[t]bots?\b": "tools of the authors",
    r"\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b": "a note to oneself; open an issue or do it",
    r"\bblack[l]ist|\bwhite[l]ist": "say refused and allowed",
}
TEXT_SUFFIXES = {".py", ".md", ".toml", ".txt", ".sql", ".html", ".css", ".js", ".mjs", ".json", ".cfg", ".yml", ".sh"}
TEXT_NAMES = {"Makefile", "run", ".gitignore"}
MADE_BY_RUNS = {".git", ".venv", "build", "dist", "node_modules", "__pycache__", ".hypothesis"}
CACHES = re.compile(r"\.\w+_cache")


def walk(folder: Path = ROOT) -> Iterator[Path]:
    """List the files of the tree that people wrote."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if path.name not in MADE_BY_RUNS and not CACHES.fullmatch(path.name):
                yield from walk(path)
        elif path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES:
            yield path


TEXTS = {path.relative_to(ROOT).as_posix(): path for path in walk()}
# Measured once and kept as they ran: only what they mention is judged.
SPIKES = "benchmarks/spikes/"
SOURCES = {name: path for name, path in TEXTS.items() if path.suffix == ".py" and not name.startswith(SPIKES)}


def read(path: Path) -> str:
    """Return the text of a file."""
    return path.read_text(encoding="utf-8")


def says_what_it_is(source: str) -> bool:
    """Say whether a source text begins with a docstring, or with a comment after an optional `#!` line."""
    if ast.get_docstring(ast.parse(source)):
        return True
    first = next((line for line in source.splitlines() if line.strip() and not line.startswith("#!")), "")
    return not source.strip() or bool(re.match(r"# *\w", first))


def long_functions(source: str) -> set[str]:
    """Name the functions of a source text that have more than FUNCTION_LINES_MAX lines, decorators not counted."""
    return {
        node.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or node.lineno) - node.lineno + 1 > FUNCTION_LINES_MAX
    }


def sleeps(source: str) -> bool:
    """Say whether a source text waits by the clock; `asyncio.sleep(0)` only lets others run."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "sleep":
            if [ast.unparse(arg) for arg in node.args] != ["0"]:
                return True
    return False


def mocks(source: str) -> bool:
    """Say whether a source text imports the standard library's mocks."""
    return bool(re.search(r"^\s*(from unittest(\.mock)? import.*mock|import unittest\.mock)", source, re.M | re.I))


def banned(text: str) -> list[str]:
    """List what a text mentions and may not, as `line: match (reason)`."""
    return [
        f"{text.count(chr(10), 0, match.start()) + 1}: {match.group()} ({reason})"
        for pattern, reason in BANNED.items()
        for match in re.finditer(pattern, text)
    ]


def test_sources_say_what_they_are():
    assert [name for name, path in SOURCES.items() if not says_what_it_is(read(path))] == []


def test_files_are_short():
    long = {name for name, path in SOURCES.items() if len(read(path).splitlines()) > FILE_LINES_MAX}
    assert long == set(LONG_FILES)


def test_functions_are_short():
    long = {f"{name}::{function}" for name, path in SOURCES.items() for function in long_functions(read(path))}
    assert long == set(LONG_FUNCTIONS)


def test_files_mention_nothing_banned():
    found = [f"{name}:{problem}" for name, path in TEXTS.items() for problem in banned(read(path))]
    assert not found, "\n".join(found)


def test_tests_do_not_sleep():
    sleeping = {name for name, path in SOURCES.items() if name.startswith("tests/") and sleeps(read(path))}
    assert sleeping == set(SLEEPING_FILES)


def test_tests_do_not_mock():
    assert [name for name, path in SOURCES.items() if name.startswith("tests/") and mocks(read(path))] == []


def test_lines_of_skips_name_tests_that_exist():
    lines = read(ROOT / "tests" / "skips.txt").splitlines()
    names = [line.partition("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    missing = []
    for name in names:
        file, _, test = name.partition("::")
        tree = ast.parse(read(SOURCES[file]) if file in SOURCES else "")
        known = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
        if file not in SOURCES or (test and not {part.partition("[")[0] for part in test.split("::")} <= known):
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""What it is."""\nimport os', True),
        ("# what it is\nimport os", True),
        ("#!/usr/bin/env python3\n# what it is", True),
        ("", True),
        ("import os\n# what it is", False),
        ("#!/usr/bin/env python3\nimport os", False),
    ],
)
def test_beginning_is_judged(source: str, expected: bool):
    assert says_what_it_is(source) is expected


def test_long_function_is_found():
    body = "    pass\n" * FUNCTION_LINES_MAX
    assert long_functions(f"def long():\n{body}\ndef short():\n    pass\n") == {"long"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [("time.sleep(1)", True), ("await asyncio.sleep(delay)", True), ("await asyncio.sleep(0)", False), ("x()", False)],
)
def test_sleep_is_found(source: str, expected: bool):
    assert sleeps(f"async def f():\n    {source}") is expected


def test_mention_is_found_with_its_line():
    text = "fine\nsee /wor" + "k/x\n/framework/work/x\n"
    assert banned(text) == ["2: /wor" + "k/ (a path of somebody's machine)"]
