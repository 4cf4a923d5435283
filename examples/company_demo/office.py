"""The head office as the demo sees it: a process of its own, and now and then a clerk."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Office:
    """Starts the process; iterate over `start` to hear what it makes."""

    def __init__(self, folder: str, products: int, customers: int, rep: str) -> None:
        self._folder, self._rep = folder, rep
        self._size = [str(products), str(customers)]
        self.token = secrets.token_urlsafe(16)
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Iterator[tuple[str, int, float]]:
        """Yields (what, how many, seconds) of what is made; afterwards `port` is open."""
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "server.py"), self._folder, *self._size, self._rep],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True,
            env=os.environ | {"OFFICE_TOKEN": self.token, "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, *rest = line.rstrip("\n").split("\t")
            if word == "ready":
                self.port = int(rest[0])
                return
            if word == "made":
                yield rest[0], int(rest[1]), float(rest[2])
        raise SystemExit("the head office did not start")

    def clerk(self, product: str, percent: int, customer: str, rep: str) -> tuple[int, int]:
        """Raises prices and moves a customer, by a program that knows only the tables; returns how many rows it changed."""
        command = [sys.executable, str(HERE / "clerk.py"), f"{self._folder}/office.db", product, str(percent), customer, rep]
        prices, moved = subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout.split()
        return int(prices), int(moved)

    def stop(self) -> None:
        """Ends the process."""
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process.stdout.close()
            self._process = None
