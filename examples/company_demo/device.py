"""The representative's device: a replica, its sync, and a note of what every round of it moved."""

import threading
import time

from attrs import Factory, mutable

import telling
from company import ZONE
from contract import offer, schema
from line import Line
from offlinekit import Replica, Status, SyncReport
from offlinekit_adapters.http import HTTP

PATIENCE_S = 60.0
AFTER_A_ROUND = ("online", "offline", "error", "unauthenticated")


@mutable
class Moved:
    """What the rounds since the last look did, and the bytes that the line carried meanwhile."""

    sent: int = 0
    outcomes: dict[str, int] = Factory(dict)
    received: dict[str, int] = Factory(dict)
    dropped: dict[str, int] = Factory(dict)
    file_bytes: int = 0
    up: int = 0
    down: int = 0
    seconds: float = 0.0

    def add(self, report: SyncReport) -> None:
        """Adds a round."""
        self.sent += report.sent
        self.file_bytes += report.file_bytes
        for into, part in ((self.outcomes, report.outcomes), (self.received, report.received), (self.dropped, report.dropped)):
            for name, count in part.items():
                into[name] = into.get(name, 0) + count


class Device:
    """Opens an empty replica in a folder and keeps it synced over the line."""

    def __init__(self, folder: str, line: Line, token: str, rep: str) -> None:
        self.line = line
        self.replica = Replica.open(f"{folder}/device.db", schema, offer=offer, identity=rep, zone=ZONE)
        self._rounds: list[tuple[str, SyncReport]] = []
        self._ended = threading.Condition()
        self._seen = 0
        self._since = (line.up, line.down, time.perf_counter())
        with telling.arriving() as show:
            self.link = self.replica.start_sync(HTTP(f"http://127.0.0.1:{line.port}/sync", bearer=token), every=30)
            self.link.on_status(self._note)
            self.link.on_status(show)
            self.link.wait_synced(PATIENCE_S)

    def _note(self, status: Status) -> None:
        if status.state not in AFTER_A_ROUND:
            return
        with self._ended:
            if not self._rounds or self._rounds[-1][1] is not self.link.report:
                self._rounds.append((status.state, self.link.report))
                self._ended.notify_all()

    def moved(self) -> Moved:
        """What happened since this was last asked."""
        found = Moved()
        with self._ended:
            for _, report in self._rounds[self._seen :]:
                found.add(report)
            self._seen = len(self._rounds)
        up, down, at = self._since
        self._since = (self.line.up, self.line.down, time.perf_counter())
        found.up, found.down, found.seconds = self._since[0] - up, self._since[1] - down, self._since[2] - at
        return found

    def sync(self) -> Moved:
        """Syncs and waits for it; what it moved."""
        self.link.wait_synced(PATIENCE_S)
        return self.moved()

    def until_offline(self) -> None:
        """Tries to sync, and waits until that has failed."""
        with self._ended:
            self.link.sync_now()
            if not self._ended.wait_for(lambda: self.link.status.state == "offline", PATIENCE_S):
                raise SystemExit("the device did not notice that the line is cut")

    def close(self) -> None:
        """Ends the sync and closes the file."""
        self.replica.close()
