"""The desk: who is signed in on this machine, their replica, its sync, and whether the head office can be reached."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias
from zoneinfo import ZoneInfo

import aiohttp
import msgspec
from attrs import Factory, frozen, mutable

from offlinekit import Link, Replica, SelectionExpired, Status
from offlinekit_adapters.http import HTTP
from offlinekit_portal.contract import Customer, Product, Prospect, Setting, offer, schema
from offlinekit_portal.web.line import Line, OverLine

Pill: TypeAlias = Literal["online", "syncing", "offline", "issues", "signin"]
PROBE_S = 1.0
PROBE_TIMEOUT_S = 2.0
ZONE = ZoneInfo("America/Sao_Paulo")


class SignInRefused(Exception):
    """The head office does not know this user and password."""


class OfficeUnreachable(Exception):
    """The head office did not answer."""


class Session(msgspec.Struct, frozen=True):
    """Who is signed in: kept in a file that only this user of the machine can read."""

    token: str
    identity: str
    name: str
    rep: str
    expires: float
    browser: str  # the SHA-256 of the cookie that the browser holds


@frozen
class Live:
    """How things stand now: what the bar at the top of every page says."""

    pill: Pill
    pending: int = 0
    issues: int = 0
    since: datetime | None = None
    expired: bool = False
    chosen: bool = False
    until: datetime | None = None
    done: int = 0
    total: int = 0
    status: Status | None = None
    days: int = 0  # how many are left of the package, today included; 0: it has no end

    @property
    def online(self) -> bool:
        """Whether the head office answers."""
        return self.pill != "offline"


@mutable
class Desk:
    """The state of this device. One person at a time; a replica for each who ever signed in."""

    office: str
    data: Path
    plug_control: str | None = None
    session: Session | None = None
    connected: bool = False
    line: Line = Factory(Line)
    _replica: Replica | None = None
    _link: Link | None = None
    _listeners: list[Callable[[str], object]] = Factory(list)
    _lock: threading.Lock = Factory(threading.Lock)
    _misses: int = 0

    # -- who

    def resume(self) -> None:
        """Goes on with whoever was signed in when the portal last ran; needs no network."""
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
            self._open(msgspec.json.decode((self.data / "session.json").read_bytes(), type=Session))

    async def sign_in(self, user: str, password: str) -> str:
        """Signs in at the head office; returns the secret for the browser's cookie.

        Raises SignInRefused or OfficeUnreachable, and changes nothing then.
        """
        try:
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as client,
                client.post(f"{self.office}/login", json={"user": user, "password": password}) as answer,
            ):
                if answer.status in (400, 401, 403, 429):
                    raise SignInRefused("wait" if answer.status == 429 else "wrong")
                answer.raise_for_status()
                given: dict[str, Any] = await answer.json()
        except (aiohttp.ClientError, TimeoutError, OSError, json.JSONDecodeError) as error:
            raise OfficeUnreachable(str(error)) from error
        secret = secrets.token_urlsafe(32)
        session = Session(given["token"], given["identity"], given["name"], given["rep"], given["expires"], _hashed(secret))
        await asyncio.to_thread(self._change, session)
        return secret

    def _change(self, session: Session | None) -> None:
        path = self.data / "session.json"
        if session is None:
            path.unlink(missing_ok=True)
        else:
            part = path.with_suffix(".part")
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(msgspec.json.encode(session))
            part.replace(path)
        self._open(session)

    def _open(self, session: Session | None) -> None:
        with self._lock:
            same = self.session is not None and session is not None and self.session.identity == session.identity
            self.session = session
            if same:
                assert self._link is not None
                self._link.sync_now()  # with the new token
                return
            if self._replica is not None:
                self._replica.close()
                self._replica = self._link = None
            if session is not None:
                self._replica = Replica.open(self.data / f"{session.rep}.db", schema, offer=offer, identity=session.identity,
                                             zone=ZONE.key)  # fmt: skip
                self._replica.on_change(lambda names: self.tell("data"))
                transport = HTTP(f"{self.office}/sync", bearer=self._token, answer=20, connect=4)
                self._link = self._replica.start_sync(OverLine(self.line, transport), every=20)
                self._link.on_status(lambda status: self.tell("status"))
        self.tell("status")

    def _token(self) -> str:
        return "" if self.session is None else self.session.token

    def sign_out(self) -> None:
        """Forgets the token; the replica, and what is not sent yet, stay."""
        self._change(None)

    def knows(self, cookie: str | None) -> bool:
        """Whether a browser's cookie belongs to the session."""
        return self.session is not None and cookie is not None and hmac.compare_digest(_hashed(cookie), self.session.browser)

    @property
    def replica(self) -> Replica:
        """The replica of whoever is signed in."""
        assert self._replica is not None, "nobody is signed in"
        return self._replica

    @property
    def link(self) -> Link:
        """Its sync."""
        assert self._link is not None, "nobody is signed in"
        return self._link

    def close(self) -> None:
        """Closes the replica; the session stays."""
        with self._lock:
            if self._replica is not None:
                self._replica.close()
                self._replica = self._link = None

    # -- how things stand

    def live(self) -> Live:
        """How things stand now."""
        if self._link is None:
            return Live("online" if self.connected else "offline")
        status = self._link.status
        selection = self.replica.selection
        valid = self.replica.valid_until  # of what was pulled, and not yet of what was saved since
        shown = selection.ends if valid is None and not self.pulled() else valid  # the first package is on its way
        until = None if shown is None else shown.astimezone(ZONE)
        progress = status.progress
        since = None if status.last_success is None else status.last_success.astimezone(ZONE)
        pending = len(self.replica.pending()) + len(self.replica.parked())
        days = 0 if until is None else ((until - timedelta(microseconds=1)).date() - self.today()).days + 1
        expired, chosen = self.replica.expired, bool(selection.id)
        return Live(_pill(status, self.connected), pending, status.rejected, since, expired, chosen, until,
                    progress.done if progress else 0, progress.total if progress else 0, status, days)  # fmt: skip

    def today(self) -> date:
        """The day where the representative sells, by the clock that decides when a selection ends."""
        return datetime.fromtimestamp(self.replica.now(), ZONE).date()

    def held(self) -> dict[str, int]:
        """How many customers, prospects and products this device holds; nothing when the selection has expired."""
        found = {}
        for cls in (Customer, Prospect, Product):
            with contextlib.suppress(SelectionExpired):
                found[cls.__name__.lower()] = self.replica.select(cls).count()
        return found

    def pulled(self) -> bool:
        """Whether the saved selection is in effect: what it chose is here."""
        return self.replica.held_selection == self.replica.selection and self.link.status.consistent

    def bytes_held(self) -> int:
        """The size of this person's files."""
        assert self.session is not None
        return sum(p.stat().st_size for p in self.data.glob(f"{self.session.rep}.db*"))

    def bytes_free(self) -> int:
        """Free space on this device."""
        return shutil.disk_usage(self.data).free

    def setting(self, name: str, default: str = "") -> str:
        """What this person set on this device."""
        found = self.replica.get(Setting, name)
        return default if found is None else found.value

    def remember(self, name: str, value: str) -> None:
        """Sets it."""
        with self.replica.transaction() as tx:
            found = tx.get(Setting, name)
            if found is None:
                tx.insert(Setting(name=name, value=value))
            else:
                tx.update(found, value=value)

    # -- being told

    def listen(self, listener: Callable[[str], object]) -> Callable[[], None]:
        """Calls back, in any thread, with "status" or "data" when something changed; returns what ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, what: str) -> None:
        """Tells every open page."""
        for listener in list(self._listeners):
            listener(what)

    async def probe(self) -> None:
        """Asks the head office every second whether it is there: two misses are offline, one answer is online.

        The truth comes from here and never from the browser, which only knows that it reaches this machine.
        """
        timeout = aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True)) as client:
            while True:
                started = time.monotonic()
                await self._look(client)
                await asyncio.sleep(max(0.0, PROBE_S - (time.monotonic() - started)))

    async def _look(self, client: aiohttp.ClientSession) -> None:
        try:
            async with client.get(f"{self.office}/health") as answer:
                answered = answer.status == 200 and answer.content_type == "application/json"
        except (aiohttp.ClientError, TimeoutError, OSError):
            answered = False
        self._misses = 0 if answered else self._misses + 1
        connected = answered or (self.connected and self._misses < 2)
        if connected != self.connected:
            self.connected = connected
            self.line.set(connected)
            if connected and self._link is not None:
                self._link.sync_now()
            self.tell("status")


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _pill(status: Status, connected: bool) -> Pill:
    if status.state == "unauthenticated":
        return "signin"
    if not connected:
        return "offline"
    if status.state == "syncing" and (status.progress or status.pending):
        return "syncing"
    return "issues" if status.rejected else "online"
