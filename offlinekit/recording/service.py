"""The recording of an authority: who asked for what, how it was answered, how long that took, and errors with where they arose.

It is for reading and counting: to replay it would take the authority's whole database.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Any

from offlinekit.protocol import messages as m
from offlinekit.recording.lines import LIMIT, Lines, Recording
from offlinekit.recording.masks import Mask, Masks
from offlinekit.schema import Schema

__all__ = ["ServiceRecording"]


class ServiceRecording(Recording):
    """A recording under way; `authority.record(path)` makes one. `stop()`, or the end of its `with` block, ends it."""

    def __init__(self, schema: Schema, path: str | os.PathLike[str], *, mask: Mask, limit: int = LIMIT,
                 stopped: Callable[[], None] = lambda: None) -> None:  # fmt: skip
        self.masks, self.lines = Masks(schema, mask), Lines(path, limit)
        self._schema, self._stopped = schema, stopped
        self._lock = threading.RLock()  # for the masks too
        self._write(event="start", version=schema.version, masked=sorted(map(list, self.masks.fields)))

    def stop(self) -> None:
        """Closes the file."""
        self._stopped()
        self._write(event="end")
        with self._lock:
            self.lines.close()

    def _write(self, **event: Any) -> None:
        with self._lock:
            self.lines.write(event)

    def answered(self, request: m.Request | None, identity: str, answer: m.Answer, *, at: float, seconds: float,
                 error: Exception | None) -> None:  # fmt: skip
        """Notes a request, None for bytes that were none, and its answer; raises nothing."""
        with self._lock:
            if self.lines.over:
                return
            try:
                told = {
                    "event": "request", "at": at, "seconds": round(seconds, 6),
                    "identity": self.masks.opaque(identity.encode()).hex(),
                    "kind": None if request is None else type(request).__name__.lower(), "answer": type(answer).__name__.lower(),
                    **self._asked(request), **self._told(request, answer),
                }  # fmt: skip
                if error is not None:
                    told["error"] = self._error(error)
                self._write(**told)
            except Exception as failure:
                self.lines.fail(failure)

    def failed(self, id_: bytes, error: Exception) -> None:
        """Notes an unexpected error of a mutation, which stays unanswered for now."""
        self._write(event="failure", mutation=id_.hex(), error=self._error(error))

    def _asked(self, request: m.Request | None) -> dict[str, Any]:
        if request is None:
            return {}
        return {"device": self.masks.opaque(request.device).hex(), "schema": request.schema}

    def _told(self, request: m.Request | None, answer: m.Answer) -> dict[str, Any]:
        if isinstance(request, m.Push):
            results = {r.id: r for r in answer.results} if isinstance(answer, m.Pushed) else {}
            return {"mutations": [self._mutation(w, results.get(w.id)) for w in request.mutations]}
        if isinstance(answer, m.Delta):
            parts = Counter[str]()
            for group in answer.groups:
                parts.update({c: len(p.put) + p.in_file for c, p in group.collections.items()})
            return {"put": dict(parts), "file": answer.file is not None}
        return {"code": answer.code} if isinstance(answer, m.Refused) else {}

    def _mutation(self, wire: m.WireMutation, result: m.WireReceipt | None) -> dict[str, Any]:
        told: dict[str, Any] = {"id": wire.id.hex(), "intent": wire.intent, "after": [a.hex() for a in wire.after]}
        told["changes"] = [self._change(c) for c in wire.changes]
        if result is None:
            return {**told, "outcome": None}  # it stays unanswered for now
        return {**told, "outcome": result.outcome, "code": result.code, "fields": result.fields,
                "message": self.masks.message(result.message)}  # fmt: skip

    def _change(self, change: m.WireChange) -> list[Any]:
        """A change of a declared collection; of what nobody declared, nobody knows what to mask."""
        info = self._schema.collections.get(change.collection)
        if info is None or len(change.key) != len(info.key) or not change.after.keys() <= info.fields.keys():
            return ["?", change.op]
        given = [*zip(info.key, change.key, strict=True), *change.after.items()]
        if not all(v is None or info.fields[n].kind.fits(v) for n, v in given):
            return [change.collection, change.op]
        return [change.collection, change.op, self.masks.key(info, change.key), self.masks.values(info.name, change.after)]

    def _error(self, error: Exception) -> dict[str, Any]:
        """An error's kind and where it arose; with masks not its message, which may hold anything."""
        frames = traceback.extract_tb(error.__traceback__)
        told: dict[str, Any] = {"kind": type(error).__name__, "trace": [f"{f.filename}:{f.lineno} {f.name}" for f in frames]}
        if not self.masks.fields:
            told["message"] = str(error)
        return told
