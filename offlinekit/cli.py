"""The `offlinekit` command: look into a replica's or an authority's file, check it, repair tracking, release the guard.

    offlinekit inspect FILE                           what it holds, what waits, where it stands
    offlinekit check FILE [--schema contract:schema]  whether it is sound
    offlinekit reconcile FILE --schema contract:schema
    offlinekit confirm-drop FILE DEVICE [--hours 1]   lets a held-back answer through
    offlinekit verify FILE                            the replica's next sync compares and mends everything it holds

All take --json. `--schema` names the Schema in an importable module, found from the current folder too.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from offlinekit.clock import SystemClock, at
from offlinekit.exceptions import OfflinekitError, SchemaError, StateError
from offlinekit.schema import Schema
from offlinekit.store.sqlite.authority_store import SQLiteStore
from offlinekit.store.sqlite.inspecting import ask_verification, check_file, confirm_drop, inspect_file

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns 0, 1 when something is wrong with the file, 2 when the command cannot run."""
    parser = argparse.ArgumentParser(prog="offlinekit", description="look into and repair offlinekit's files")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_ in (
        ("inspect", "what a file holds, what waits, where it stands"),
        ("check", "whether a file is sound"),
        ("reconcile", "repair the tracking of an authority's file"),
        ("confirm-drop", "let a held-back answer through to a device"),
        ("verify", "make a replica's next sync compare everything it holds with the authority"),
    ):
        command = commands.add_parser(name, help=help_)
        command.add_argument("file")
        command.add_argument("--json", action="store_true", help="print JSON")
        if name in ("check", "reconcile"):
            command.add_argument("--schema", metavar="MODULE:NAME", required=name == "reconcile")
        if name == "confirm-drop":
            command.add_argument("device", help="the device's id, as inspect prints it")
            command.add_argument("--hours", type=float, default=1.0)
    options = parser.parse_args(arguments)
    run: dict[str, Callable[[argparse.Namespace], tuple[dict[str, Any], bool]]] = {
        "inspect": lambda o: (inspect_file(o.file), True),
        "check": _check,
        "reconcile": _reconcile,
        "confirm-drop": _confirm,
        "verify": _verify,
    }
    try:
        if not os.path.isfile(options.file):
            raise StateError(f"there is no file {options.file}")
        found, sound = run[options.command](options)
    except OfflinekitError as error:
        print(f"offlinekit: {error}", file=sys.stderr)
        return 2
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else _text(found))
    return 0 if sound else 1


def _schema(name: str) -> Schema:
    module, _, attribute = name.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute or "schema")
    except (ImportError, AttributeError) as error:
        raise SchemaError(f"--schema {name}: {error}") from error
    if not isinstance(found, Schema):
        raise SchemaError(f"--schema {name} is no Schema")
    return found


def _check(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    problems = check_file(options.file)
    if options.schema:
        store = SQLiteStore(options.file)
        try:
            store.bind(_schema(options.schema))
            problems += [f"{name}: not tracked, {why}" for name, why in store.untracked().items()]
        finally:
            store.close()
    return {"file": options.file, "sound": not problems, "problems": problems}, not problems


def _reconcile(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    store = SQLiteStore(options.file)
    try:
        store.bind(_schema(options.schema))
        return {"file": options.file, "repaired": store.reconcile()}, True
    finally:
        store.close()


def _confirm(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    until = SystemClock().now() + options.hours * 3600
    confirm_drop(options.file, options.device, until)
    return {"device": options.device, "until": at(until).isoformat(" ", "seconds")}, True


def _verify(options: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    ask_verification(options.file)
    return {"file": options.file, "next": "the next sync verifies everything held; then see offlinekit inspect"}, True


def _text(value: Any, indent: str = "") -> str:
    """Plain data as indented lines."""
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            if isinstance(item, dict | list) and item:
                lines += [f"{indent}{key}:", _text(item, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {'none' if item in ({}, [], None) else item}")
        return "\n".join(lines)
    return "\n".join(_text(item, indent) if isinstance(item, dict) else f"{indent}- {item}" for item in value)


if __name__ == "__main__":
    sys.exit(main())
