"""The public surface is written down: every public module has a truthful `__all__`, and what it names is documented."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = {"offlinekit": ROOT, "offlinekit_adapters": ROOT / "adapters"}
# Names of the everyday module that no submodule exports.
OWN_NAMES = {"__version__"}


def public_modules() -> dict[str, Path]:
    """Map the dotted names of all modules without a leading underscore in any part to their files."""
    found = {}
    for package, root in SOURCE_ROOTS.items():
        for path in sorted((root / package).rglob("*.py")):
            parts = list(path.relative_to(root).with_suffix("").parts)
            if parts[-1] == "__init__":
                del parts[-1]
            if not any(part.startswith("_") for part in parts):
                found[".".join(parts)] = path
    return found


MODULES = public_modules()


def exported(module: ModuleType) -> list[str]:
    """Return a module's `__all__`; an absent one counts as empty."""
    return list(getattr(module, "__all__", ()))


def undocumented(source: str, names: set[str]) -> list[str]:
    """List the classes and functions among `names` that a source text defines without a docstring."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    defined = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds) and node.name in names]
    documented = {node.name for node in defined if ast.get_docstring(node)}  # one overload may speak for the others
    top = {node.name for node in ast.parse(source).body if isinstance(node, kinds)}
    return sorted({node.name for node in defined if node.name in top} - documented)


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_it_exports(name: str):
    module = importlib.import_module(name)
    names = exported(module)
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    assert [n for n in names if not hasattr(module, n)] == [], f"{name}.__all__ names what is not there"
    assert len(names) == len(set(names)), f"{name}.__all__ names something twice"
    assert [n for n in names if n.startswith("_") and n not in OWN_NAMES] == [], f"{name} exports private names"


@pytest.mark.parametrize("name", MODULES)
def test_public_classes_and_functions_have_docstrings(name: str):
    names = set(exported(importlib.import_module(name)))
    assert undocumented(MODULES[name].read_text(encoding="utf-8"), names) == []


def test_everyday_names_come_from_public_modules():
    import offlinekit

    homes: dict[str, list[object]] = {}
    for name in MODULES:
        if name.startswith("offlinekit."):
            module = importlib.import_module(name)
            for exported_name in exported(module):
                homes.setdefault(exported_name, []).append(getattr(module, exported_name))
    strays = [
        name
        for name in exported(offlinekit)
        if name not in OWN_NAMES and not any(getattr(offlinekit, name) is home for home in homes.get(name, ()))
    ]
    assert strays == [], "offlinekit re-exports names that no public module lists in its __all__"


def test_undocumented_names_are_found():
    source = '''
class Silent:
    def inner(self): ...
def spoken():
    """Says something."""
def silent(): ...
def unlisted(): ...
'''
    assert undocumented(source, {"Silent", "spoken", "silent", "inner"}) == ["Silent", "silent"]
