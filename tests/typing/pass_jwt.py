"""Tokens as servers use them: both adapters take their login."""

from __future__ import annotations

from aiohttp import web

from offlinekit import Authority
from offlinekit_adapters.aiohttp_server import sync_routes
from offlinekit_adapters.asgi import Application, sync_app
from offlinekit_adapters.jwt import Key, Tokens


def serve(authority: Authority, secret: bytes, public: bytes) -> Application:
    keys = [Key(secret, id="new"), Key(public, id="old", algorithm="ES256")]
    tokens = Tokens(keys, issuer="https://hq.example", lifetime_s=600)
    app = web.Application()
    app.add_routes(sync_routes(authority, authenticate=tokens.authenticate))
    token: str = tokens.issue("rep-17", {"rep": "rep-17", "price_lists": ["T10"]})
    found = tokens.read(token)
    expires: float = found.expires if found else 0.0
    print(expires)
    return sync_app(authority, authenticate=tokens.authenticate)
