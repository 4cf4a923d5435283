"""The demo: head office, plug and portal as three processes, and what to try with them."""

from __future__ import annotations

import argparse
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from attrs import define, field
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from offlinekit_portal.company import Company
from offlinekit_portal.office import PASSWORD_FILE, today

__all__ = ["Ended", "Program", "arguments", "main"]

HOST = "127.0.0.1"
PORT = 8765
USER = "marina"
OFFICE_START_S, START_S, STOP_S, CHECK_S = 180.0, 30.0, 10.0, 10.0
LOG_LINES = 12


class Ended(Exception):
    """A process of the demo has ended, or did not come up."""


@define
class Program:
    """One of the processes: its standard output is read line by line, and it stops when its standard input ends."""

    name: str
    log: Path
    ended: queue.Queue[str]
    _process: subprocess.Popen[str] | None = None
    _lines: queue.Queue[str | None] = field(factory=queue.Queue)

    def start(self, *words: str) -> None:
        """Starts it."""
        options: dict[str, Any] = {"start_new_session": True}  # so that Ctrl-C reaches the demo alone, which stops the others
        if sys.platform == "win32":
            options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        with open(self.log, "w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "offlinekit_portal", self.name, *words, "--with-parent"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, encoding="utf-8",
                env=os.environ | {"PYTHONUTF8": "1"}, **options,
            )  # fmt: skip
        assert self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), name=self.name, daemon=True).start()

    def _read(self, output: IO[str]) -> None:
        for line in output:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)
        self.ended.put(self.name)

    def ready(self, seconds: float, told: Callable[[str], None] = lambda line: None) -> list[str]:
        """The addresses in its line `name http://...`; other lines are told. Raises Ended."""
        until = time.monotonic() + seconds
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise Ended(f"the {self.name} did not come up in {seconds:.0f} s{self.last_words()}") from None
            if line is None:
                raise Ended(f"the {self.name} ended while it started{self.last_words()}")
            if line.startswith(f"{self.name} http"):
                return re.findall(r"http://\S+", line)
            told(line)

    def last_words(self) -> str:
        """The end of what it said of itself."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:]
        return "".join(f"\n  {line}" for line in lines) or "; it said nothing"

    def stop(self) -> None:
        """Stops it, politely first."""
        process = self._process
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None


def free_port(wanted: int) -> int:
    """The port if nobody has it, else 0: any."""
    if sys.platform == "win32":  # where create_server may share a port
        with socket.socket() as probe:
            return 0 if wanted and probe.connect_ex((HOST, wanted)) == 0 else wanted
    try:
        with socket.create_server((HOST, wanted)):
            return wanted
    except OSError:
        return 0


def fetch(url: str) -> tuple[int, str]:
    """Status and text of a page."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy of the environment is not for this machine
    try:
        with opener.open(url, timeout=CHECK_S) as answer:
            return int(answer.status), str(answer.read(1 << 20), "utf-8")
    except urllib.error.HTTPError as error:
        return error.code, ""
    except OSError as error:
        return 0, str(error)


def check(pages: dict[str, tuple[str, str]], console: Console) -> int:
    """Asks each address for what must be in its answer; 0 when all is well."""
    failed = 0
    for name, (url, wanted) in pages.items():
        status, text = fetch(url)
        good = status == 200 and wanted in text
        failed += not good
        console.print(f"{'ok' if good else 'FAILED':<7}{name} {url} ({status or text})", soft_wrap=True)
    return 1 if failed else 0


def what_to_try(company: Company) -> list[str]:
    """Five lines, with a customer whose order will come back."""
    tight = company.tight()
    client = next(client for client in company.clients if client.code in tight)
    return [
        "Sign in, then choose under Offline what to take along for the day, and download it.",
        "Pull the plug on the page Network (line down). The bar turns, and everything goes on.",
        f"Write two orders, one of them large, for {client.firm.trade_name} ({client.code}): there is little credit left.",
        "Put the plug back. Orders get their numbers; the large one comes back with the reason.",
        "Correct it and send it again. Try the plug's other ways: no answer, slow, cut in the middle.",
    ]


def tell(address: str, password: str, company: Company, console: Console) -> None:
    """Says where to go and what to try."""
    words = Text()
    for label, value in (("Open", address), ("User", USER), ("Password", password)):
        words.append(f"{label:<9}")
        words.append(f"{value}\n", style="bold cyan")
    for n, line in enumerate(what_to_try(company), 1):
        words.append(f"\n{n}. {line}")
    console.print(Panel(words, title="offlinekit: a portal that goes on with no network", expand=False, padding=(1, 2)))
    console.print("Ctrl-C stops everything.")


def start(data: Path, options: Any, programs: dict[str, Program], console: Console) -> tuple[str, str, str]:
    """Starts the three; returns the addresses of portal, head office through the plug, and switch."""
    size = ["--products", str(options.products), "--customers", str(options.customers)]
    started = time.perf_counter()
    with console.status("The head office makes its company ..."):
        programs["office"].start("--data", str(data / "office"), "--port", "0", *size)
        (office,) = programs["office"].ready(OFFICE_START_S, lambda made: console.print(f"  {made}", style="dim"))
    with console.status("The line and the portal start ..."):
        programs["plug"].start("--target", office.rstrip("/").rpartition(":")[2])
        line, switch = programs["plug"].ready(START_S)
        port = str(free_port(options.port))
        if port != str(options.port):
            console.print(f"  port {options.port} is taken: another one is used")
        programs["portal"].start("--office", line.rstrip("/"), "--data", str(data / "portal"), "--port", port,
                                 "--plug-control", switch.rstrip("/"))  # fmt: skip
        portal = programs["portal"].ready(START_S)[0]
    console.print(f"  ready in {time.perf_counter() - started:.1f} s", style="dim")
    return portal, line, switch


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `demo`."""
    parser.add_argument("--data", type=Path, help="folder to keep everything in; default: a temporary one")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the portal, another if it is taken (default {PORT})")
    parser.add_argument("--products", type=int, default=20_000, help="when the company is made (default 20000)")
    parser.add_argument("--customers", type=int, default=2_000, help="when the company is made (default 2000)")
    parser.add_argument("--check", action="store_true", help="start all, ask each for a page, stop; 0 when all is well")


def main(options: Any) -> int:
    """Runs the demo until it is interrupted."""
    console = Console(highlight=False, markup=False)
    with ExitStack() as stack:
        folder = options.data or Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.mkdir(parents=True, exist_ok=True)
        ended: queue.Queue[str] = queue.Queue()
        programs = {name: Program(name, folder / f"{name}.log", ended) for name in ("office", "plug", "portal")}
        for program in programs.values():
            stack.callback(program.stop)  # the portal first, the head office last
        try:
            portal, line, switch = start(folder, options, programs, console)
            if options.check:
                pages = {"office": (f"{line}health", "ok"), "plug": (f"{switch}state", "through"), "portal": (portal, "<form")}
                return check(pages, console)
            company = Company(today(), products=options.products, customers=options.customers)
            tell(portal, (folder / "office" / PASSWORD_FILE).read_text(encoding="utf-8"), company, console)
            return _wait(programs, ended)
        except Ended as error:
            console.print(str(error), style="bold red", soft_wrap=True)
            return 1
        except KeyboardInterrupt:
            console.print("Stopping ...")
            return 0


def _wait(programs: dict[str, Program], ended: queue.Queue[str]) -> int:
    """Until a process ends, which none should, or Ctrl-C."""
    while True:
        try:
            name = ended.get(timeout=1.0)  # Windows interrupts no wait without an end
        except queue.Empty:
            continue
        raise Ended(f"the {name} has ended{programs[name].last_words()}")
