"""The processes of a benchmark: servers that print their port, devices that take orders as lines of JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.evidence import ROOT

__all__ = ["Device", "Server", "http_json", "peak_mb", "run"]


def peak_mb(pid: int) -> float | None:
    """The most memory that a process had so far; None where the system does not tell.

    Not `ru_maxrss`, which a new process takes over from the one that started it.
    """
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    found = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
    return int(found[0].split()[1]) / 1024 if found else None


def run(module: str, *arguments: str) -> str:
    """Runs a module of the benchmarks to its end; what it printed."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=ROOT, check=True).stdout


def http_json(url: str) -> Any:
    """What a server tells at an address."""
    with urllib.request.urlopen(url) as response:
        return json.load(response)


class _Process:
    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.{module}", *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", cwd=ROOT,
        )  # fmt: skip

    def line(self) -> str:
        """The next line that it prints; raises where it ended instead."""
        assert self.process.stdout is not None
        if line := self.process.stdout.readline():
            return line
        raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait()}")

    @property
    def peak_mb(self) -> float | None:
        """The most memory that it had so far."""
        return peak_mb(self.process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.communicate()


class Server(_Process):
    """A server that is ready; killed at the end of the block."""

    def __init__(self, module: str, *arguments: str) -> None:
        super().__init__(module, *arguments)
        self.url = f"http://127.0.0.1:{int(self.line())}"


class Device(_Process):
    """A device, of ours or naive, with a folder and a server."""

    def __init__(self, side: str, folder: Path, url: str, **more: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.made, self.more = (side, folder, url), more  # to make it again
        super().__init__("device", side, str(folder), url, *(f"--{name}={value}" for name, value in more.items()))
        self.line()  # everything is imported

    def ask(self, what: str, **arguments: Any) -> Any:
        """Does something, and what came of it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": what, **arguments}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.line())

    def killed(self, what: str, **arguments: Any) -> None:
        """Does something in the midst of which it kills itself."""
        try:
            answer = self.ask(what, **arguments)
        except RuntimeError:
            return
        raise RuntimeError(f"the device should have been killed, and answered {answer}")
