"""Figures that a run has printed, kept under `build/` with commit and date."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["keep", "kept"]

ROOT = Path(__file__).resolve().parents[1]


def kept(name: str) -> dict[str, Any]:
    """What `build/<name>.json` holds; nothing when there is no such file."""
    path = ROOT / "build" / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def keep(name: str, figures: Mapping[str, Any], *, seed: int | None = None) -> None:
    """Writes `build/<name>.json`; `seed` where chance had a part in it."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    stamp: dict[str, Any] = {"commit": git.stdout.strip(), "date": datetime.now(UTC).isoformat(timespec="seconds")}
    if seed is not None:
        stamp["seed"] = seed
    path = ROOT / "build" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**figures, **stamp}, indent=1, ensure_ascii=False) + "\n", "utf-8")
