"""The head office: a process that holds the company's database, signs representatives in and answers their devices.

It listens on this machine only, and makes the company when it first starts. A line on its standard output says where it is.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import math
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from aiohttp import web
from attrs import frozen

from offlinekit import Authority, SQLiteStore
from offlinekit.clock import Clock
from offlinekit_adapters.aiohttp_server import sync_routes
from offlinekit_adapters.jwt import Key, Tokens
from offlinekit_portal.accounts import PASSWORD_MAX, USER_MAX, Account, Accounts, Attempts, make_password
from offlinekit_portal.alone import alone
from offlinekit_portal.company import ZONE, Company
from offlinekit_portal.contract import offer, schema, scopes
from offlinekit_portal.deciding import declare, number_from
from offlinekit_portal.history import FIRST_NUMBER
from offlinekit_portal.places import REPS

__all__ = ["PASSWORD_FILE", "PASSWORD_VARIABLE", "build", "create", "main", "open_authority"]

LIFETIME_S = 12 * 3600.0  # a working day
LOGIN_BODY_MAX = 4096
HASHING_MAX = 2  # argon2 takes 64 MB and a core each
DATABASE, KEY_FILE, PASSWORD_FILE = "office.db", "token.key", "password.txt"
PASSWORD_VARIABLE = "OFFLINEKIT_PORTAL_PASSWORD"
HOSTS = frozenset({"127.0.0.1", "localhost"})
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Tell = Callable[[str], None]


class Credentials(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /login` takes."""

    user: str
    password: str


# -- the company's database


def open_authority(path: Path, files: Path, clock: Clock | None = None) -> Authority:
    """The authority over a database file, with its intent."""
    store = SQLiteStore(path, clock=clock)
    authority = Authority(store, schema, offer=offer, scopes=scopes, files=str(files))
    declare(authority)
    return authority


def build(data: Path, company: Company, tell: Tell = lambda line: None) -> None:
    """Makes the company's database in `data`; until it is whole it has another name, so that a killed build starts anew."""
    part = data / (DATABASE + ".part")
    for rest in data.glob(part.name + "*"):
        rest.unlink()
    password = os.environ.get(PASSWORD_VARIABLE) or make_password()
    _write_secret(data / PASSWORD_FILE, password.encode())
    collecting = gc.isenabled()
    gc.disable()  # half a million objects, and no circle among them: looking for circles took a third of the time
    try:
        authority = open_authority(part, data / "files")
        try:
            _fill(authority, company, password, tell)
        finally:
            authority.close()
    finally:
        if collecting:
            gc.enable()
    part.replace(data / DATABASE)


def _fill(authority: Authority, company: Company, password: str, tell: Tell) -> None:
    last = FIRST_NUMBER - 1
    for what, records in company.parts():
        started = time.perf_counter()
        authority.load(records)
        if what == "past orders":
            last += len(records)
        tell(f"made {len(records)} {what} ({time.perf_counter() - started:.2f} s to store)")
    Accounts(authority).create(password, {rep.code: rep.lists for rep in REPS})
    with authority.transaction() as tx:
        number_from(last, tx.connection)


def _write_secret(path: Path, content: bytes) -> None:
    """Writes a file that only this user of the machine can read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def _token_key(data: Path) -> Key:
    """The key of the tokens, made once: tokens outlive a restart."""
    path = data / KEY_FILE
    if not path.exists():
        _write_secret(path, secrets.token_bytes(32))
    return Key(path.read_bytes())


# -- what it answers


@frozen
class Desk:
    """Signs people in."""

    accounts: Accounts
    attempts: Attempts
    tokens: Tokens
    hashing: asyncio.Semaphore

    async def login(self, request: web.Request) -> web.Response:
        """`POST /login` with user and password: a token, and whose it is."""
        try:
            given = msgspec.json.decode(await request.read(), type=Credentials)
        except msgspec.MsgspecError:
            return _refused(400, "invalid", 'send {"user": ..., "password": ...}')
        user = given.user.strip().lower()
        if not 0 < len(user) <= USER_MAX or not 0 < len(given.password) <= PASSWORD_MAX:
            return _refused(401, "wrong", "user or password is wrong")
        wait = self.attempts.begin(user)
        if wait:
            seconds = str(math.ceil(wait))
            return _refused(429, "wait", f"too many attempts: try again in {seconds} s", {"Retry-After": seconds})
        async with self.hashing:
            account = await asyncio.to_thread(self.accounts.verify, user, given.password)
        if account is None:
            return _refused(401, "wrong", "user or password is wrong")
        self.attempts.succeeded(user)
        return self._signed_in(account)

    async def renew(self, request: web.Request) -> web.Response:
        """`POST /renew` with a valid token: a fresh one, with what its user may do now."""
        found = self.tokens.authenticate(request)
        account = await asyncio.to_thread(self.accounts.find, found[0]) if found else None
        return self._signed_in(account) if account else _refused(401, "token", "sign in again")

    def _signed_in(self, account: Account) -> web.Response:
        token = self.tokens.issue(account.user, account.claims)
        said = self.tokens.read(token)
        assert said is not None
        body = {"token": token, "identity": account.user, "name": account.name, "rep": account.rep, "expires": said.expires}
        return web.json_response(body, headers={"Cache-Control": "no-store"})


def _refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status, headers=headers)


async def _health(request: web.Request) -> web.Response:
    return web.json_response({"status": "ok"}, headers={"Cache-Control": "no-store"})


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuses other host names, under which another site's page could reach this machine (DNS rebinding)."""
    if request.host.partition(":")[0] not in HOSTS:
        raise web.HTTPMisdirectedRequest(text="this head office answers at 127.0.0.1 only")
    return await handler(request)


def create(authority: Authority, tokens: Tokens, *, clock: Clock | None = None) -> web.Application:
    """The application; `clock` decides how long too many attempts count."""
    app = web.Application(middlewares=[_guard], client_max_size=LOGIN_BODY_MAX)
    desk = Desk(Accounts(authority), Attempts(clock), tokens, asyncio.Semaphore(HASHING_MAX))
    app.add_routes([web.post("/login", desk.login), web.post("/renew", desk.renew), web.get("/health", _health)])
    app.add_routes(sync_routes(authority, authenticate=tokens.authenticate))
    return app


# -- the process


async def _serve(authority: Authority, tokens: Tokens, port: int, tell: Tell) -> None:
    runner = web.AppRunner(create(authority, tokens), access_log=None, shutdown_timeout=2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        tell(f"office http://127.0.0.1:{runner.addresses[0][1]}/")
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def tokens_of(data: Path, lifetime_s: float = LIFETIME_S) -> Tokens:
    """The issuer of a head office's tokens."""
    return Tokens(_token_key(data), issuer="offlinekit-portal-office", audience="offlinekit-portal", lifetime_s=lifetime_s)


def today() -> date:
    """The day at the head office."""
    return datetime.now(ZoneInfo(ZONE)).date()


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `office`."""
    parser.add_argument("--data", type=Path, required=True, help="folder of the database, made if it is not there")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--lifetime", type=float, default=LIFETIME_S, metavar="SECONDS", help="of a sign-in")
    parser.add_argument("--products", type=int, default=20_000, help="when the company is made")
    parser.add_argument("--customers", type=int, default=2_000, help="when the company is made")


def main(options: Any) -> int:
    """Serves until interrupted; raises Taken."""

    def tell(line: str) -> None:
        print(line, flush=True)

    data: Path = options.data
    data.mkdir(parents=True, exist_ok=True)
    os.chmod(data, 0o700)
    with alone(data):
        if not (data / DATABASE).exists():
            build(data, Company(today(), products=options.products, customers=options.customers), tell)
        authority = open_authority(data / DATABASE, data / "files")
        try:
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(_serve(authority, tokens_of(data, options.lifetime), options.port, tell))
        finally:
            authority.close()
    return 0
