"""Looking into the files of replicas and authorities without a schema: for the command line and for support."""

from __future__ import annotations

import os
from typing import Any

import apsw
import msgspec

from offlinekit.clock import at
from offlinekit.exceptions import StateError, StoreCorrupt
from offlinekit.expr.sql import quote
from offlinekit.store.sqlite.connection import connect, mapped, write_transaction
from offlinekit.store.sqlite.replica_files import file_of
from offlinekit.view import digest, unpack_view, view_of

__all__ = ["ask_verification", "check_file", "confirm_drop", "inspect_file"]

_unpack = msgspec.msgpack.decode


def _tables(db: apsw.Connection) -> set[str]:
    return {str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema WHERE type='table'")}


def _kind(db: apsw.Connection, path: str) -> str:
    tables = _tables(db)
    if "ok_gate" in tables and "ok_mutation" in tables:
        return "replica"
    if "ok_now" in tables and "ok_receipt" in tables:
        return "authority"
    raise StoreCorrupt(f"{path}: this database is neither a replica nor an authority")


def _when(seconds: Any) -> str | None:
    return None if seconds is None else at(seconds).isoformat(" ", "seconds")


def inspect_file(path: str) -> dict[str, Any]:
    """What the file holds, what waits in it and where it stands, as plain data."""
    db = connect(path, readonly=True)
    try:
        with mapped(path):
            return _replica(db, path) if _kind(db, path) == "replica" else _authority(db, path)
    finally:
        db.close()


def _meta(db: apsw.Connection) -> dict[str, Any]:
    return {str(n): _unpack(v) for n, v in db.execute("SELECT name,value FROM ok_meta")}


def _replica(db: apsw.Connection, path: str) -> dict[str, Any]:
    meta = _meta(db)
    selection = _unpack(meta["selection"]) if "selection" in meta else None
    counts = {str(s): int(n) for s, n in db.execute("SELECT state,count(*) FROM ok_mutation GROUP BY 1")}
    refused = db.execute("SELECT id,intent,code,message FROM ok_mutation WHERE state='rejected' ORDER BY seq")
    return {
        "kind": "replica", "file": path, "identity": meta["identity"], "device": meta["device"].hex(),
        "schema_version": meta["version"], "last_pull": _when(meta.get("pulled")), "forked": _when(meta.get("forked")),
        "collections": dict(_record_counts(db, path).items()),
        "verified": _verified(meta), "verification_asked": "verify" in meta,
        "mutations": counts,
        "refused": [f"{i.hex()} {intent}: {code}: {message}" for i, intent, code, message in refused],
        "selection": None if selection is None else {
            "since": _when(selection[2]), "until": _when(selection[3]), "zone": selection[4],
            "collections": [c[0] for c in selection[5]],
        },
    }  # fmt: skip


def _files(db: apsw.Connection) -> dict[str, int]:
    return {str(c): int(g) for c, g in db.execute("SELECT collection,generation FROM ok_file")}


def _record_counts(db: apsw.Connection, path: str) -> dict[str, int]:
    found = {}
    for (name,) in db.execute("SELECT collection FROM ok_state ORDER BY 1"):
        found[str(name)] = int(db.execute(f"SELECT count(*) FROM {quote(name)}").get)
    for name, generation in _files(db).items():
        own = connect(file_of(path, name, generation), readonly=True)
        try:
            found[name] = int(own.execute(f"SELECT count(*) FROM {quote(name)}").get)
        finally:
            own.close()
    return found


def _authority(db: apsw.Connection, path: str) -> dict[str, Any]:
    collections = {}
    for table in sorted(_tables(db)):
        if table.startswith("ok_side_"):
            name = table.removeprefix("ok_side_")
            known = db.execute(f"SELECT count(*) FROM {quote(table)}").get
            live = db.execute(f"SELECT count(*) FROM {quote(name)}").get if name in _tables(db) else 0
            collections[name] = {"records": live, "ordinals": known}
    devices = [
        {"device": d.hex(), "identity": i, "last_contact": _when(seen), "revoked": bool(r), **(_unpack(report) if report else {})}
        for d, i, seen, r, report in db.execute("SELECT device,identity,seen,revoked,report FROM ok_device ORDER BY seen DESC")
    ]
    return {
        "kind": "authority", "file": path, "epoch": db.execute("SELECT epoch FROM ok_now").get, "collections": collections,
        "receipts": {str(o): int(n) for o, n in db.execute("SELECT outcome,count(*) FROM ok_receipt GROUP BY 1")},
        "failing": [f"{i.hex()}: {n} times: {m}" for i, n, m in db.execute("SELECT id,count,message FROM ok_failure")],
        "devices": devices,
    }  # fmt: skip


def check_file(path: str) -> list[str]:
    """What is wrong with a file; an empty list when it is sound. Reads every page."""
    db = connect(path, readonly=True)
    try:
        with mapped(path):
            problems = [str(r[0]) for r in db.execute("PRAGMA integrity_check") if r[0] != "ok"]
            if _kind(db, path) == "replica":
                problems += _check_views(db)
                for name, generation in _files(db).items():
                    own_path = file_of(path, name, generation)
                    own = connect(own_path, readonly=True)
                    try:
                        problems += [f"{name}: {r[0]}" for r in own.execute("PRAGMA integrity_check") if r[0] != "ok"]
                        problems += _check_views(own)
                    finally:
                        own.close()
            elif db.execute("SELECT count(*) FROM ok_receipt WHERE outcome='open'").get:
                problems.append("a receipt is open outside a transaction")
            return problems
    finally:
        db.close()


def _check_views(db: apsw.Connection) -> list[str]:
    """Whether the records held are exactly those of the view: shown with their ordinal, or kept as a base."""
    problems = []
    for name, view_bytes, view_digest in list(db.execute("SELECT collection,view,digest FROM ok_state")):
        view = unpack_view(view_bytes)
        held = view_of(row[0] for row in db.execute(f"SELECT _ordinal FROM {quote(name)} WHERE _ordinal>0"))
        if f"ok_base_{name}" in _tables(db):
            held |= view_of(row[0] for row in db.execute(f"SELECT _ordinal FROM {quote('ok_base_' + name)} WHERE _present"))
        if digest(view) != view_digest:
            problems.append(f"{name}: the stored view does not have the stored digest")
        if held != view:
            problems.append(f"{name}: {len(view - held)} records of the view are missing, {len(held - view)} are too many")
    return problems


def ask_verification(path: str) -> None:
    """Makes the next pull of a replica compare everything with its authority."""
    db = connect(path)
    try:
        if _kind(db, path) != "replica":
            raise StateError(f"{path} is an authority's file; a replica is what can be verified")
        with write_transaction(db, path):
            db.execute("INSERT OR REPLACE INTO ok_meta VALUES('verify',?)", (msgspec.msgpack.encode(os.urandom(8)),))
    finally:
        db.close()


def _verified(meta: dict[str, Any]) -> dict[str, Any] | None:
    when, *counts = meta.get("verified") or [None]
    found = None if when is None else dict(zip(("fetched", "dropped"), counts, strict=True))
    return None if found is None else {"when": _when(when), **found}


def confirm_drop(path: str, device: str, until: float) -> None:
    """Lets held-back answers through to a device until then (seconds since 1970)."""
    db = connect(path)
    try:
        _kind(db, path)
        with write_transaction(db, path):
            try:
                id_ = bytes.fromhex(device)
            except ValueError:
                raise StateError(f"'{device}' is no device id; offlinekit inspect prints them") from None
            db.execute("UPDATE ok_device SET confirmed=? WHERE device=?", (until, id_))
            if not db.changes():
                raise StateError(f"no device {device} is known here; offlinekit inspect lists them")
    finally:
        db.close()
