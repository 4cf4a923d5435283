"""Bearer tokens (JWT) as a login of an offlinekit server: an issuer, and the `authenticate` for aiohttp or ASGI.

    tokens = Tokens(Key(secret), issuer="https://hq.example", lifetime_s=8 * 3600)
    token = tokens.issue("rep-17", {"rep": "rep-17"})
    app.add_routes(sync_routes(authority, authenticate=tokens.authenticate))

Identity and claims come from the token alone, whose signature, issuer, audience and times are checked by PyJWT. Each key has
one algorithm, and the key's is used: what a token says of itself chooses at most among the keys. Whatever is wrong with a
token, its bearer has to sign in again; the token itself is never logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, get_args

from attrs import field, frozen

from offlinekit.exceptions import StateError

try:
    import jwt
except ImportError as error:
    raise ImportError('offlinekit_adapters.jwt needs PyJWT: pip install "offlinekit[jwt]"') from error

__all__ = ["LEEWAY_S", "SECRET_BYTES_MIN", "TOKEN_CHARS_MAX", "Algorithm", "HasHeaders", "Key", "Token", "Tokens"]

Algorithm = Literal["HS256", "EdDSA", "ES256", "RS256"]
SECRET_BYTES_MIN = 32  # RFC 7518, 3.2: as long as the hash
RSA_BITS_MIN = 2048
TOKEN_CHARS_MAX = 8192
LEEWAY_S = 5  # for clocks of several servers
_REQUIRED = ["exp", "iat", "iss", "aud", "sub"]
_log = logging.getLogger("offlinekit.jwt")


class HasHeaders(Protocol):
    """What `authenticate` looks at: a request of aiohttp, of the ASGI adapter, of Starlette."""

    @property
    def headers(self) -> Any:  # a Mapping[str, str]: pyright sees a descriptor of aiohttp's own there, and not its type
        """The headers, whose names' case does not matter."""
        ...


@frozen
class Token:
    """What a valid token says; `issued` and `expires` are seconds since 1970."""

    identity: str
    claims: Mapping[str, Any]
    issued: float
    expires: float


@frozen
class Key:
    """A key with its one algorithm, and the name by which tokens call it (`kid`).

    HS256 takes at least 32 random bytes, the others a key in PEM and the package `cryptography`; a public one verifies only.
    """

    material: bytes = field(repr=False)
    id: str = ""
    algorithm: Algorithm = "HS256"
    _signs: Any = field(init=False, repr=False, eq=False)
    _verifies: Any = field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.algorithm not in get_args(Algorithm):
            raise ValueError(f"unknown algorithm '{self.algorithm}': use one of {', '.join(get_args(Algorithm))}")
        if self.algorithm == "HS256" and len(self.material) < SECRET_BYTES_MIN:
            size = f"at least {SECRET_BYTES_MIN} bytes, and this one has {len(self.material)}"
            raise ValueError(f"a key for HS256 needs {size}; make one with secrets.token_bytes({SECRET_BYTES_MIN})")
        signs, verifies = self._prepare()
        object.__setattr__(self, "_signs", signs)
        object.__setattr__(self, "_verifies", verifies)

    def _prepare(self) -> tuple[Any, Any]:
        """The keys to sign with (None: it cannot) and to verify with, as PyJWT takes them."""
        try:
            prepared: Any = jwt.get_algorithm_by_name(self.algorithm).prepare_key(self.material)
        except NotImplementedError:
            raise ImportError(f'{self.algorithm} needs a package: pip install "pyjwt[crypto]"') from None
        except (jwt.InvalidKeyError, ValueError, TypeError) as error:
            raise ValueError(f"this is no key for {self.algorithm}: {error}") from None  # the cause may quote the key
        if self.algorithm == "HS256":
            return prepared, prepared
        if self.algorithm == "RS256" and prepared.key_size < RSA_BITS_MIN:
            raise ValueError(f"a key for RS256 has at least {RSA_BITS_MIN} bits, this one {prepared.key_size}")
        return (prepared, prepared.public_key()) if hasattr(prepared, "sign") else (None, prepared)


class Tokens:
    """Issues and verifies tokens of one issuer for one audience.

    The first key signs; all verify. To rotate, put the new key first and drop the old one when its last token has expired:
    keys then need names. A service that only verifies is given public keys.
    """

    def __init__(self, keys: Key | Iterable[Key], *, issuer: str, audience: str = "offlinekit", lifetime_s: float = 3600) -> None:
        self._keys = (keys,) if isinstance(keys, Key) else tuple(keys)
        if not self._keys or len({key.id for key in self._keys}) != len(self._keys):
            raise ValueError("give at least one key; several need an id each, under which tokens name them")
        if not issuer or not audience:
            raise ValueError("issuer and audience are checked in every token: name both")
        if lifetime_s <= 0:
            raise ValueError(f"a token lives for some seconds, not {lifetime_s}")
        self.issuer, self.audience, self.lifetime_s = issuer, audience, lifetime_s

    def issue(self, identity: str, claims: Mapping[str, Any] | None = None) -> str:
        """A token for somebody whose identity you have verified; `claims` are what scopes and offers use, as plain values."""
        if not identity:
            raise ValueError("a token names somebody: the identity is empty")
        key, now = self._keys[0], time.time()
        if key._signs is None:
            raise StateError("the first key is a public one, which verifies only; issue tokens where the private key is")
        said = {
            "iss": self.issuer, "aud": self.audience, "sub": identity, "iat": int(now), "exp": int(now + self.lifetime_s),
            "claims": dict(claims or {}),
        }  # fmt: skip
        token = jwt.encode(said, key._signs, algorithm=key.algorithm, headers={"kid": key.id} if key.id else None)
        if len(token) > TOKEN_CHARS_MAX:
            raise ValueError(f"the token has {len(token)} characters, over {TOKEN_CHARS_MAX}: claims are to be few and short")
        return token

    def authenticate(self, request: HasHeaders) -> tuple[str, Mapping[str, Any]] | None:
        """For `sync_routes` and `sync_app`: identity and claims of the bearer token, or None."""
        headers: Mapping[str, str] = request.headers
        kind, _, token = headers.get("Authorization", "").partition(" ")
        found = self.read(token.strip()) if kind.lower() == "bearer" else None
        return None if found is None else (found.identity, found.claims)

    def read(self, token: str) -> Token | None:
        """What a valid token says; None for any other."""
        if not 0 < len(token) <= TOKEN_CHARS_MAX:
            return None
        try:
            return self._read(token)
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
            _log.info("a token was refused: %s", type(error).__name__)  # and no more: messages quote what they read
            return None

    def _read(self, token: str) -> Token | None:
        named = jwt.get_unverified_header(token).get("kid", "")
        key = next((key for key in self._keys if key.id == named), None)
        if key is None:
            raise jwt.InvalidKeyError
        said = jwt.decode(
            token, key._verifies, algorithms=[key.algorithm], issuer=self.issuer, audience=self.audience, leeway=LEEWAY_S,
            options={"require": _REQUIRED, "strict_aud": True},
        )  # fmt: skip
        identity, claims = said["sub"], said.get("claims", {})
        if not isinstance(identity, str) or not identity or not isinstance(claims, dict):
            raise jwt.InvalidTokenError
        return Token(identity, claims, float(said["iat"]), float(said["exp"]))
