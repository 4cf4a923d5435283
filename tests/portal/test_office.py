"""The head office over HTTP: who may sign in, how often somebody may guess, what a token is worth, and a build that is killed."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from attrs import define

from offlinekit import Authority
from offlinekit.testing.pair import MovableClock
from offlinekit_adapters.http import HTTP
from offlinekit_adapters.jwt import LEEWAY_S, Tokens
from offlinekit_portal.accounts import GUESSES_MAX, USERS, WATCHED_MAX, WINDOW_S, Accounts, Attempts, make_password
from offlinekit_portal.contract import Customer, Order
from offlinekit_portal.office import DATABASE, KEY_FILE, PASSWORD_FILE, create, tokens_of
from tests.portal.trading import CLAIMS, PASSWORD, build_office, device_of, office_from


@define
class Scene:
    """A head office that serves, a client, and the clock that its limits go by."""

    authority: Authority
    tokens: Tokens
    clock: MovableClock
    client: aiohttp.ClientSession
    url: str

    async def login(self, user: str, password: str) -> tuple[int, dict[str, Any]]:
        async with self.client.post(f"{self.url}/login", json={"user": user, "password": password}) as answer:
            return answer.status, await answer.json()

    async def renew(self, token: str) -> tuple[int, dict[str, Any]]:
        async with self.client.post(f"{self.url}/renew", headers={"Authorization": f"Bearer {token}"}) as answer:
            return answer.status, await answer.json()


Play = Callable[[Callable[[Scene], Awaitable[None]]], None]


@pytest.fixture
def play(small_office: Path, tmp_path: Path) -> Iterator[Play]:
    with office_from(small_office, tmp_path) as authority:
        tokens, clock = tokens_of(tmp_path), MovableClock()

        async def whole(act: Callable[[Scene], Awaitable[None]]) -> None:
            runner = web.AppRunner(create(authority, tokens, clock=clock), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            try:
                async with aiohttp.ClientSession() as client:
                    await act(Scene(authority, tokens, clock, client, f"http://127.0.0.1:{runner.addresses[0][1]}"))
            finally:
                await runner.cleanup()

        yield lambda act: asyncio.run(whole(act))


def test_who_signs_in_gets_a_token_with_what_they_may_do(play: Play) -> None:
    async def act(scene: Scene) -> None:
        status, said = await scene.login(" Marina ", PASSWORD)
        assert status == 200
        assert {name: said[name] for name in ("identity", "name", "rep")} == {
            "identity": "marina", "name": "Marina Duarte", "rep": "R01",
        }  # fmt: skip
        token = scene.tokens.read(said["token"])
        assert token is not None
        assert (token.identity, token.claims, token.expires) == ("marina", CLAIMS["R01"], said["expires"])
        assert token.expires - token.issued == scene.tokens.lifetime_s

    play(act)


WRONG = [("marina", "wrong"), ("nobody", PASSWORD), ("", PASSWORD), ("marina", ""), ("x" * 65, PASSWORD), ("marina", "x" * 201),
         ("marina' --", PASSWORD)]  # fmt: skip


@pytest.mark.parametrize(("user", "password"), WRONG)
def test_a_wrong_password_and_an_unknown_user_are_answered_alike(play: Play, user: str, password: str) -> None:
    async def act(scene: Scene) -> None:
        assert await scene.login(user, password) == (401, {"code": "wrong", "message": "user or password is wrong"})

    play(act)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"user": 1, "password": "x"}', b'{"user": "marina"}', b"\xff",
                                  b'{"user": "marina", "password": "x", "more": 1}'])  # fmt: skip
def test_what_is_no_sign_in_is_said(play: Play, body: bytes) -> None:
    async def act(scene: Scene) -> None:
        async with scene.client.post(f"{scene.url}/login", data=body) as answer:
            assert answer.status == 400
            assert (await answer.json())["code"] == "invalid"

    play(act)


def test_a_sign_in_of_any_size_is_not_read(play: Play) -> None:
    async def act(scene: Scene) -> None:
        async with scene.client.post(f"{scene.url}/login", data=b"x" * 100_000) as answer:
            assert answer.status == 413

    play(act)


@pytest.mark.slow
def test_an_unknown_user_takes_as_long_as_a_wrong_password(small_office: Path, tmp_path: Path) -> None:
    with office_from(small_office, tmp_path) as authority:
        accounts = Accounts(authority)

        def best(user: str) -> float:
            def once() -> float:
                started = time.perf_counter()
                assert accounts.verify(user, "wrong") is None
                return time.perf_counter() - started

            return min(once() for _ in range(4))

        known, unknown = best("marina"), best("nobody")
        assert 1 / 3 < known / unknown < 3


@pytest.mark.slow
def test_guesses_are_limited_for_each_user_and_window(play: Play) -> None:
    async def act(scene: Scene) -> None:
        for _ in range(GUESSES_MAX):
            assert (await scene.login("marina", "wrong"))[0] == 401
        async with scene.client.post(f"{scene.url}/login", json={"user": "MARINA", "password": PASSWORD}) as answer:
            assert answer.status == 429, "the right password, too: else a guess is found out all the same"
            assert 0 < int(answer.headers["Retry-After"]) <= WINDOW_S
            assert (await answer.json())["code"] == "wait"
        assert (await scene.login("carlos", PASSWORD))[0] == 200
        scene.clock.move(seconds=WINDOW_S + 1)
        assert (await scene.login("marina", PASSWORD))[0] == 200

    play(act)


@pytest.mark.slow
def test_guesses_at_once_are_limited_as_well(play: Play) -> None:
    async def act(scene: Scene) -> None:
        answers = await asyncio.gather(*(scene.login("marina", f"guess {n}") for n in range(3 * GUESSES_MAX)))
        assert sorted(status for status, _ in answers) == [401] * GUESSES_MAX + [429] * 2 * GUESSES_MAX

    play(act)


def test_attempts_are_forgotten_when_one_succeeds_and_when_there_are_too_many_users() -> None:
    attempts = Attempts(MovableClock())
    for _ in range(3):
        assert [attempts.begin("a") for _ in range(GUESSES_MAX)] == [0.0] * GUESSES_MAX
        assert attempts.begin("a") == WINDOW_S
        attempts.succeeded("a")
    for n in range(WATCHED_MAX + 10):
        attempts.begin(f"user {n}")
    assert len(attempts._seen) == WATCHED_MAX


def test_neither_passwords_nor_tokens_are_logged(play: Play, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    tokens = []

    async def act(scene: Scene) -> None:
        await scene.login("marina", "a secret guess")
        tokens.append((await scene.login("marina", PASSWORD))[1]["token"])
        await scene.renew(tokens[0])
        await scene.renew("forged." + tokens[0])

    play(act)
    assert caplog.text
    assert not any(secret in caplog.text for secret in ("a secret guess", PASSWORD, tokens[0], "forged"))


def test_a_token_is_renewed_while_it_is_valid_with_what_its_user_may_do_now(play: Play) -> None:
    async def act(scene: Scene) -> None:
        token = (await scene.login("marina", PASSWORD))[1]["token"]
        with scene.authority.transaction() as tx:
            tx.connection.execute("UPDATE portal_user SET price_lists='[\"T10\"]' WHERE name='marina'")
        status, said = await scene.renew(token)
        found = scene.tokens.read(said["token"])
        assert (status, said["rep"]) == (200, "R01")
        assert found is not None
        assert found.claims == {"rep": "R01", "price_lists": ["T10"]}
        with scene.authority.transaction() as tx:
            tx.connection.execute("DELETE FROM portal_user WHERE name='marina'")
        assert (await scene.renew(token))[0] == 401

    play(act)


def test_an_expired_and_a_forged_token_are_not_renewed(play: Play, tmp_path: Path) -> None:
    async def act(scene: Scene) -> None:
        good = jwt.decode(scene.tokens.issue("marina", CLAIMS["R01"]), options={"verify_signature": False})
        key = (tmp_path / KEY_FILE).read_bytes()
        for said, with_key, status in [
            (good, key, 200), (good, b"x" * 32, 401),
            (good | {"exp": int(time.time()) - LEEWAY_S - 1}, key, 401), (good | {"sub": "nobody"}, key, 401),
        ]:  # fmt: skip
            assert (await scene.renew(jwt.encode(said, with_key)))[0] == status
        async with scene.client.post(f"{scene.url}/renew") as answer:
            assert answer.status == 401

    play(act)


def test_health_is_told_to_everybody_and_the_rest_to_nobody(play: Play) -> None:
    async def act(scene: Scene) -> None:
        async with scene.client.get(f"{scene.url}/health") as answer:
            assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        async with scene.client.post(f"{scene.url}/sync/exchange", data=b"") as answer:
            assert answer.status == 401
        async with scene.client.get(f"{scene.url}/health", headers={"Host": "evil.example"}) as answer:
            assert answer.status == 421

    play(act)


@pytest.mark.slow
def test_a_device_that_signed_in_sells_over_http(play: Play, tmp_path: Path) -> None:
    def sell(scene: Scene, token: str) -> None:
        transport = HTTP(f"{scene.url}/sync", bearer=lambda: token)
        with device_of("marina", scene.authority, tmp_path / "device.db", transport) as device:
            ours = {c.code: c for c in scene.authority.select(Customer).where(Customer.rep == "R01").all()}
            held = device.customers()
            assert {c.code for c in held} == set(ours)
            rich = max(held, key=lambda c: ours[c.code].credit_left)
            order = device.replica.get(Order, device.order(rich, device.prices(rich, 1)))
            assert order is not None
            assert order.number is not None
            assert order.total > Decimal("0.01")

    async def act(scene: Scene) -> None:
        token = (await scene.login("marina", PASSWORD))[1]["token"]
        await asyncio.to_thread(sell, scene, token)

    play(act)


# -- the database, and the process


def test_secrets_are_this_users_alone_and_no_password_is_stored_as_it_is(small_office: Path, tmp_path: Path) -> None:
    assert (small_office / PASSWORD_FILE).read_text() == PASSWORD
    tokens_of(tmp_path)
    for path in (small_office / PASSWORD_FILE, tmp_path / KEY_FILE):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600 or sys.platform == "win32"
    with office_from(small_office, tmp_path) as authority, authority.transaction() as tx:
        hashes = [row[0] for row in tx.connection.execute("SELECT hash FROM portal_user")]
    assert len(set(hashes)) == len(USERS), "one salt for all"
    assert all(found.startswith("$argon2id$") for found in hashes)
    assert len({make_password() for _ in range(50)}) == 50


def test_tokens_outlive_a_restart(tmp_path: Path) -> None:
    assert tokens_of(tmp_path).read(tokens_of(tmp_path).issue("marina")) is not None


@contextmanager
def office_process(data: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "offlinekit_portal", "office", "--data", str(data), "--with-parent"]
    process = subprocess.Popen([*command, "--products", "1050", "--customers", "100"], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, encoding="utf-8", env=os.environ | {"PYTHONUTF8": "1"})  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.slow
def test_a_killed_build_starts_anew_and_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    with office_process(tmp_path) as process:
        for line in process.stdout or ():
            if re.match(r"made \d+ prices", line):
                break
    assert not (tmp_path / DATABASE).exists()
    assert (tmp_path / (DATABASE + ".part")).exists()
    with office_process(tmp_path) as process:
        *_, last = iter_until(process, "office ")
        found = re.fullmatch(r"office http://127\.0\.0\.1:(\d+)/\n", last)
        assert found, last
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", int(found[1])), timeout=10):
            pass  # that it listens on one address of this machine only
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    assert (tmp_path / DATABASE).exists()
    assert not list(tmp_path.glob("*.part*"))
    assert list(tmp_path.glob(DATABASE + "-*")) == [], "it was closed properly"
    with office_process(tmp_path) as process:
        assert len(list(iter_until(process, "office "))) == 1, "it was made once"


def iter_until(process: subprocess.Popen[str], beginning: str) -> Iterator[str]:
    """The lines up to the first with that beginning."""
    for line in process.stdout or ():
        yield line
        if line.startswith(beginning):
            return


def test_rests_of_a_killed_build_do_no_harm(tmp_path: Path) -> None:
    for name in (".part", ".part-wal", ".part-shm"):
        (tmp_path / (DATABASE + name)).write_bytes(b"half a database")
    build_office(tmp_path)
    assert sorted(path.name for path in tmp_path.glob(DATABASE + "*")) == [DATABASE]
