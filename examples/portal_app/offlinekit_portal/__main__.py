"""The command `offlinekit-portal`: the demo, or one of its processes."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from offlinekit_portal.alone import Taken

# Each command, the module that runs it, and what it is. A module is loaded when its command is asked for.
COMMANDS = {
    "demo": ("offlinekit_portal.demo", "start head office, line and portal, and say where to sign in"),
    "office": ("offlinekit_portal.office", "the head office"),
    "plug": ("offlinekit_portal.plug", "the line between portal and head office, with a plug to be pulled"),
    "portal": ("offlinekit_portal.web.app", "the representative's portal"),
}


def _portal_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--office", required=True, help="address of the head office")
    parser.add_argument("--data", type=Path, required=True, help="folder of the replicas, made if it is not there")
    parser.add_argument("--port", type=int, default=8765, help="0: any free one")
    parser.add_argument("--plug-control", metavar="URL", help="where the line's plug is switched")


def _end_with(stream: int) -> None:
    """Interrupts the process as Ctrl-C does when the stream ends: whoever holds its other end is gone, or wants it to stop."""
    while os.read(stream, 1024):
        pass
    if hasattr(signal, "pthread_kill"):  # to the main thread, which waits for its sockets
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _terminated(number: int, frame: FrameType | None) -> None:
    signal.raise_signal(signal.SIGINT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; 0 when all went well."""
    parser = argparse.ArgumentParser(prog="offlinekit-portal", description="A sales portal that goes on with no network.")
    commands = parser.add_subparsers(dest="command", required=True)
    argv = list(sys.argv[1:] if argv is None else argv)
    for name, (module, what) in COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what)
        if name == "portal":
            _portal_arguments(command)
        elif name in argv[:1]:
            importlib.import_module(module).arguments(command)
        if name != "demo":
            command.add_argument("--with-parent", action="store_true", help="stop when the standard input ends")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a script that starts us with & has switched off
    signal.signal(signal.SIGTERM, _terminated)  # as Ctrl-C: cleanly
    if getattr(options, "with_parent", False):
        threading.Thread(target=_end_with, args=(sys.stdin.fileno(),), daemon=True).start()
    try:
        return _run(options)
    except Taken as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 1


def _run(options: argparse.Namespace) -> int:
    if options.command == "portal":
        from offlinekit_portal.web.app import run

        run(options.office, options.data, options.port, options.plug_control)
        return 0
    return int(importlib.import_module(COMMANDS[options.command][0]).main(options))


if __name__ == "__main__":
    sys.exit(main())
