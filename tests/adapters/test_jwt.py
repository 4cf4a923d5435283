"""Only a token that the issuer signed, in time and for this audience, says who somebody is; an expired one pauses a sync."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import queue
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from offlinekit import Authority, Collection, Field, Offer, Quick, Replica, Schema, SQLiteStore, Status, claim, field
from offlinekit.exceptions import StateError
from offlinekit_adapters.asgi import Headers, Request
from offlinekit_adapters.http import HTTP
from offlinekit_adapters.jwt import LEEWAY_S, TOKEN_CHARS_MAX, Algorithm, Key, Tokens
from tests.adapters.serving import SERVERS, House, Serving

SECRET = bytes(range(32))
ISSUER, AUDIENCE = "https://hq.example", "offlinekit"
CLAIMS = {"rep": "rep-17", "price_lists": ["T10", "T90"]}
TOKENS = Tokens(Key(SECRET), issuer=ISSUER)


def payload(**changes: Any) -> dict[str, Any]:
    """A payload that is good in everything but the changes; None leaves something out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "rep-17", "iat": now, "exp": now + 600, "claims": CLAIMS}
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **changes: Any) -> str:
    return jwt.encode(payload(**changes), key, algorithm=algorithm, headers=headers)


def by_hand(header: Mapping[str, Any], body: Mapping[str, Any], signature: bytes = b"") -> str:
    """A token as an attacker puts it together."""
    parts = [json.dumps(header).encode(), json.dumps(body).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def pems(private: Any) -> tuple[bytes, bytes]:
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), public


RSA = pems(rsa.generate_private_key(65537, 2048))
PAIRS: list[tuple[Algorithm, tuple[bytes, bytes]]] = [
    ("EdDSA", pems(ed25519.Ed25519PrivateKey.generate())),
    ("ES256", pems(ec.generate_private_key(ec.SECP256R1()))),
    ("RS256", RSA),
]


def request(authorization: str | None) -> Request:
    return Request(Headers([(b"authorization", authorization.encode())] if authorization is not None else []), {})


def test_an_issued_token_says_who_and_what_they_may() -> None:
    before = time.time()
    token = TOKENS.issue("rep-17", CLAIMS)
    found = TOKENS.read(token)
    assert found is not None
    assert (found.identity, found.claims) == ("rep-17", CLAIMS)
    assert int(before) <= found.issued <= time.time()
    assert found.expires == pytest.approx(found.issued + TOKENS.lifetime_s, abs=1)
    assert TOKENS.authenticate(request(f"Bearer {token}")) == ("rep-17", CLAIMS)
    assert TOKENS.authenticate(request(f"bearer  {token}")) == ("rep-17", CLAIMS)
    assert TOKENS.read(TOKENS.issue("rep-18")) is not None


def test_tokens_signed_elsewhere_with_the_same_key_are_read() -> None:
    assert TOKENS.read(signed()) is not None
    assert TOKENS.read(signed(claims=None)) is not None
    assert TOKENS.read(signed(exp=int(time.time()) - LEEWAY_S + 2)) is not None, "clocks differ a little"
    assert TOKENS.read(signed(exp=int(time.time()) - 15)) is None, "and no more than a little"


BAD: dict[str, Any] = {
    "expired": lambda: signed(exp=int(time.time()) - LEEWAY_S - 1),
    "issued in the future": lambda: signed(iat=int(time.time()) + LEEWAY_S + 60),
    "not yet": lambda: signed(nbf=int(time.time()) + LEEWAY_S + 60),
    "another key": lambda: signed(secrets.token_bytes(32)),
    "another audience": lambda: signed(aud="billing"),
    "several audiences": lambda: signed(aud=[AUDIENCE, "billing"]),
    "another issuer": lambda: signed(iss="https://evil.example"),
    "no expiry": lambda: signed(exp=None),
    "no time of issue": lambda: signed(iat=None),
    "no issuer": lambda: signed(iss=None),
    "no audience": lambda: signed(aud=None),
    "nobody": lambda: signed(sub=None),
    "an empty name": lambda: signed(sub=""),
    "claims that are none": lambda: signed(claims=["rep"]),
    "times that are none": lambda: by_hand({"alg": "HS256"}, payload(exp="later")),
    "another algorithm of the same family": lambda: signed(algorithm="HS512", key=SECRET * 2),
    "no algorithm": lambda: by_hand({"alg": "none", "typ": "JWT"}, payload()),
    "no algorithm, in other letters": lambda: by_hand({"alg": "nOnE"}, payload()),
    "no algorithm, with a signature": lambda: by_hand({"alg": "none"}, payload(), b"x" * 32),
    "a key that is not known": lambda: signed(headers={"kid": "other"}),
    "a key that is no name": lambda: by_hand({"alg": "HS256", "kid": ["", "a"]}, payload()),
    "a key of its own": lambda: signed(headers={"jwk": {"kty": "oct", "k": "AA"}}, key=b"\0" * 32),
    "no payload": lambda: by_hand({"alg": "HS256"}, {}),
    "deep nesting": lambda: base64.urlsafe_b64encode(b"[" * 5000).decode() + ".e30.AA",
    "too long": lambda: signed(claims={"x": "y" * TOKEN_CHARS_MAX}),
    "no token": lambda: "",
    "words": lambda: "not a token",
    "dots": lambda: "...",
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD)
def test_a_bad_token_is_nobody(token: Any) -> None:
    assert TOKENS.read(token()) is None
    assert TOKENS.authenticate(request(f"Bearer {token()}")) is None


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer{}", "Bearer {} {}"])
def test_only_a_bearer_token_counts(authorization: str | None) -> None:
    token = TOKENS.issue("rep-17")
    assert TOKENS.authenticate(request(None if authorization is None else authorization.format(token, token))) is None


def test_tampered_claims_are_nobody() -> None:
    head, body, signature = TOKENS.issue("rep-17", {"rep": "rep-17"}).split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    said["claims"]["rep"] = "rep-18"
    forged = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
    assert TOKENS.read(f"{head}.{forged}.{signature}") is None
    assert TOKENS.read(f"{head}.{body}.{signature}") is not None


@given(st.integers(0, 2000), st.characters(codec="ascii"))
def test_any_changed_character_is_nobody(at: int, character: str) -> None:
    token = TOKENS.issue("rep-17", CLAIMS)
    at %= len(token)
    changed = token[:at] + character + token[at + 1 :]
    found = TOKENS.read(changed)
    # The last characters of base64 hold bits that mean nothing: such a token still says the same.
    assert found is None or found == TOKENS.read(token)


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    """The classic: the verifier's public key, which everybody may have, used as the secret of HS256."""
    private, public = RSA
    verifier = Tokens(Key(public, algorithm="RS256"), issuer=ISSUER)
    assert verifier.read(Tokens(Key(private, algorithm="RS256"), issuer=ISSUER).issue("rep-17")) is not None
    for key in (public, public.strip()):
        head, body = by_hand({"alg": "HS256", "typ": "JWT"}, payload()).split(".")[:2]
        signature = hmac.digest(key, f"{head}.{body}".encode(), hashlib.sha256)
        assert verifier.read(by_hand({"alg": "HS256", "typ": "JWT"}, payload(), signature)) is None


@pytest.mark.parametrize(("algorithm", "pair"), PAIRS, ids=[name for name, _ in PAIRS])
def test_a_public_key_verifies_and_cannot_issue(algorithm: Algorithm, pair: tuple[bytes, bytes]) -> None:
    issuer = Tokens(Key(pair[0], algorithm=algorithm), issuer=ISSUER)
    verifier = Tokens(Key(pair[1], algorithm=algorithm), issuer=ISSUER)
    token = issuer.issue("rep-17", CLAIMS)
    assert verifier.read(token) == issuer.read(token) is not None
    assert verifier.read(signed()) is None, "a secret is another key"
    with pytest.raises(StateError, match="verifies only"):
        verifier.issue("rep-17")


def test_keys_are_rotated_without_signing_anybody_out() -> None:
    old, new = Key(SECRET, id="2026-10"), Key(SECRET[::-1], id="2026-11")
    before, after = Tokens(old, issuer=ISSUER), Tokens([new, old], issuer=ISSUER)
    token, fresh = before.issue("rep-17"), after.issue("rep-17")
    assert jwt.get_unverified_header(fresh)["kid"] == "2026-11"
    assert after.read(token) is not None
    assert after.read(fresh) is not None
    assert before.read(fresh) is None
    assert Tokens(new, issuer=ISSUER).read(token) is None, "dropped with its key"
    assert after.read(signed(SECRET, headers={"kid": "2026-11"})) is None, "one key under the other's name"
    assert after.read(signed(SECRET)) is None, "no name, where keys have names"


def test_each_key_has_its_own_algorithm_only() -> None:
    private, _ = RSA
    both = Tokens([Key(private, id="rsa", algorithm="RS256"), Key(SECRET, id="secret")], issuer=ISSUER)
    assert both.read(both.issue("rep-17")) is not None
    assert both.read(signed(headers={"kid": "secret"})) is not None
    assert both.read(signed(headers={"kid": "rsa"})) is None
    assert both.read(signed(private, "RS256", {"kid": "secret"})) is None


WRONG: dict[str, tuple[Any, str]] = {
    "short secret": (lambda: Key(b"x" * 31), "at least 32 bytes"),
    "unknown algorithm": (lambda: Key(SECRET, algorithm="none"), "unknown algorithm 'none'"),  # type: ignore[arg-type]
    "PEM as a secret": (lambda: Key(RSA[1]), "no key for HS256"),
    "no PEM": (lambda: Key(SECRET, algorithm="EdDSA"), "no key for EdDSA"),
    "other PEM": (lambda: Key(RSA[0], algorithm="ES256"), "no key for ES256"),
    "small RSA": (lambda: Key(pems(rsa.generate_private_key(65537, 1024))[0], algorithm="RS256"), "at least 2048 bits"),
    "no key": (lambda: Tokens([], issuer=ISSUER), "at least one key"),
    "two keys without names": (lambda: Tokens([Key(SECRET), Key(SECRET[::-1])], issuer=ISSUER), "an id each"),
    "no issuer": (lambda: Tokens(Key(SECRET), issuer=""), "name both"),
    "no audience": (lambda: Tokens(Key(SECRET), issuer=ISSUER, audience=""), "name both"),
    "no lifetime": (lambda: Tokens(Key(SECRET), issuer=ISSUER, lifetime_s=0), "lives for some seconds"),
    "nobody": (lambda: TOKENS.issue(""), "the identity is empty"),
    "long claims": (lambda: TOKENS.issue("rep-17", {"x": "y" * TOKEN_CHARS_MAX}), "few and short"),
}


@pytest.mark.parametrize(("make", "says"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_safe_is_refused_at_once(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()


def test_neither_keys_nor_tokens_are_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert "x07" not in repr(Key(SECRET)) + repr(Tokens(Key(SECRET), issuer=ISSUER))
    token = signed(secrets.token_bytes(32), aud="billing")
    assert TOKENS.read(token) is None
    assert "a token was refused" in caplog.text
    assert not any(part in caplog.text for part in token.split("."))


# -- a device whose token expires


class Task(Collection, writable=True):
    """Something to do."""

    id: Field[int] = field(key=True)
    rep: Field[str]


SCHEMA = Schema(Task, intents=["add"])
OFFER = Offer(Quick("mine", Task, Task.rep == claim("rep")))


@pytest.mark.slow
@pytest.mark.parametrize("serving", SERVERS, ids=lambda serving: serving.__name__)
def test_a_sync_pauses_when_the_token_expires_and_goes_on_with_a_new_one(serving: Serving, tmp_path: Path) -> None:
    authority = Authority(SQLiteStore(tmp_path / "hq.db"), SCHEMA, offer=OFFER, scopes={Task: Task.rep == claim("rep")})
    authority.allow("add", writes={Task: "insert"})
    authority.load([Task(id=1, rep="rep-17"), Task(id=2, rep="rep-18")])
    held = [TOKENS.issue("rep-17", {"rep": "rep-17"})]
    states: queue.Queue[Status] = queue.Queue()

    with closing(authority), House() as house:
        server = serving(authority, TOKENS.authenticate, 2)
        port, path = house.run(server.__aenter__())
        try:
            replica = Replica.open(tmp_path / "device.db", SCHEMA, offer=OFFER, identity="rep-17")
            with closing(replica):
                replica.configure().quick("mine").save()
                link = replica.start_sync(HTTP(f"http://127.0.0.1:{port}{path}", bearer=lambda: held[0]), every=3600)
                assert link.wait_synced(timeout=30).state == "online"
                assert [task.id for task in replica.select(Task).all()] == [1]

                held[0] = signed(exp=int(time.time()) - LEEWAY_S - 1, claims={"rep": "rep-17"})
                link.on_status(states.put)
                with replica.transaction("add") as tx:
                    tx.insert(Task(id=3, rep="rep-17"))
                while (status := states.get(timeout=30)).state != "unauthenticated":
                    pass
                assert status.pending == 1
                assert "sign in again" in status.detail
                with replica.transaction("add") as tx:  # and work goes on
                    tx.insert(Task(id=4, rep="rep-17"))
                assert [task.id for task in replica.select(Task).all()] == [1, 3, 4]
                assert authority.select(Task).count() == 2, "something was taken from nobody"

                held[0] = TOKENS.issue("rep-17", {"rep": "rep-17"})
                status = link.wait_synced(timeout=30)
                assert (status.state, status.pending, status.rejected) == ("online", 0, 0)
            assert authority.select(Task).count() == 4
        finally:
            house.run(server.__aexit__(None, None, None))
