"""Imports point down: `offlinekit/` is held to the tables in CONTRIBUTING.md, which this file reads.

To change a rule, change its table there. The checker works on source text and imports nothing; the tests at the end
prove on small trees that it finds what it should.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent
EXEMPT = re.compile(r"# layer-exempt: \S")
ANYWHERE = "everywhere"
NOWHERE = "nowhere"


@frozen
class Rules:
    """The two tables: `layers` maps a module to its row from the top, `outside` a foreign name to where it may be."""

    layers: dict[str, int]
    outside: dict[str, tuple[str, ...]]

    @classmethod
    def parse(cls, document: str) -> Rules:
        """Read both tables from the text of CONTRIBUTING.md."""
        layers: dict[str, int] = {}
        for row, cells in enumerate(_table(document, "layers")):
            for name in re.findall(r"`([\w.]+)`", cells[0]):
                assert name not in layers, f"`{name}` stands in two rows of the layer table"
                layers[name] = row
        outside: dict[str, tuple[str, ...]] = {}
        for name, used_in, *_ in _table(document, "outside"):
            places = re.findall(r"`([\w.]+)`", used_in) or [used_in]
            assert set(places) & {ANYWHERE, NOWHERE} or all(p in layers for p in places), f"{name}: where is {used_in}?"
            outside[name.strip("`")] = tuple(places)
        return cls(layers, outside)

    def place(self, module: str) -> str | None:
        """Find the entry of the layer table that covers a module: the longest one that is a prefix of its name."""
        return max((name for name in self.layers if covers(name, module)), key=len, default=None)

    def foreign(self, name: str) -> str | None:
        """Find the entry of the second table that covers a foreign name."""
        return max((known for known in self.outside if covers(known, name)), key=len, default=None)


@frozen
class Use:
    """A dotted foreign or own name that one line of a module imports or uses."""

    name: str
    line: int
    is_import: bool


def covers(prefix: str, name: str) -> bool:
    """Say whether a dotted name is `prefix` or lies below it."""
    return name == prefix or name.startswith(f"{prefix}.")


def _table(document: str, name: str) -> list[list[str]]:
    """Return the cells of the rows of the Markdown table below the comment `<!-- table: name -->`."""
    _, mark, rest = document.partition(f"<!-- table: {name} -->")
    assert mark, f"CONTRIBUTING.md has no table '{name}'"
    lines = rest.lstrip().split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in lines]


def modules(root: Path, package: str) -> dict[str, Path]:
    """Map the dotted names of a package's modules, without the package's own name, to their files."""
    found = {}
    for path in sorted((root / package).rglob("*.py")):
        parts = path.relative_to(root / package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


def uses(path: Path, module: str, package: str) -> Iterator[Use]:
    """List what a module imports, relative imports resolved, and the dotted names it reaches through its imports."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    here = [package, *module.split(".")] if module != "__init__" else [package]
    parent = here if path.name == "__init__.py" else here[:-1]
    tree = ast.parse(source, str(path))
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            named = [(alias.name, alias.asname or alias.name.partition(".")[0]) for alias in node.names]
            known.update((local, name if "." not in name else local) for name, local in named)
        elif isinstance(node, ast.ImportFrom):
            base = parent[: len(parent) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            named = [(f"{start}.{alias.name}", alias.asname or alias.name) for alias in node.names]
            known.update((local, name) for name, local in named)
        else:
            continue
        if not any(EXEMPT.search(line) for line in lines[node.lineno - 1 : node.end_lineno]):
            yield from (Use(name, node.lineno, is_import=True) for name, _ in named)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            if not EXEMPT.search(lines[node.lineno - 1]):
                yield Use(f"{known[node.value.id]}.{node.attr}", node.lineno, is_import=False)


def own_target(name: str, known: dict[str, Path], package: str) -> str | None:
    """Turn an imported name of our own into the module it comes from; None for a foreign name."""
    if not covers(package, name):
        return None
    inner = name.removeprefix(package).lstrip(".")
    while inner and inner not in known:
        inner = inner.rpartition(".")[0]
    return inner or "__init__"


def violations(root: Path, rules: Rules, package: str = "offlinekit") -> list[str]:
    """Check a source tree against the tables; each problem is one line that says where it is and what to do."""
    known = modules(root, package)
    problems = [
        f"CONTRIBUTING.md lists `{name}`, and no such module is there"
        for name in rules.layers
        if not any(covers(name, module) for module in known)
    ]
    graph: dict[str, set[str]] = {module: set() for module in known}
    for module, path in known.items():
        place = rules.place(module)
        if place is None:
            problems.append(f"{path.relative_to(root)}: add `{module}` to the layer table in CONTRIBUTING.md")
            continue
        for use in uses(path, module, package):
            where = f"{path.relative_to(root)}:{use.line}"
            target = own_target(use.name, known, package)
            if target is None:
                problems += _foreign_problem(where, module, use, rules)
            elif use.is_import:
                if target != module:
                    graph[module].add(target)
                problems += _own_problem(where, place, target, rules)
    return sorted({*problems, *_cycles(graph)})


def _own_problem(where: str, place: str, target: str, rules: Rules) -> Iterator[str]:
    aim = rules.place(target)
    if aim is None or aim == place:
        return
    if rules.layers[aim] < rules.layers[place]:
        yield f"{where}: `{place}` imports `{target}`, which is above it"
    elif rules.layers[aim] == rules.layers[place]:
        yield f"{where}: `{place}` imports `{target}` of its own row; one of them needs a row of its own"


def _foreign_problem(where: str, module: str, use: Use, rules: Rules) -> Iterator[str]:
    entry = rules.foreign(use.name)
    if entry is None:
        if use.is_import and use.name.partition(".")[0] not in sys.stdlib_module_names:
            yield f"{where}: `{use.name}` comes from a package that CONTRIBUTING.md does not list"
        return
    places = rules.outside[entry]
    if places != (ANYWHERE,) and not any(covers(place, module) for place in places):
        yield f"{where}: `{entry}` is not allowed in `{module}`; CONTRIBUTING.md: {', '.join(places)}"


def _cycles(graph: dict[str, set[str]]) -> Iterator[str]:
    """Report each group of modules that reach each other, as one closed path through it."""
    reach = {module: _reachable(graph, module) for module in graph}
    told: set[str] = set()
    for module in sorted(graph):
        group = {other for other in reach[module] if module in reach[other]}
        if module in group and module not in told:
            told |= group
            yield f"import cycle: {', '.join(sorted(group))}"


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    todo = list(graph[start])
    while todo:
        module = todo.pop()
        if module not in seen:
            seen.add(module)
            todo += graph.get(module, ())
    return seen


def private_uses(root: Path, package: str, of: str = "offlinekit") -> list[str]:
    """List the private names of another package that a package imports or reaches through its imports."""
    return [
        f"{path.relative_to(root)}:{use.line}: `{use.name}` is private"
        for module, path in modules(root, package).items()
        for use in uses(path, module, package)
        if covers(of, use.name) and re.search(r"\._(?!_)", use.name)
    ]


def test_imports_of_the_library_follow_the_tables():
    rules = Rules.parse((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    problems = violations(ROOT, rules)
    assert not problems, "\n".join(problems)


def test_adapters_import_public_names_only():
    problems = private_uses(ROOT / "adapters", "offlinekit_adapters")
    assert not problems, "\n".join(problems)


# ---- the checker itself -------------------------------------------------------------------------------------------

TABLES = """
<!-- table: layers -->

| modules | what |
| --- | --- |
| `__init__` | |
| `upper` | |
| `left`, `right` | |
| `lower` | |

<!-- table: outside -->

| name | used in | why |
| --- | --- | --- |
| `attrs` | everywhere | |
| `apsw` | `upper` | |
| `asyncio.start_server` | nowhere | |
| `os.rename` | nowhere | |
"""
CLEAN: dict[str, str | None] = {
    "__init__": "",
    "upper/__init__": "",
    "upper/inner": "",
    "left": "",
    "right": "",
    "lower": "",
}


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"lower": "import offlinekit.upper.inner"}, "lower.py:1: `lower` imports `upper.inner`, which is above"),
        ({"lower": "from . import left"}, "`lower` imports `left`, which is above"),
        ({"upper/inner": "from .. import x"}, "`upper` imports `__init__`, which is above"),
        ({"lower": "def f():\n    import offlinekit.left"}, "lower.py:2: `lower` imports `left`"),
        ({"lower": "if TYPE_CHECKING:\n    from offlinekit.left import x"}, "`lower` imports `left`"),
        ({"left": "from offlinekit import right"}, "`left` imports `right` of its own row"),
        ({"upper/inner": "from offlinekit import upper", "upper/__init__": "from .inner import x"}, "import cycle: "),
        ({"stray": ""}, "add `stray` to the layer table"),
        ({"left": "import requests"}, "`requests` comes from a package that CONTRIBUTING.md does not list"),
        ({"left": "import apsw.ext"}, "`apsw` is not allowed in `left`; CONTRIBUTING.md: upper"),
        ({"left": "import os\nos.rename(a, b)"}, "left.py:2: `os.rename` is not allowed"),
        ({"left": "import os as o\no.rename(a, b)"}, "`os.rename` is not allowed"),
        ({"left": "from os import rename as r"}, "`os.rename` is not allowed"),
        ({"left": "import asyncio\nasyncio.start_server()"}, "`asyncio.start_server` is not allowed"),
        ({"right": None}, "lists `right`, and no such module is there"),
    ],
)
def test_checker_finds(tmp_path: Path, changed: dict[str, str | None], complaint: str):
    problems = violations(_tree(tmp_path, CLEAN | changed), Rules.parse(TABLES))
    assert len(problems) == 1
    assert complaint in problems[0]


def test_checker_lets_through_what_the_tables_allow(tmp_path: Path):
    fine: dict[str, str | None] = {
        "__init__": "from .upper.inner import x\nfrom offlinekit.lower import y",
        "upper/inner": "import apsw, attrs, os.path, asyncio\nfrom offlinekit.lower import y\nos.path.join(a)",
        "upper/__init__": "from offlinekit.upper.inner import x",
        "left": "if TYPE_CHECKING:\n    from offlinekit.upper import (  # layer-exempt: a name in an annotation\n  x)",
    }
    assert violations(_tree(tmp_path, CLEAN | fine), Rules.parse(TABLES)) == []


def test_checker_finds_private_names_in_adapters(tmp_path: Path):
    text = "from offlinekit._ddl import x\nimport offlinekit\nofflinekit._secret\nfrom offlinekit import __version__"
    _tree(tmp_path, {"http": text}, "offlinekit_adapters")
    assert [line.split(": ")[0] for line in private_uses(tmp_path, "offlinekit_adapters")] == [
        str(Path("offlinekit_adapters/http.py:1")),
        str(Path("offlinekit_adapters/http.py:3")),
    ]


def _tree(root: Path, files: Mapping[str, str | None], package: str = "offlinekit") -> Path:
    for name, text in files.items():
        path = root / package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text, encoding="utf-8")
    return root
