"""Who may sign in at the head office: users, hashes of their passwords, and how often somebody may guess."""

from __future__ import annotations

import secrets
from collections import OrderedDict, deque

import msgspec
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from attrs import frozen

from offlinekit import Authority
from offlinekit.clock import Clock, SystemClock
from offlinekit_portal.contract import Representative

__all__ = ["GUESSES_MAX", "PASSWORD_MAX", "USERS", "USER_MAX", "WINDOW_S", "Account", "Accounts", "Attempts", "make_password"]

# Who can sign in, and as which representative.
USERS = {"marina": "R01", "carlos": "R02", "fernanda": "R03"}
USER_MAX, PASSWORD_MAX = 64, 200
GUESSES_MAX, WINDOW_S = 5, 60.0
WATCHED_MAX = 10_000  # users whose guesses are remembered; an attacker may invent any number
_TABLE = """CREATE TABLE portal_user(name TEXT PRIMARY KEY, rep TEXT NOT NULL, price_lists TEXT NOT NULL,
  hash TEXT NOT NULL) STRICT"""
_WORDS = ("aroeira", "buriti", "cedro", "embira", "imbuia", "jacaranda", "jatoba", "paineira", "peroba", "sibipiruna")


@frozen
class Account:
    """A user as the head office knows it now."""

    user: str
    name: str
    rep: str
    price_lists: list[str]

    @property
    def claims(self) -> dict[str, object]:
        """What scopes and offers are given."""
        return {"rep": self.rep, "price_lists": self.price_lists}


def make_password() -> str:
    """A password of the demo that can be typed: two words and six digits."""
    return f"{secrets.choice(_WORDS)}-{secrets.choice(_WORDS)}-{secrets.randbelow(10**6):06}"


class Accounts:
    """The users in the authority's database, in a table that devices never hear of."""

    def __init__(self, authority: Authority) -> None:
        self._authority, self._hasher = authority, PasswordHasher()
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))  # so that unknown users take as long as known ones

    def create(self, password: str, lists: dict[str, tuple[str, ...]]) -> None:
        """Creates the table and the users; `lists` are the price lists by representative."""
        hashes = {user: self._hasher.hash(password) for user in USERS}
        with self._authority.transaction() as tx:
            tx.connection.execute(_TABLE)
            for user, rep in USERS.items():
                row = (user, rep, msgspec.json.encode(lists[rep]).decode(), hashes[user])
                tx.connection.execute("INSERT INTO portal_user VALUES(?,?,?,?)", row)

    def find(self, user: str) -> Account | None:
        """A user, without asking for a password."""
        found = self._look_up(user)
        return found[0] if found else None

    def verify(self, user: str, password: str) -> Account | None:
        """The user if the password is right; takes as long for a wrong password as for an unknown user."""
        found = self._look_up(user)
        try:
            self._hasher.verify(found[1] if found else self._nobody, password)
        except (VerificationError, InvalidHashError):
            return None
        return found[0] if found else None

    def _look_up(self, user: str) -> tuple[Account, str] | None:
        with self._authority.transaction() as tx:
            row = tx.connection.execute("SELECT rep,price_lists,hash FROM portal_user WHERE name=?", (user,)).get
            rep = tx.get(Representative, row[0]) if row else None
        if row is None or rep is None:
            return None
        return Account(user, rep.name, rep.code, msgspec.json.decode(row[1], type=list[str])), row[2]


class Attempts:
    """At most so many failed attempts a user and window; used in one thread."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seen: OrderedDict[str, deque[float]] = OrderedDict()

    def begin(self, user: str) -> float:
        """Counts an attempt; the seconds to wait when there were too many already, and then it does not count."""
        now = self._clock.monotonic()
        times = self._seen.setdefault(user, deque())
        self._seen.move_to_end(user)
        while times and times[0] <= now - WINDOW_S:
            times.popleft()
        if len(times) >= GUESSES_MAX:
            return times[0] + WINDOW_S - now
        times.append(now)
        while len(self._seen) > WATCHED_MAX:
            self._seen.popitem(last=False)
        return 0.0

    def succeeded(self, user: str) -> None:
        """Forgets a user's attempts."""
        self._seen.pop(user, None)
