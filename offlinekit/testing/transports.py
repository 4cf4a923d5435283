"""What every transport must do, as a suite of tests to inherit from.

    class TestMine(TransportContract):
        faults = frozenset({"unauthenticated", "gone", "slow"})

        @contextmanager
        def meet(self, authority, *, patience_s):
            with my_server(authority) as server:  # on real sockets, if the transport has sockets
                yield MyLine(MyTransport(server.url, timeout=patience_s), server)

The far end is real: a server, a wire and the transport. Only what the authority says is scripted. A fault that the subclass
cannot produce has no test; `CORE` must be among those it can.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar, Literal, Protocol, TypeAlias, TypeVar, get_args

from offlinekit.compress import compress
from offlinekit.exceptions import (
    AuthenticationRequired,
    NotTheAuthority,
    Offline,
    OfflinekitError,
    ProtocolError,
    RecordNotFound,
    TooLarge,
    TransportError,
)
from offlinekit.protocol.codec import CONTENT_MAX, WIRE_MAX, decode_answer
from offlinekit.transport.port import PART_MAX, Transport

__all__ = ["CLAIMS", "CORE", "FAULTS", "IDENTITY", "RETRY_AFTER_S", "Fault", "Line", "ScriptedAuthority", "TransportContract"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
IDENTITY, CLAIMS = "rep-17", {"rep": "rep-17", "regions": ["north", "são paulo"]}
RETRY_AFTER_S = 7.0
FILE, REST = "0123456789abcdef" * 2, 1000

Fault: TypeAlias = Literal[
    "unauthenticated",  # the login refuses
    "gone",  # nobody is there any more
    "cut",  # the line breaks in the middle of an answer
    "slow",  # no answer comes
    "portal",  # somebody else's web page, with status 200
    "redirect",  # to somewhere else, where a good answer would wait
    "busy",  # the authority asks to wait RETRY_AFTER_S
    "refused",  # the far end finds the request too large
    "endless",  # an answer that does not stop at the limit
    "oversized",  # no fault of the line: the limits of the wire are kept on this side
]
FAULTS: Mapping[Fault, type[TransportError]] = {
    "unauthenticated": AuthenticationRequired,
    "gone": Offline,
    "cut": Offline,
    "slow": Offline,
    "portal": NotTheAuthority,
    "redirect": NotTheAuthority,
    "busy": TransportError,
    "refused": TooLarge,
    "endless": TooLarge,
}
CORE: frozenset[Fault] = frozenset({"unauthenticated", "gone", "oversized"})  # also of a transport that has no wire


class ScriptedAuthority:
    """The far end of a transport under test: says what the test wants, and remembers what arrived."""

    def __init__(self) -> None:
        self.answer: Callable[[bytes], bytes] = lambda request: b"answer to " + request
        self.files: dict[str, bytes] = {FILE: os.urandom(PART_MAX + REST)}
        self.part_max = PART_MAX
        self.asked: list[tuple[bytes, str, dict[str, Any]]] = []
        self.fetched: list[tuple[str, int, str]] = []

    def handle(self, request: bytes, identity: str, claims: Mapping[str, Any]) -> bytes:
        """Answers by the script."""
        self.asked.append((request, identity, dict(claims)))
        return self.answer(request)

    def fetch(self, name: str, offset: int, identity: str) -> bytes:
        """A part of a file, as an authority gives it."""
        self.fetched.append((name, offset, identity))
        if name not in self.files or offset < 0:
            raise RecordNotFound("files", (name,))
        return self.files[name][offset : offset + self.part_max]


class Line(Protocol):
    """A transport, and the way to a scripted authority that can be broken and repaired."""

    @property
    def transport(self) -> Transport:
        """The transport under test."""
        ...

    def fail(self, fault: Fault) -> None:
        """From now on every call meets this fault."""
        ...

    def repair(self) -> None:
        """From now on calls arrive again."""
        ...


class TransportContract:
    """Inherit, name the `faults` that can be produced, and implement `meet`."""

    faults: ClassVar[frozenset[Fault]] = frozenset()

    def meet(self, authority: ScriptedAuthority, *, patience_s: float) -> AbstractContextManager[Line]:
        """A line to this authority, whose login takes the transport for IDENTITY with CLAIMS.

        The transport gives up after `patience_s`. Everything is torn down at the end.
        """
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        for fault in get_args(Fault):
            if fault not in cls.faults:
                setattr(cls, f"test_{fault}", None)

    # -- what arrives

    def test_the_core_faults_can_be_produced(self) -> None:
        """A suite that cannot break anything proves little."""
        assert self.faults <= set(get_args(Fault)), f"unknown: {self.faults - set(get_args(Fault))}"
        assert self.faults >= CORE, f"cannot be produced: {CORE - self.faults}"

    def test_an_exchange_arrives_unchanged_both_ways(self) -> None:
        """Every byte, whatever the size, with the identity and claims of the login."""
        far = ScriptedAuthority()
        bodies = [bytes(range(256)), b"\r\n\r\n0\r\n", b"x", b"", os.urandom(300_000), os.urandom(WIRE_MAX)]
        far.answer = lambda request: request[::-1]

        async def use(transport: Transport) -> None:
            for body in bodies:
                assert await transport.exchange(body) == body[::-1]

        self._use(far, use)
        assert [body for body, *_ in far.asked] == bodies
        assert all((identity, claims) == (IDENTITY, CLAIMS) for _, identity, claims in far.asked)

    def test_parts_of_a_file_arrive_from_their_offset(self) -> None:
        """From any offset up to a chunk, nothing at the end, always for the identity of the login."""
        far = ScriptedAuthority()
        whole = far.files[FILE]

        async def use(transport: Transport) -> None:
            for offset in (0, PART_MAX, 1, PART_MAX + REST - 1):
                assert await transport.fetch(FILE, offset) == whole[offset : offset + PART_MAX], offset
            assert await transport.fetch(FILE, PART_MAX + REST) == b""

        self._use(far, use)
        assert far.fetched == [(FILE, offset, IDENTITY) for offset in (0, PART_MAX, 1, PART_MAX + REST - 1, PART_MAX + REST)]

    def test_what_comes_back_is_told_of_as_it_arrives(self) -> None:
        """Rising, up to all of it, in the thread of the caller and before the call returns."""
        far = ScriptedAuthority()
        whole, thread, told = os.urandom(PART_MAX), threading.get_ident(), list[tuple[int, int]]()
        far.answer = lambda request: whole

        def arrived(here: int, size: int) -> None:
            assert threading.get_ident() == thread
            told.append((here, size))

        async def use(transport: Transport) -> None:
            for call in (transport.exchange(b"hello", arrived), transport.fetch(FILE, 0, arrived)):
                assert len(await call) == PART_MAX
                here = [n for n, _ in told]
                assert here == sorted(here), here
                assert len(here) > 1, "at once, and not as it arrives"
                assert here[-1] == PART_MAX
                assert {size for _, size in told} <= {PART_MAX, 0}
                told.clear()

        self._use(far, use)

    def test_an_unknown_file_is_to_be_asked_for_again(self) -> None:
        """ProtocolError and no TransportError: waiting would not help. No name reaches another file."""
        far = ScriptedAuthority()
        odd = ["0" * 32, "", ".", "..", f"../files/{FILE}", f"x/{FILE}", f"{FILE}?offset=0", f"{FILE}#", "é", "a\r\nb", " "]

        async def use(transport: Transport) -> None:
            for name in odd:
                await raises(ProtocolError, transport.fetch(name, 0))
            await raises(ProtocolError, transport.fetch(FILE, -1))
            assert len(await transport.fetch(FILE, 0)) == PART_MAX

        self._use(far, use)
        assert {(n, o) for n, o, _ in far.fetched if n == FILE} <= {(FILE, -1), (FILE, 0)}

    def test_a_bomb_is_carried_as_it_is_and_refused_by_the_codec(self) -> None:
        """A transport unpacks nothing; what is small on the wire and huge inside is refused before it is made."""
        far = ScriptedAuthority()
        bomb = b"OK1\1" + compress(bytes(CONTENT_MAX + 1))
        far.answer = lambda request: bomb

        async def use(transport: Transport) -> None:
            assert await transport.exchange(b"") == bomb

        self._use(far, use)
        try:
            decode_answer(bomb)
        except TooLarge:
            return
        raise AssertionError("the codec unpacked a message of more than CONTENT_MAX bytes")

    # -- when it may be used

    def test_a_closed_transport_connects_anew(self) -> None:
        """Closing is allowed at any time, also twice and before the first use."""

        async def use(transport: Transport) -> None:
            await transport.close()
            for n in range(3):
                assert await transport.exchange(b"%d" % n) == b"answer to %d" % n
                await transport.close()
                await transport.close()

        self._use(ScriptedAuthority(), use)

    def test_it_may_be_used_from_one_event_loop_after_another(self) -> None:
        """Without closing in between, and also when the first loop still stands."""
        far = ScriptedAuthority()
        with self.meet(far, patience_s=30.0) as line:
            for _ in range(2):
                asyncio.run(_both_verbs_work(line.transport))
            with asyncio.Runner() as one, asyncio.Runner() as other:
                for runner in (one, other, one, other):
                    runner.run(_both_verbs_work(line.transport))
                one.run(line.transport.close())
                other.run(_both_verbs_work(line.transport))
                other.run(line.transport.close())
        assert len(far.asked) == 7

    def test_it_may_be_used_from_one_task_at_a_time(self) -> None:
        """No task owns it."""

        async def use(transport: Transport) -> None:
            turn = asyncio.Lock()

            async def ask(n: int) -> bytes:
                async with turn:
                    return await transport.exchange(b"%d" % n)

            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(ask(n)) for n in range(20)]
            assert [t.result() for t in tasks] == [b"answer to %d" % n for n in range(20)]

        self._use(ScriptedAuthority(), use)

    # -- faults: each is told by its error from both verbs, and the next call goes through once the line is repaired

    def test_unauthenticated(self) -> None:
        """401: the driver pauses."""
        assert self._meet("unauthenticated").asked == [], "the authority was asked by somebody unknown"

    def test_gone(self) -> None:
        """The cable is out, or the server down."""
        self._meet("gone")

    def test_cut(self) -> None:
        """Half an answer is no answer."""
        self._meet("cut")

    def test_slow(self) -> None:
        """Patience ends; so does that of a task which is cancelled while it waits."""
        self._meet("slow", patience_s=0.1)
        with self.meet(ScriptedAuthority(), patience_s=30.0) as line:
            asyncio.run(_cancelled_while_waiting(line))

    def test_portal(self) -> None:
        """The login page of a hotel's network."""
        self._meet("portal")

    def test_redirect(self) -> None:
        """Credentials follow nobody."""
        assert self._meet("redirect").asked == [], "the redirection was followed"

    def test_busy(self) -> None:
        """The plain TransportError with the seconds to wait."""
        self._meet("busy")

    def test_refused(self) -> None:
        """The far end finds the request too large; sending it again will not help."""
        self._meet("refused")

    def test_endless(self) -> None:
        """Reading stops at the limit."""
        self._meet("endless")

    def test_oversized(self) -> None:
        """A request over the limit is not sent; an answer and a part of a file over it are not taken."""
        far = ScriptedAuthority()
        far.answer, far.part_max = lambda request: bytes(WIRE_MAX + 1), PART_MAX + 1

        async def use(transport: Transport) -> None:
            await raises(TooLarge, transport.exchange(bytes(WIRE_MAX + 1)))
            assert far.asked == [], "it was sent all the same"
            await raises(TooLarge, transport.exchange(b""))
            await raises(TooLarge, transport.fetch(FILE, 0))
            far.part_max = PART_MAX
            assert len(await transport.fetch(FILE, 0)) == PART_MAX

        self._use(far, use)

    # -- how

    def _use(self, far: ScriptedAuthority, use: Callable[[Transport], Coroutine[Any, Any, None]]) -> None:
        with self.meet(far, patience_s=30.0) as line:
            asyncio.run(_closing(line.transport, use(line.transport)))

    def _meet(self, fault: Fault, *, patience_s: float = 30.0) -> ScriptedAuthority:
        """Meets a fault twice with each verb, on a fresh and on a used transport; returns who was asked meanwhile."""
        met = ScriptedAuthority()
        with self.meet(met, patience_s=patience_s) as line:

            async def use() -> None:
                for _ in range(2):
                    line.fail(fault)
                    for _ in range(2):
                        _judge(fault, await raises(FAULTS[fault], line.transport.exchange(b"hello")))
                        _judge(fault, await raises(FAULTS[fault], line.transport.fetch(FILE, 0)))
                    during.extend(met.asked)
                    line.repair()
                    await _works_again(line.transport, attempts=1 if patience_s > 1 else 100)
                    met.asked.clear()

            during: list[tuple[bytes, str, dict[str, Any]]] = []
            asyncio.run(_closing(line.transport, use()))
        met.asked = during
        return met


async def raises(kind: type[E], call: Awaitable[object]) -> E:
    """The error of that kind that the call raises; anything else fails the test."""
    try:
        got = await call
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__}: it returned {str(got)[:80]}")


def _judge(fault: Fault, error: OfflinekitError) -> None:
    assert type(error) is FAULTS[fault], f"{fault}: {error!r}"
    assert str(error), "an error says what is wrong"
    if fault == "busy":
        assert isinstance(error, TransportError)
        assert error.retry_after_s == RETRY_AFTER_S, error.retry_after_s


async def _both_verbs_work(transport: Transport) -> None:
    assert await transport.exchange(b"hello") == b"answer to hello"
    assert len(await transport.fetch(FILE, PART_MAX)) == REST


async def _works_again(transport: Transport, attempts: int) -> None:
    """A transport with little patience may need several attempts on a busy machine."""
    for attempt in range(attempts):
        try:
            return await _both_verbs_work(transport)
        except Offline:
            if attempt + 1 == attempts:
                raise


async def _cancelled_while_waiting(line: Line) -> None:
    line.fail("slow")
    for call in (line.transport.exchange(b"hello"), line.transport.fetch(FILE, 0)):
        task = asyncio.ensure_future(call)
        await asyncio.wait([task], timeout=0.05)  # long enough to be under way; shorter would prove as much
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            continue
        raise AssertionError("a cancelled call went on")
    line.repair()
    await _both_verbs_work(line.transport)
    await line.transport.close()


async def _closing(transport: Transport, use: Awaitable[T]) -> T:
    try:
        return await use
    finally:
        await transport.close()
