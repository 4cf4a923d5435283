"""Check that the installed wheel is whole: both packages import from it, not from the tree, and both are typed."""

import importlib
import sys
from importlib.metadata import distribution
from pathlib import Path

sources = Path(sys.argv[1]).resolve()
problems = []
for name in ["offlinekit", "offlinekit_adapters.http"]:
    place = Path(str(importlib.import_module(name).__file__)).resolve()
    if place.is_relative_to(sources):
        problems.append(f"{name} came from the tree: {place}")
files = {str(path) for path in distribution("offlinekit").files or ()}
for marker in ["offlinekit/py.typed", "offlinekit_adapters/py.typed"]:
    if marker not in files:
        problems.append(f"the wheel has no {marker}")
if "offlinekit" not in {entry.name for entry in distribution("offlinekit").entry_points}:
    problems.append("the wheel has no command 'offlinekit'")
sys.exit("\n".join(problems) or None)
