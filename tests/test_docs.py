"""The documents are true: their programs run, their excerpts are excerpts, their invariants name tests that exist.

Fences that this file acts on, in README.md and in every file below docs/:

* `python run`: executed. The blocks of one file share a namespace and run in order, in a directory of their own.
* `text output`: exactly what the `python run` block before it printed.
* `python from=tests/adopter/device.py`: consecutive lines of that file, whatever their common indentation.
"""

from __future__ import annotations

import ast
import enum
import json
import re
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PROTOCOL = ROOT / "docs" / "protocol.md"
TUTORIAL = ROOT / "docs" / "tutorial.md"
DOCUMENTS = [README, *sorted((ROOT / "docs").rglob("*.md"))]
INVARIANTS = [f"I{n}" for n in range(1, 16)]
RUN_TIMEOUT_S = 120
# Written in place of tests by an invariant that is proved in a later release.
LATER = "*later*"

RUNNER = """
import contextlib, io, json, sys
blocks = json.load(sys.stdin)
namespace = {"__name__": "__main__"}
for path, line, source, expected in blocks:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile("\\n" * line + source, path, "exec"), namespace)
    if expected is not None and out.getvalue().rstrip() != expected.rstrip():
        sys.exit(f"{path}:{line}: the block printed\\n{out.getvalue()}\\nand not\\n{expected}")
"""


@frozen
class Block:
    """A fenced block: the words after its fence, its first line (counted from 0) and its text."""

    words: tuple[str, ...]
    line: int
    text: str


def blocks(document: str) -> Iterator[Block]:
    """List the fenced blocks of a Markdown text, indented ones included."""
    fence = re.compile(r"^( *)(```+|~~~+)[ ]*([^\n`]*)\n(.*?)^\1\2[ ]*$", re.M | re.S)
    for match in fence.finditer(document):
        line = document.count("\n", 0, match.start()) + 1
        yield Block(tuple(match[3].split()), line, textwrap.dedent(match[4]))


def programs(document: str) -> list[tuple[int, str, str | None]]:
    """List line, source and expected output of the blocks that are to be executed."""
    found: list[tuple[int, str, str | None]] = []
    for block in blocks(document):
        if block.words == ("python", "run"):
            found.append((block.line, block.text, None))
        elif block.words == ("text", "output"):
            assert found, f"line {block.line}: output without a program before it"
            found[-1] = (*found[-1][:2], block.text)
    return found


def run(name: str, document: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Execute the blocks of a document in an interpreter of their own, in `folder`."""
    tasks = json.dumps([(name, *program) for program in programs(document)])
    command = [sys.executable, "-X", "utf8", "-W", "error", "-c", RUNNER]
    return subprocess.run(
        command, input=tasks, cwd=folder, capture_output=True, encoding="utf-8", timeout=RUN_TIMEOUT_S, check=False
    )


def is_excerpt(excerpt: str, source: str) -> bool:
    """Say whether lines occur in a source one after the other, trailing spaces and common indentation aside."""
    wanted = [line.rstrip() for line in textwrap.dedent(excerpt).strip("\n").splitlines()]
    lines = [line.rstrip() for line in source.splitlines()]
    windows = (lines[at : at + len(wanted)] for at in range(len(lines) - len(wanted) + 1))
    return any(textwrap.dedent("\n".join(window)).splitlines() == wanted for window in windows)


def stray_excerpts(document: str, root: Path) -> list[str]:
    """List the blocks with `from=` that are no excerpt of the file they name."""
    problems = []
    for block in blocks(document):
        for word in block.words:
            if word.startswith("from="):
                path = root / word.removeprefix("from=")
                if not path.is_file() or not is_excerpt(block.text, path.read_text(encoding="utf-8")):
                    problems.append(f"line {block.line}: not found in {word.removeprefix('from=')}")
    return problems


def enforcement(document: str) -> dict[str, str]:
    """Map each invariant to the text between its `**I3**` and the next one or the next heading."""
    found: dict[str, str] = {}
    for match in re.finditer(r"\*\*(I\d+)\*\*(.*?)(?=\*\*I\d+\*\*|^#|\Z)", document, re.M | re.S):
        assert match[1] not in found, f"{match[1]} is stated twice"
        found[match[1]] = match[2]
    return found


def named_tests(text: str) -> set[str]:
    """List the test ids in a text: `tests/x.py::test_name`, or with a class between."""
    return set(re.findall(r"`(tests/[\w/]+\.py(?:::\w+)+)`", text))


def exists(test_id: str, root: Path = ROOT) -> bool:
    """Say whether a test is defined, as a function, in its class, or as a state machine's `Name = Machine.TestCase`."""
    file, *names = test_id.split("::")
    if not (root / file).is_file():
        return False
    body: list[ast.stmt] = ast.parse((root / file).read_text(encoding="utf-8")).body
    for name in names:
        for node in body:
            if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
                return True  # what it holds is made when the module is imported
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                body = node.body
                break
        else:
            return False
    return True


def mentions(text: str, name: str) -> bool:
    """Say whether a name occurs in a text as a word of its own."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def codes_in(namespace: dict[str, object]) -> set[str]:
    """Collect the rejection codes of a module: the values of every enumeration or Literal whose name ends in Code."""
    found: set[str] = set()
    for name, value in namespace.items():
        if name.endswith("Code"):
            if isinstance(value, type) and issubclass(value, enum.Enum):
                found |= {str(member.value) for member in value}
            elif typing.get_origin(value) is typing.Literal:
                found |= set(typing.get_args(value))
    return found


def text_of(path: Path) -> str:
    """Return the text of a document, empty when it is not there: `test_document_is_there` reports that."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


@pytest.mark.parametrize("path", [README, PROTOCOL, TUTORIAL], ids=lambda path: path.name)
def test_document_is_there(path: Path):
    if not path.exists():
        pytest.skip(f"{path.name} is not written yet")
    assert len(text_of(path)) > 200


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_programs_of_documents_run(path: Path, tmp_path: Path):
    if programs(text_of(path)):
        result = run(path.relative_to(ROOT).as_posix(), text_of(path), tmp_path)
        assert result.returncode == 0, result.stderr


def test_blocks_have_known_tags():
    known = {("python",), ("python", "run"), ("text",), ("text", "output")}
    strays = [
        f"{path.name}:{block.line}: {' '.join(block.words)}"
        for path in DOCUMENTS
        for block in blocks(text_of(path))
        if block.words[:1] in {("python",), ("text",)}
        if tuple(word for word in block.words if not word.startswith("from=")) not in known
    ]
    assert strays == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_excerpts_of_documents_are_excerpts(path: Path):
    assert stray_excerpts(text_of(path), ROOT) == []


def test_readme_shows_the_device_program():
    if not (ROOT / "tests" / "adopter" / "device.py").exists():
        pytest.skip("the adopter's program is not written yet")
    wanted = "from=tests/adopter/device.py"
    assert any(wanted in block.words for block in blocks(text_of(README))), f"README.md has no ```python {wanted}"


def test_links_of_documents_lead_somewhere():
    dead = [
        f"{path.name}: {link}"
        for path in DOCUMENTS
        for link in re.findall(r"\]\((?!\w+:|#)([^)#\s]+)[^)]*\)", text_of(path))
        if not (path.parent / link).exists()
    ]
    assert dead == []


def test_invariants_are_stated_and_enforced():
    if not PROTOCOL.exists():
        pytest.skip("docs/protocol.md is not written yet")
    stated = enforcement(text_of(PROTOCOL))
    assert sorted(stated, key=lambda name: int(name[1:])) == INVARIANTS
    assert [name for name, text in stated.items() if not named_tests(text) and LATER not in text] == []
    missing = [f"{name}: {test}" for name, text in stated.items() for test in named_tests(text) if not exists(test)]
    assert missing == []


def test_tests_of_invariants_are_named_in_the_protocol(request: pytest.FixtureRequest):
    if not PROTOCOL.exists():
        pytest.skip("docs/protocol.md is not written yet")
    stated = {name: named_tests(text) for name, text in enforcement(text_of(PROTOCOL)).items()}
    unnamed = set()
    for item in request.session.items:
        test_id = item.nodeid.partition("[")[0]
        for mark in item.iter_markers("invariant"):
            unnamed |= {f"{name}: {test_id}" for name in mark.args if not _is_named(test_id, stated.get(name, set()))}
    assert unnamed == set(), "carry the marker, and docs/protocol.md does not name them under that invariant"


def _is_named(test_id: str, named: set[str]) -> bool:
    return any(test_id == name or test_id.startswith(f"{name}::") for name in named)


def test_errors_and_codes_are_documented():
    if not (ROOT / "docs").is_dir() or not PROTOCOL.exists():
        pytest.skip("the documents are not written yet")
    from offlinekit import exceptions

    public = {name: getattr(exceptions, name) for name in exceptions.__all__}
    errors = {name for name, value in public.items() if isinstance(value, type) and issubclass(value, Exception)}
    codes = codes_in(public)
    text = "\n".join(text_of(path) for path in DOCUMENTS)
    assert codes, "offlinekit.exceptions exports no enumeration or Literal whose name ends in Code"
    assert sorted(name for name in errors | codes if not mentions(text, name)) == []


# ---- the readers themselves ---------------------------------------------------------------------------------------

SAMPLE = """
# A document

```python run
total = 40
```

* in a list:

  ```python run
  print(total + 2)
  ```

  ```text output
  42
  ```

```python
this is not run
```
"""


def test_blocks_share_a_namespace_and_their_output_is_compared(tmp_path: Path):
    assert run("sample.md", SAMPLE, tmp_path).returncode == 0
    wrong = run("sample.md", SAMPLE.replace("  42", "  43"), tmp_path)
    assert wrong.returncode != 0
    assert "sample.md:10: the block printed\n42" in wrong.stderr


def test_failing_block_is_reported_with_its_line(tmp_path: Path):
    result = run("sample.md", SAMPLE.replace("total + 2", "missing"), tmp_path)
    assert result.returncode != 0
    assert 'File "sample.md", line 11' in result.stderr


@pytest.mark.parametrize(
    ("excerpt", "expected"),
    [
        ("b = 2\nc = 3\n", True),
        ("if a:\n    b\n", True),
        ("a = 1\nc = 3\n", False),
        ("b = 2\n\nc = 3\n", False),
        ("b = 2 + 1\n", False),
    ],
)
def test_excerpt_is_compared_line_by_line(excerpt: str, expected: bool):
    source = "a = 1\nb = 2   \nc = 3\ndef f():\n    if a:\n        b\n"
    assert is_excerpt(excerpt, source) is expected


def test_stray_excerpt_is_found(tmp_path: Path):
    tmp_path.joinpath("device.py").write_text("a = 1\nb = 2\n", encoding="utf-8")
    document = "```python from=device.py\nb = 2\n```\n\n```python from=device.py\nb = 3\n```\n"
    assert stray_excerpts(document, tmp_path) == ["line 5: not found in device.py"]


def test_enforcement_is_read_from_lists_and_tables():
    document = """
* **I1** Survives. Enforced by `tests/test_a.py::test_b`,
  `tests/test_a.py::TestC::test_d`.
* **I2** Both or neither: *later*, with the crash sweep.

| | |
| **I3** | At most once | `tests/test_e.py::test_f` |

## Next heading, which names `tests/test_g.py::test_h`
"""
    found = {name: sorted(named_tests(text)) for name, text in enforcement(document).items()}
    assert found == {
        "I1": ["tests/test_a.py::TestC::test_d", "tests/test_a.py::test_b"],
        "I2": [],
        "I3": ["tests/test_e.py::test_f"],
    }
    assert LATER in enforcement(document)["I2"]


def test_named_tests_are_looked_up(tmp_path: Path):
    tmp_path.joinpath("tests").mkdir()
    text = "class TestA:\n    def test_b(self): ...\nTestM = Machine.TestCase\nasync def test_c(): ...\n"
    tmp_path.joinpath("tests", "t.py").write_text(text, encoding="utf-8")
    ids = ["t.py::TestA::test_b", "t.py::TestM::runTest", "t.py::test_c", "t.py::test_b", "t.py::TestA::x", "u.py::x"]
    assert [exists(f"tests/{i}", tmp_path) for i in ids] == [True, True, True, False, False, False]


def test_codes_are_collected():
    class RefusalCode(enum.StrEnum):
        STALE = "stale"
        NOT_ALLOWED = "not_allowed"

    assert codes_in({"RefusalCode": RefusalCode, "Other": int}) == {"stale", "not_allowed"}
    assert codes_in({"ErrorCode": typing.Literal["a", "b"]}) == {"a", "b"}
    assert mentions("a `stale` record", "stale")
    assert not mentions("a stale-read", "stale")
