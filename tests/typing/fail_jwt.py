"""Mistakes with tokens that the checkers find; each line with `# error` must be reported."""

from __future__ import annotations

from offlinekit_adapters.jwt import Key, Tokens


def serve(secret: bytes) -> None:
    Key("a secret as text")  # error
    Key(secret, algorithm="none")  # error
    Tokens(secret, issuer="https://hq.example")  # error
    tokens = Tokens(Key(secret))  # error
    tokens.issue(17)  # error
    print(tokens.read("").identity)  # error
