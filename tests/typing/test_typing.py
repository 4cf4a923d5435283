"""What users write is checked as they write it: snippets that must pass, and mistakes that must be found.

`pass_*.py` must be clean and every line of `fail_*.py` that ends in `# error` must be reported, by `mypy --strict` and
by pyright alike, and no other line may be. A statement with a mistake stands on one line. Both checkers run outside
the tree, with no configuration of this project: `offlinekit` is found as installed, typed by its `py.typed`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "build" / ".mypy_typing_cache"
SNIPPETS = sorted([*HERE.glob("pass_*.py"), *HERE.glob("fail_*.py")])
MARK = re.compile(r"# error\s*$")
TIMEOUT_S = 240

# A file whose marks are wrong, to prove that the harness sees it: line 1 is wrong unmarked, line 2 is marked and right.
WRONGLY_MARKED = 'unmarked: int = "text"\nright: int = 1  # error\nfound: str = 1  # error\n'

Found = dict[Path, dict[int, str]]


def run(command: list[str], folder: Path) -> str:
    """Run a checker and return what it printed; findings are no failure, anything else is."""
    result = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", timeout=TIMEOUT_S, check=False)
    assert result.returncode in {0, 1}, result.stdout + result.stderr
    return result.stdout


def mypy(files: Iterable[Path], folder: Path) -> Found:
    """Return the lines that `mypy --strict` reports, by file."""
    options = ["--strict", "--config-file=", "--output=json", f"--cache-dir={CACHE}"]
    found: Found = {}
    for line in run([sys.executable, "-m", "mypy", *options, *map(str, files)], folder).splitlines():
        report = json.loads(line)
        if report["severity"] == "error":
            found.setdefault(folder.joinpath(report["file"]).resolve(), {})[report["line"]] = report["message"]
    return found


def pyright(files: Iterable[Path], folder: Path) -> Found:
    """Return the lines that pyright reports in its standard mode, by file."""
    options = ["--outputjson", "--pythonpath", sys.executable]
    found: Found = {}
    output = run([sys.executable, "-m", "pyright", *options, *map(str, files)], folder)
    for report in json.loads(output)["generalDiagnostics"]:
        if report["severity"] == "error":
            line = report["range"]["start"]["line"] + 1
            found.setdefault(Path(report["file"]).resolve(), {})[line] = report["message"]
    return found


def disagreements(path: Path, reported: dict[int, str]) -> list[str]:
    """Compare the marks of a file with what a checker reported; each difference is one line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    marked = {number for number, line in enumerate(lines, 1) if MARK.search(line)}
    return [
        *(f"{path.name}:{line}: marked, but not reported" for line in sorted(marked - set(reported))),
        *(f"{path.name}:{line}: not marked: {reported[line]}" for line in sorted(set(reported) - marked)),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checker_reports_the_marked_lines_and_no_others(checker: Callable[..., Found], tmp_path: Path):
    planted = tmp_path.resolve() / "fail_planted.py"
    planted.write_text(WRONGLY_MARKED, encoding="utf-8")
    found = checker([*SNIPPETS, planted], tmp_path)

    problems = [problem for path in SNIPPETS for problem in disagreements(path, found.get(path, {}))]
    assert not problems, "\n".join(problems)

    marked_but_right, wrong_but_unmarked = disagreements(planted, found[planted])
    assert marked_but_right == "fail_planted.py:2: marked, but not reported"
    assert wrong_but_unmarked.startswith("fail_planted.py:1: not marked: ")


def test_snippets_are_marked_as_their_names_say():
    for path in SNIPPETS:
        marks = [line for line in path.read_text(encoding="utf-8").splitlines() if MARK.search(line)]
        assert bool(marks) is path.name.startswith("fail_"), f"{path.name}: {len(marks)} marks"
