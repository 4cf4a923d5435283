"""Check that the installed wheels are whole: their packages import from them, not from the tree, are typed, and lack no data."""

import importlib
import sys
from importlib.metadata import distribution
from pathlib import Path

sources = Path(sys.argv[1]).resolve()
problems = []
for name in ["offlinekit", "offlinekit_adapters.http", "offlinekit_portal.office"]:
    place = Path(str(importlib.import_module(name).__file__)).resolve()
    if place.is_relative_to(sources):
        problems.append(f"{name} came from the tree: {place}")
for wheel, command, wanted in [
    ("offlinekit", "offlinekit", ["offlinekit/py.typed", "offlinekit_adapters/py.typed"]),
    ("offlinekit-portal", "offlinekit-portal", ["offlinekit_portal/py.typed"]),
]:
    files = {path.as_posix() for path in distribution(wheel).files or ()}
    problems += [f"the wheel of {wheel} has no {name}" for name in wanted if name not in files]
    if command not in {entry.name for entry in distribution(wheel).entry_points}:
        problems.append(f"the wheel of {wheel} has no command '{command}'")
    if wheel == "offlinekit-portal":
        package = sources / "examples" / "portal_app" / "offlinekit_portal"
        for folder in ("templates", "static", "locale"):
            have = {path.relative_to(package.parent).as_posix() for path in (package / folder).rglob("*") if path.is_file()}
            problems += [f"the wheel of {wheel} has no {name}" for name in sorted(have - files)]
sys.exit("\n".join(problems) or None)
