"""The command line: what it prints of a replica and an authority, what it finds wrong, what it repairs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from offlinekit import Collection, Field, Offer, Quick, Schema, everything, field
from offlinekit.cli import main
from offlinekit.store.sqlite.connection import connect
from offlinekit.testing.pair import linked_pair


class Note(Collection, writable=True):
    id: Field[str] = field(key=True)
    text: Field[str] = field(search=True)


schema = Schema(Note, intents=["write"])
offer = Offer(Quick("all", Note, everything))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with linked_pair(schema, scopes={Note: everything}, offer=offer, folder=str(tmp_path)) as pair:
        pair.authority.allow("write", writes={Note: "insert"})
        pair.authority.load(Note(id=str(n), text=f"note {n}") for n in range(20))
        pair.replica.configure().quick("all").until(None).save()
        pair.sync()
        with pair.replica.transaction("write") as tx:
            tx.insert(Note(id="mine", text="waits"))
    return tmp_path


def test_inspect_says_what_a_replica_holds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "replica.db"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["identity"], found["collections"]) == ("replica", "tester", {"note": 21})
    assert found["mutations"] == {"pending": 1}
    assert found["selection"]["collections"] == ["note"]


def test_inspect_says_what_an_authority_knows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(folder / "authority.db")]) == 0
    assert "records: 20" in capsys.readouterr().out


def test_check_finds_a_record_removed_behind_the_librarys_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "replica.db")
    assert main(["check", path]) == 0
    db = connect(path)
    db.execute("UPDATE ok_gate SET mode=2")
    db.execute("DELETE FROM note WHERE id='3'")
    db.execute("UPDATE ok_gate SET mode=0")
    db.close()
    assert main(["check", path, "--json"]) == 1
    assert json.loads(capsys.readouterr().out.split("\n", 3)[-1])["problems"] == [
        "note: 1 records of the view are missing, 0 are too many"
    ]


def test_reconcile_repairs_a_table_that_was_dropped_and_made_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "authority.db")
    db = connect(path)
    db.execute("DROP TABLE note; CREATE TABLE note(id TEXT PRIMARY KEY, text TEXT NOT NULL) STRICT")
    db.execute("INSERT INTO note VALUES('5','again')")
    db.close()
    (folder / "contract.py").write_text(
        "from offlinekit import Collection, Field, Schema, field\n"
        "class Note(Collection, writable=True):\n"
        "    id: Field[str] = field(key=True)\n"
        "    text: Field[str] = field(search=True)\n"
        "schema = Schema(Note, intents=['write'])\n"
    )
    command = [sys.executable, "-m", "offlinekit.cli"]
    run = {"cwd": folder, "capture_output": True, "text": True, "env": {**os.environ}}
    broken = subprocess.run([*command, "check", path, "--schema", "contract:schema"], check=False, **run)  # type: ignore[call-overload]
    assert broken.returncode == 1, broken.stderr
    assert "not tracked" in broken.stdout
    mended = subprocess.run([*command, "reconcile", path, "--schema", "contract", "--json"], check=True, **run)  # type: ignore[call-overload]
    assert json.loads(mended.stdout)["repaired"] == {"note": 20}
    assert main(["check", path]) == 0


def test_verify_is_done_by_the_next_sync_and_told_by_inspect(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(folder / "replica.db")
    assert main(["verify", path]) == 0
    assert "the next sync" in capsys.readouterr().out
    db = connect(path)
    db.execute("UPDATE ok_gate SET mode=2")
    db.execute("DELETE FROM note WHERE id='3'")
    db.execute("UPDATE ok_gate SET mode=0")
    db.close()
    with linked_pair(schema, scopes={Note: everything}, offer=offer, folder=str(folder)) as pair:
        pair.authority.allow("write", writes={Note: "insert"})
        pair.sync()
    assert main(["inspect", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["verified"]["fetched"], found["verified"]["dropped"]) == ({"note": 2}, {}), "and what waited"
    assert found["verification_asked"] is False
    assert main(["verify", str(folder / "authority.db")]) == 2
    assert "an authority's file" in capsys.readouterr().err


def test_confirm_drop_names_an_unknown_device(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["confirm-drop", str(folder / "authority.db"), "00" * 16]) == 2
    assert "offlinekit inspect lists them" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.db"
    db = connect(other)
    db.execute("CREATE TABLE t(a)")
    db.close()
    assert main(["inspect", str(other)]) == 2
    assert "neither a replica nor an authority" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "nothing.db")]) == 2
