"""One contestant, once: its server and its device as processes, what they are told, and whether the data are right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from attrs import frozen

from benchmarks import data
from benchmarks.peers.contestants import Contestant, Started
from benchmarks.peers.install import BUILD
from benchmarks.processes import peak_mb
from tests.evidence import ROOT

__all__ = ["Broken", "Work", "make_work", "measure"]

ORDERS, LINES = 1000, 10
END_S = 30


class Broken(Exception):
    """A contestant failed, took too long, or holds what it should not."""


@frozen
class Work:
    """What all are given."""

    folder: Path
    rows: int
    stock: int  # the sum over all products
    limit_s: float  # for each thing that is asked for

    @property
    def changed(self) -> int:
        """How many products change."""
        return -(-self.rows // 100)


def make_work(rows: int, limit_s: float) -> Work:
    """Writes the products and the orders as JSON, an object a line."""
    folder, stock = BUILD / "data", 0
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "products.jsonl", "w", encoding="utf-8") as file:
        for values in data.products(rows):
            record = dict(zip(data.PRODUCT, values, strict=True))
            stock += record["stock"]
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    with open(folder / "orders.jsonl", "w", encoding="utf-8") as file:
        for n in range(ORDERS):
            lines = [{"id": f"L{n}-{k}", "product": f"P{k:07}", "quantity": k + 1, "price": 150} for k in range(LINES)]
            order = {"id": f"O{n:06}", "customer": "C000001", "placed": "2026-11-24 00:00:00.000000", "note": "", "lines": lines}
            file.write(json.dumps(order) + "\n")
    return Work(folder, rows, stock, limit_s)


class Program:
    """A process that talks, ended with the block."""

    def __init__(self, started: Started, folder: Path, limit_s: float, *arguments: str) -> None:
        command, environment = started
        folder.mkdir(parents=True, exist_ok=True)
        self.log, self.limit_s = folder.with_suffix(".log"), limit_s
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8",
                cwd=ROOT, env={**os.environ, **environment},
            )  # fmt: skip
        try:
            self.first = self._answer("to start")
        except BaseException:
            self._end()
            raise

    def ask(self, word: str) -> dict[str, Any]:
        """Says a word, and what was answered."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(f"{word}\n")
            self.process.stdin.flush()
        except OSError:
            raise Broken(f"ended before it was asked: {word}; see {self.log}") from None
        return self._answer(word)

    def _answer(self, word: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        late = threading.Event()

        def kill() -> None:
            late.set()
            self.process.kill()

        timer = threading.Timer(self.limit_s, kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            raise Broken(f"{word}: over {self.limit_s:.0f} s" if late.is_set() else f"{word}: ended; see {self.log}")
        found: dict[str, Any] = json.loads(line)
        return found

    @property
    def peak_mb(self) -> float | None:
        """The most memory that it had since `forget_peak`."""
        return peak_mb(self.process.pid)

    def forget_peak(self) -> None:
        """What was needed to get ready is no part of the peak."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._end()

    def _end(self) -> None:
        """Lets it end, as it does when nothing more is said."""
        try:
            self.process.communicate(timeout=END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def measure(one: Contestant, work: Work) -> dict[str, float | None]:
    """Seconds and megabytes of a run; raises Broken, and Missing where it cannot be had."""
    folder = BUILD / "run"
    shutil.rmtree(folder, ignore_errors=True)
    data_folder = str(work.folder)
    with Program(one.server(), folder / "server", work.limit_s, str(folder / "server"), data_folder) as server:
        at = str(server.first["at"])

        def device(name: str) -> Program:
            return Program(one.device(), folder / name, work.limit_s, at, str(folder / name), data_folder)

        for n in range(one.before):
            with device(f"before{n}") as other:
                other.ask("initial")
        found: dict[str, float | None] = {"image": server.ask("prepared")["image"]} if one.before else {}
        server.forget_peak()
        with device("device") as held:
            found["initial_s"] = held.ask("initial")["seconds"]
            if one.http:  # elsewhere others do the work
                found |= {"device_mb": held.peak_mb, "server_mb": server.peak_mb}
            _expect(held.ask("check"), {"rows": work.rows, "stock": work.stock})
            server.ask("change")
            found["delta_s"] = held.ask("delta")["seconds"]
            _expect(held.ask("check"), {"rows": work.rows, "stock": work.stock + work.changed})
            if one.pushes:
                found["push_s"] = held.ask("push")["seconds"]
                _expect(server.ask("orders"), {"orders": ORDERS, "lines": ORDERS * LINES})
    return found


def _expect(found: Mapping[str, Any], truth: Mapping[str, Any]) -> None:
    if found != truth:
        raise Broken(f"wrong data: {found} and not {truth}")
