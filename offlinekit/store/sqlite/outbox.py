"""The outbox of a replica: mutations waiting for an answer, their answers, and the journal of those accepted.

States in `ok_mutation.state`: pending, parked, accepted, transformed, rejected. `sent`: part of a committed push, so it may
have taken effect. `settled`: accepted, and its overlay has given way to pulled records; it stays as the sent journal until
the authority calls its position durable. `ok_change` holds what was committed, for ever unchanged; `ok_touch` (overlay.py)
what is shown. All functions run inside the caller's transaction, with the gate open for applying.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

import apsw
import msgspec

from offlinekit.changes import Change, Mutation, Outcome, decode_key, encode_key, record_digest
from offlinekit.exceptions import AlreadySent, LimitExceeded, StateError
from offlinekit.expr.sql import quote
from offlinekit.nodes import Value
from offlinekit.schema import CollectionInfo, Schema
from offlinekit.store.sqlite import overlay
from offlinekit.store.sqlite.replica_ddl import base_table, before_table

__all__ = ["MUTATION_MAX", "PUSH_BYTES_MAX", "PUSH_MAX", "Outbox"]

LOCAL_LEAST = -(2**62)  # of ordinals given here; raw SQL may set any
MUTATION_MAX = 512 << 10  # bytes of one mutation
PUSH_BYTES_MAX = 768 << 10
PUSH_MAX = 200
UNRESOLVABLE = ("dependency_discarded", "dependency_withdrawn")

_pack, _unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


@lru_cache
def _noted(info: CollectionInfo) -> str:
    """Reads the records that the triggers noted, each as it was and as it is."""
    was, now = (",".join(f"{alias}.{quote(n)}" for n in info.replicated) for alias in "bt")
    same = " AND ".join(f"b.{quote(k)}=t.{quote(k)}" for k in info.key)
    return (
        f"SELECT b._existed,b._ordinal,{was},t._ordinal IS NOT NULL,t._ordinal,{now}"
        f" FROM {before_table(info.name)} b LEFT JOIN {quote(info.name)} t ON {same} ORDER BY b.rowid"
    )


class Outbox:
    """Statements over the writing connection of a replica."""

    def __init__(self, db: apsw.Connection, schema: Schema, projection: bytes) -> None:
        self.db, self.schema, self.projection = db, schema, projection
        self.writable = [info for info in schema if info.writable]

    # -- a local transaction becomes a mutation

    def capture(self, id_: UUID, intent: str, created: float) -> Mutation | None:
        """The net changes that the triggers noted, as a pending mutation; None when there are none."""
        changes: list[tuple[CollectionInfo, Change, bool]] = []
        for info in self.writable:
            changes += self._changes(info)
        if not changes:
            return None
        after = sorted(self._after(changes))
        mutation = Mutation(id_, intent, tuple(UUID(bytes=a) for a in after), tuple(c for _, c, _ in changes), self.projection)
        encoded = [(c, _pack(dict(c.before)), _pack(dict(c.after))) for _, c, _ in changes]
        size = sum(len(b) + len(a) + 64 for _, b, a in encoded)
        if size > MUTATION_MAX:
            raise LimitExceeded("bytes of one transaction's changes", MUTATION_MAX, size, "write it in several transactions")
        self.db.execute(
            "INSERT INTO ok_mutation(id,intent,state,projection,created,size) VALUES(?,?,'pending',?,?,?)",
            (id_.bytes, intent, self.projection, created, size),
        )
        seq = self.db.last_insert_rowid()
        self.db.executemany("INSERT INTO ok_after VALUES(?,?)", [(seq, a) for a in after])
        rows = [(seq, c.collection, encode_key(c.key), c.op, before, new, c.digest) for c, before, new in encoded]
        self.db.executemany("INSERT INTO ok_change VALUES(?,?,?,?,?,?,?)", rows)
        touched = "SELECT collection,key,mutation,op,after FROM ok_change WHERE mutation=?"
        self.db.execute(f"INSERT OR REPLACE INTO ok_touch {touched}", (seq,))
        return mutation

    def _changes(self, info: CollectionInfo) -> Iterator[tuple[CollectionInfo, Change, bool]]:
        names = info.replicated
        rows = list(self.db.execute(_noted(info)))
        if not rows:
            return
        self.db.execute(f"DELETE FROM {before_table(info.name)}")
        self._renumber(info, rows)
        for row in rows:
            existed, ordinal, now = row[0], row[1], row[2 + len(names)]
            old = dict(zip(names, row[2 : 2 + len(names)], strict=True))
            new = dict(zip(names, row[4 + len(names) :], strict=True))
            key = tuple(old[k] for k in info.key)
            if existed and not overlay._is_touched(self.db, info.name, encode_key(key)):
                overlay.place_base(self.db, info, ordinal, old)
                self.db.execute(f"UPDATE {base_table(info.name)} SET _moved=0 WHERE _ordinal=?", (ordinal,))
            change = self._change(info, key, old if existed else None, new if now else None)
            if change is not None:
                yield info, change, bool(existed)
            elif existed and not overlay._is_touched(self.db, info.name, encode_key(key)):
                overlay.rebuild(self.db, info, encode_key(key))

    def _renumber(self, info: CollectionInfo, rows: Sequence[Sequence[Any]]) -> None:
        """Gives records that raw SQL inserted their former ordinals, or local ones; first all of them ones that nobody had."""
        names, table = info.replicated, quote(info.name)
        where = " AND ".join(f"{quote(k)}=?" for k in info.key)
        sql = f"UPDATE {table} SET _ordinal=? WHERE {where}"
        formers = {row[1] for row in rows if row[0]}

        def stays(former: int | None, now: int) -> bool:
            return now == former or (former is None and LOCAL_LEAST < now < 0 and now not in formers)

        moved = [
            (row[1], tuple(row[2 + names.index(k)] for k in info.key))
            for row in rows if row[2 + len(names)] and not stays(row[1], row[3 + len(names)])
        ]  # fmt: skip
        if moved:
            taken = self.db.execute(f"SELECT min(_ordinal) FROM {table}").get
            lowest = min(0, taken, *(row[1] or 0 for row in rows))
            for n, (_, key) in enumerate(moved, 1):
                self.db.execute(sql, (lowest - n, *key))
            for former, key in moved:
                if former is not None:
                    self.db.execute(sql, (former, *key))

    def _change(self, info: CollectionInfo, key: tuple[Value, ...], old: dict[str, Value] | None,
                new: dict[str, Value] | None) -> Change | None:  # fmt: skip
        if old is None and new is None:
            return None
        if new is None:
            assert old is not None
            return Change(info.name, key, "delete", {}, {}, record_digest(old.values()))
        changed = new if old is None else {n: v for n, v in new.items() if v != old[n] or type(v) is not type(old[n])}
        for name, value in changed.items():
            info.fields[name].verify(value)
        if old is None:
            return Change(info.name, key, "insert", {}, new)
        if not changed:
            return None
        return Change(info.name, key, "update", {n: old[n] for n in changed}, changed, record_digest(old.values()))

    def _after(self, changes: Iterable[tuple[CollectionInfo, Change, bool]]) -> set[bytes]:
        """The unanswered mutations that wrote a record written here, or created one that is referred to here."""
        sql = (
            "SELECT m.id FROM ok_touch t JOIN ok_mutation m ON m.seq=t.mutation"
            " WHERE t.collection=? AND t.key=? AND m.state='pending'"
        )
        written = {(info.name, encode_key(change.key)) for info, change, _ in changes}
        named = {
            (f.target, encode_key((value,)))
            for info, change, _ in changes for n, f in info.refs.items() if (value := change.after.get(n)) is not None
        } - written  # fmt: skip
        found = {r[0] for r in self.db.executemany(sql, written)}
        return found | {r[0] for r in self.db.executemany(sql + " AND t.op='insert'", named)}

    # -- reading

    def seq_of(self, id_: bytes) -> int | None:
        """The sequence number of a mutation."""
        found = self.db.execute("SELECT seq FROM ok_mutation WHERE id=?", (id_,)).get
        return None if found is None else int(found)

    def changes(self, seq: int) -> list[Change]:
        """What a mutation was committed with."""
        rows = self.db.execute("SELECT collection,key,op,before,after,digest FROM ok_change WHERE mutation=?", (seq,))
        return [Change(c, decode_key(k), op, _unpack(b), _unpack(a), d) for c, k, op, b, a, d in rows]

    def mutation(self, seq: int) -> Mutation:
        """A mutation as it is sent."""
        id_, intent, projection = next(iter(self.db.execute("SELECT id,intent,projection FROM ok_mutation WHERE seq=?", (seq,))))
        after = tuple(UUID(bytes=r[0]) for r in self.db.execute("SELECT needs FROM ok_after WHERE mutation=?", (seq,)))
        order = {c.name: n for n, c in enumerate(self.schema)}
        changes = sorted(self.changes(seq), key=lambda c: (order.get(c.collection, 0), c.op == "delete"))
        return Mutation(UUID(bytes=id_), intent, after, tuple(changes), projection)

    def dependents(self, id_: bytes) -> list[int]:
        """The unaccepted mutations that wait for this one, directly or through others, oldest first."""
        found: set[int] = set()
        queue = [id_]
        while queue:
            sql = (
                "SELECT m.seq,m.id FROM ok_after a JOIN ok_mutation m ON m.seq=a.mutation"
                " WHERE a.needs=? AND m.state IN ('pending','parked')"
            )
            for seq, dependent in self.db.execute(sql, (queue.pop(),)):
                if seq not in found:
                    found.add(seq)
                    queue.append(dependent)
        return sorted(found)

    # -- pushing

    def choose(self) -> list[bytes]:
        """The ids of the next mutations to send, oldest first, marked as sent."""
        chosen: list[bytes] = []
        size = 0
        sql = "SELECT seq,id,size FROM ok_mutation WHERE state='pending' AND settled=0 ORDER BY seq LIMIT ?"
        for seq, id_, bytes_ in list(self.db.execute(sql, (PUSH_MAX,))):
            if chosen and size + bytes_ > PUSH_BYTES_MAX:
                break
            chosen.append(id_)
            size += bytes_
            self.db.execute("UPDATE ok_mutation SET sent=1 WHERE seq=?", (seq,))
        return chosen

    def answer(self, outcome: Outcome, now: float) -> list[tuple[str, bytes]]:
        """Takes in the authority's answer to a pending mutation; returns the records to rebuild."""
        row = next(iter(self.db.execute("SELECT seq FROM ok_mutation WHERE id=? AND state='pending'", (outcome.id,))), None)
        if row is None:
            return []
        seq: int = row[0]
        self.db.execute(
            "UPDATE ok_mutation SET state=?,position=?,code=?,message=?,fields=? WHERE seq=?",
            (outcome.state, outcome.position, outcome.code, outcome.message, _pack(list(outcome.fields)), seq),
        )
        if outcome.state in ("rejected", "parked"):
            dirty = overlay.untouch(self.db, seq)
            if outcome.state == "rejected":
                dirty += self._park(outcome.id)
            return dirty
        dirty = []
        for record in outcome.records:
            key = encode_key(record.key)
            if record.ordinal:
                self.db.execute(
                    "INSERT OR REPLACE INTO ok_created(collection,ordinal,at,mutation) VALUES(?,?,?,?)",
                    (record.collection, record.ordinal, now, seq),
                )
            if record.gone:
                self.db.execute("DELETE FROM ok_touch WHERE collection=? AND key=? AND mutation=?", (record.collection, key, seq))
            elif record.values is not None:
                overlay.touch(self.db, record.collection, key, seq, "insert", record.values)
            else:
                continue  # it is as it was sent, and so as it is shown
            dirty.append((record.collection, key))
        return dirty

    def _park(self, id_: bytes) -> list[tuple[str, bytes]]:
        """Rolls back everything that waits for a refused mutation; returns the records to rebuild."""
        dirty = []
        for seq in self.dependents(id_):
            self.db.execute("UPDATE ok_mutation SET state='parked' WHERE seq=?", (seq,))
            dirty += overlay.untouch(self.db, seq)
        return dirty

    def settle(self, ids: Iterable[bytes]) -> list[tuple[str, bytes]]:
        """Takes away the overlays of accepted mutations that a pulled snapshot holds; returns the records to rebuild."""
        dirty = []
        for id_ in ids:
            sql = "SELECT seq FROM ok_mutation WHERE id=? AND state IN ('accepted','transformed') AND NOT settled"
            for (seq,) in list(self.db.execute(sql, (id_,))):
                dirty += overlay.untouch(self.db, seq)
                self.db.execute("UPDATE ok_mutation SET settled=1 WHERE seq=?", (seq,))
        return dirty

    def forget_durable(self, position: int) -> None:
        """Drops from the journal what the authority calls durable."""
        sql = "SELECT seq FROM ok_mutation WHERE settled AND position<=?"
        for (seq,) in list(self.db.execute(sql, (position,))):
            self._remove(seq)

    def unanswer(self) -> list[tuple[str, bytes]]:
        """Another history: accepted, journalled, parked and unresolved refused mutations are pending again."""
        marks = ",".join("?" * len(UNRESOLVABLE))
        sql = f"SELECT seq FROM ok_mutation WHERE state<>'pending' AND code NOT IN ({marks}) ORDER BY seq"
        seqs = [row[0] for row in self.db.execute(sql, UNRESOLVABLE)]
        return self._restore(seqs)

    def _restore(self, seqs: Sequence[int]) -> list[tuple[str, bytes]]:
        """Makes mutations pending again, with the overlays they were committed with."""
        changes = [(seq, c, encode_key(c.key)) for seq in seqs for c in self.changes(seq)]
        dirty = list(dict.fromkeys((c.collection, key) for _, c, key in changes))
        for collection, key in dirty:  # before any overlay moves: what nothing touches yet is the authority's
            overlay.keep_base(self.db, self.schema.info(collection), key)
        for seq, c, key in changes:
            overlay.touch(self.db, c.collection, key, seq, c.op, c.after)
        for seq in seqs:
            self.db.execute("DELETE FROM ok_created WHERE mutation=?", (seq,))
            self.db.execute(
                "UPDATE ok_mutation SET state='pending',settled=0,position=0,code='',message='',fields=x'90' WHERE seq=?",
                (seq,),
            )
        return dirty

    # -- resolving

    def check_resolvable(self, id_: bytes) -> int:
        """The sequence number of a mutation that may be edited, withdrawn or discarded; raises else."""
        row = next(iter(self.db.execute("SELECT seq,state,sent FROM ok_mutation WHERE id=?", (id_,))), None)
        name = str(UUID(bytes=id_))
        if row is None:
            raise StateError(f"mutation {name} is not here any more: it was resolved or is durable")
        seq, state, sent = row
        if state == "pending" and sent:
            raise AlreadySent(name)
        if state in ("accepted", "transformed"):
            raise StateError(f"mutation {name} was accepted; change its records in a new transaction")
        return int(seq)

    def discard(self, id_: bytes, code: str) -> list[tuple[str, bytes]]:
        """Gives a mutation up; whatever waits for it is refused locally. Returns the records to rebuild."""
        seq = self.check_resolvable(id_)
        dirty = overlay.untouch(self.db, seq)
        message = f"it depends on mutation {UUID(bytes=id_)}, which was given up"
        for dependent in self.dependents(id_):
            dirty += overlay.untouch(self.db, dependent)
            self.db.execute("UPDATE ok_mutation SET state='rejected',code=?,message=? WHERE seq=?", (code, message, dependent))
        self._remove(seq)
        return dirty

    def replay(self, seq: int) -> None:
        """Writes a refused mutation's changes into the visible records again, as the start of its correction."""
        for c in self.changes(seq):
            info = self.schema.info(c.collection)
            where = " AND ".join(f"{quote(k)}=?" for k in info.key)
            exists = self.db.execute(f"SELECT 1 FROM {quote(info.name)} WHERE {where}", c.key).get
            if c.op == "delete":
                self.db.execute(f"DELETE FROM {quote(info.name)} WHERE {where}", c.key)
            elif exists:
                values = {n: v for n, v in c.after.items() if n not in info.key}
                if values:
                    sets = ",".join(f"{quote(n)}=?" for n in values)
                    self.db.execute(f"UPDATE {quote(info.name)} SET {sets} WHERE {where}", (*values.values(), *c.key))
            elif c.op == "insert":
                new = {n: c.after[n] if n in c.after else info.fields[n].initial() for n in info.replicated}
                columns, marks = ",".join(map(quote, new)), ",".join("?" * len(new))
                self.db.execute(f"INSERT INTO {quote(info.name)}({columns}) VALUES({marks})", tuple(new.values()))

    def replace(self, old: bytes, new: Mutation) -> list[tuple[str, bytes]]:
        """After a correction: the old mutation leaves, whatever waited for it waits for the new one and is pending again."""
        dependents = self.dependents(old)
        seq = self.check_resolvable(old)
        self._remove(seq)
        self.db.execute("UPDATE ok_after SET needs=? WHERE needs=?", (new.id.bytes, old))
        moved = []
        for dependent in dependents:
            last = self.db.execute("SELECT max(seq)+1 FROM ok_mutation").get
            self.db.execute("UPDATE ok_mutation SET seq=? WHERE seq=?", (last, dependent))
            for table in ("ok_change", "ok_after", "ok_touch"):
                self.db.execute(f"UPDATE {table} SET mutation=? WHERE mutation=?", (last, dependent))
            moved.append(last)
        return self._restore(moved)

    def _remove(self, seq: int) -> None:
        self.db.execute("DELETE FROM ok_mutation WHERE seq=?", (seq,))
        for table in ("ok_change", "ok_after", "ok_touch"):
            self.db.execute(f"DELETE FROM {table} WHERE mutation=?", (seq,))

    def rows(self, where: str, bindings: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Mutations as plain data."""
        names = ("seq", "id", "intent", "state", "sent", "settled", "created", "position", "code", "message", "fields")
        sql = f"SELECT {','.join(names)} FROM ok_mutation WHERE {where} ORDER BY seq"
        return [dict(zip(names, row, strict=True)) for row in self.db.execute(sql, tuple(bindings))]
