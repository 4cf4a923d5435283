"""Figures that a run has printed, kept under `build/` with commit and date."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "keep", "kept", "stamp"]

ROOT = Path(__file__).resolve().parents[1]


def kept(name: str) -> dict[str, Any]:
    """What `build/<name>.json` holds; nothing when there is no such file."""
    path = ROOT / "build" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def stamp(seed: int | None = None) -> dict[str, Any]:
    """Where figures come from: commit, date, and `seed` where chance had a part in them."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    found: dict[str, Any] = {"commit": git.stdout.strip(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    return found if seed is None else found | {"seed": seed}


def keep(name: str, figures: Mapping[str, Any], *, seed: int | None = None) -> None:
    """Writes `build/<name>.json`; `seed` where chance had a part in it."""
    path = ROOT / "build" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**figures, **stamp(seed)}, indent=1, ensure_ascii=False) + "\n", "utf-8")
