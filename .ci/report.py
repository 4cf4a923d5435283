"""Tell what a CI run did: seconds of each stage to the terminal and to build/ci_times.json, then the tests counted."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

BUDGET_S = 1200

folder = Path(sys.argv[1])
stages = []
seconds = 0.0
for line in (folder / "stages.tsv").read_text(encoding="utf-8").splitlines():
    name, start, end, outcome = line.replace(",", ".").split("\t")  # some locales write a decimal comma
    stages.append({"stage": name, "seconds": round(float(end) - float(start), 1), "outcome": outcome})
    seconds += float(end) - float(start)
total = round(seconds, 1)

counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
for report in folder.glob("*.xml"):
    for suite in ElementTree.parse(report).getroot().iter("testsuite"):
        for name in counts:
            counts[name] += int(suite.get(name, 0))
failed = counts["failures"] + counts["errors"]
passed = counts["tests"] - failed - counts["skipped"]

git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, encoding="utf-8", check=False)
times = {
    "commit": git.stdout.strip() if git.returncode == 0 else None,
    "date": datetime.now(UTC).isoformat(timespec="seconds"),
    "python": sys.version.split()[0],
    "seconds": total,
    "budget_s": BUDGET_S,
    "stages": stages,
    "passed": passed,
    "failed": failed,
    "skipped": counts["skipped"],
}
(folder.parent / "ci_times.json").write_text(json.dumps(times, indent=2) + "\n", encoding="utf-8")

print()
for stage in stages:
    print(f"{stage['stage']:<14}{stage['seconds']:>8} s  {stage['outcome']}")
print(f"{'total':<14}{total:>8} s  {'ok' if total <= BUDGET_S else 'over the budget'} ({BUDGET_S} s)")
print(f"{passed} passed, {failed} failed, {counts['skipped']} skipped")
sys.exit(1 if passed == 0 or failed else 0)
