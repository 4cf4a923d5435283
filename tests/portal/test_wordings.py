"""What goes wrong is said in the reader's language: no page shows an English message of the library's."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from aiohttp import web
from attrs import evolve

from offlinekit import InvalidValue, LimitExceeded, OfflinekitError, SelectionExpired, Status
from offlinekit.exceptions import (
    AlreadySent,
    ConstraintViolated,
    IdentityMismatch,
    NotOffered,
    NotTracked,
    RecordNotFound,
    StoreFull,
    StoreTooNew,
    VersionNotSupported,
)
from offlinekit.selection import PICKS_MAX, Choice
from offlinekit.sync import Blocked, SyncState
from offlinekit_portal.plug import PlugUnreachable
from offlinekit_portal.web import app, desk, i18n, wordings
from tests.portal.visiting import Act, Answer, Scene, free_port, play, until

ENGLISH = re.compile(r"\b(the|cannot|is|not|has|with|did you|takes|does|offers?|answer|choose|wrong|unknown|known)\b", re.I)
FACTS: dict[type[Exception], Exception] = {
    InvalidValue: InvalidValue("customer", "state", "XX", "it is no state"),
    LimitExceeded: LimitExceeded("picks in 'customer'", PICKS_MAX, 10_001, "use a quick filter"),
    SelectionExpired: SelectionExpired("customer", "yesterday"),
    AlreadySent: AlreadySent("7"),
    RecordNotFound: RecordNotFound("customer", ("1",)),
    StoreTooNew: StoreTooNew(9, 3),
    IdentityMismatch: IdentityMismatch("ana", "marina"),
    ConstraintViolated: ConstraintViolated("UNIQUE constraint failed"),
    NotTracked: NotTracked(["customer"], "a trigger is gone"),
    VersionNotSupported: VersionNotSupported(9, 1, 2),
    PlugUnreachable: PlugUnreachable("the plug's switch does not answer"),
}


@pytest.fixture
def in_portuguese(company: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a scene whose reader reads Portuguese."""
    monkeypatch.setattr(desk, "PROBE_S", 0.05)

    def run(act: Act, plug: str | None = None) -> None:
        async def whole(scene: Scene) -> None:
            await scene.get("/idioma/pt_BR")
            await act(scene)

        play(company, tmp_path, whole, plug)

    return run


def kinds(root: type[Exception]) -> Iterator[type[Exception]]:
    """A class of errors and all below it; those of the library only."""
    if root.__module__.startswith("offlinekit."):
        yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


KINDS = {kind.__name__: kind for kind in (*kinds(OfflinekitError), *FACTS)}


def shown(answer: Answer) -> str:
    """The words of a page, but for what it only discloses on a click."""
    return evolve(answer, html=re.sub(r"<details.*?</details>", "", answer.html, flags=re.S)).text


def complaints(answer: Answer) -> str:
    """What a page complains of."""
    notes = re.findall(r'<(p|form|div) class="[^"]*\b(?:note|inset-text)\b[^"]*"[^>]*>(.*?)</\1>', answer.html, flags=re.S)
    return Answer(0, " ".join(text for _, text in notes), "").text.strip()


def check(answer: Answer) -> str:
    """The complaint of a page, which is there and in Portuguese."""
    said = complaints(answer)
    assert said, answer.text[:500]
    assert not ENGLISH.search(said), said
    return said


@pytest.mark.parametrize("language", ["pt_BR", "es"])
@pytest.mark.parametrize("name", sorted(KINDS))
def test_every_error_of_the_library_has_words(name: str, language: str) -> None:
    kind = KINDS[name]
    error = FACTS.get(kind) or kind("the message in English")
    token = i18n.current.set(language)
    try:
        said = wordings.of(error)
    finally:
        i18n.current.reset(token)
    assert said
    assert str(error) not in said
    assert not ENGLISH.search(said), said


@pytest.mark.parametrize("blocked", get_args(Blocked))
def test_what_holds_the_sync_up_has_words(blocked: Blocked) -> None:
    token = i18n.current.set("pt_BR")
    try:
        states: tuple[SyncState, ...] = ("error", "offline")
        for state in states:
            said = wordings.trouble(Status(state=state, blocked=blocked, detail="the message in English"))
            assert said
            assert not ENGLISH.search(said), said
        assert bool(wordings.trouble(Status(state="online", blocked=blocked))) == bool(blocked)
    finally:
        i18n.current.reset(token)


def test_a_saved_choice_that_is_gone_is_told_in_portuguese(in_portuguese: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        mine = scene.replica.configure().quick("my_customers").selection
        gone = evolve(mine, choices=(Choice("customer", quick=(("golden", ()),)),))
        scene.desk.remember("choosing", b64encode(gone.encode()).decode())
        said = check(await scene.get("/offline/configurar/clientes/rapido"))
        assert "golden" in said
        assert "Clientes" in said
        check(await scene.get("/offline/configurar/clientes/rapido/pacote", htmx=True))
        check(await scene.get("/offline/configurar/clientes/registros/lista", htmx=True))
        check(await scene.save())

    in_portuguese(act)


ADVANCED: dict[str, tuple[str, str, str]] = {
    "an operator that is not offered": ("name", "=", "a"),
    "a field that is not offered": ("credit_limit", ">=", "1"),
    "no value": ("name", "contains", " "),
    "no date": ("last_order", ">=", "31/31/31"),
}


@pytest.mark.parametrize("what", ADVANCED)
def test_a_filter_that_cannot_be_applied_is_told_in_portuguese(in_portuguese: Callable[..., None], what: str) -> None:
    async def act(scene: Scene) -> None:
        field, operator, value = ADVANCED[what]
        refused = await scene.change(
            "clientes", "add", ("field", field), ("operator", operator), ("value", value), step="avancado"
        )
        assert refused.status == 422
        check(refused)
        check(await scene.change("clientes", "quick", ("quick", "everything_there_is"), step="rapido"))

    in_portuguese(act)


def test_a_sync_that_fails_is_told_in_portuguese(in_portuguese: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        async def captive(request: web.Request) -> web.Response:
            return web.json_response({"status": "the login page of a hotel"})

        elsewhere = web.Application()
        elsewhere.router.add_route("*", "/{any:.*}", captive)
        real, scene.office_app = scene.office_app, lambda: elsewhere
        scene.replica.configure().quick("my_customers").save()
        await scene.close_office()
        await scene.open_office()
        await until(lambda: bool(scene.desk.link.status.detail) and scene.desk.connected)
        try:
            for path in ("/sincronia", "/offline/baixando"):
                check(await scene.get(path))
            english = scene.desk.link.status.detail
            for path in ("/sincronia", "/offline/baixando", "/offline", "/ajustes", "/inicio"):
                assert english not in shown(await scene.get(path)), path
        finally:
            scene.office_app = real

    in_portuguese(act)


def test_a_switch_that_is_gone_is_told_in_portuguese(in_portuguese: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        check(await scene.get("/dev/rede"))
        check(await scene.post("/dev/rede", ("kind", "refuse"), htmx=False))

    in_portuguese(act, f"http://127.0.0.1:{free_port()}")


def test_a_view_that_fails_is_told_in_portuguese(in_portuguese: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        async def full(request: web.Request) -> web.Response:
            raise StoreFull("database or disk is full: free some space")

        portal = app.create(scene.desk)
        portal.router.add_get("/cheio", full)
        runner = web.AppRunner(portal, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        here, scene.url = scene.url, f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            whole, part = await scene.get("/cheio"), await scene.get("/cheio", htmx=True)
        finally:
            scene.url = here
            await runner.cleanup()
        assert whole.status == part.status == 409
        assert "O disco deste aparelho está cheio" in whole.text
        assert "O disco deste aparelho está cheio" in check(part)
        assert "<nav" not in part.html  # htmx puts it on the page that is open
        assert "disk" not in whole.text + part.text

    in_portuguese(act)


def test_what_is_not_there_is_told_in_portuguese_and_shows_strangers_nothing(in_portuguese: Callable[..., None]) -> None:
    async def act(scene: Scene) -> None:
        mine = await scene.get("/nowhere")
        assert "Esta página não existe" in mine.text
        assert "Esta página não existe" in (await scene.get("/offline/salvar")).text  # which takes forms only
        await scene.post("/sair", htmx=False)
        out = await scene.get("/nowhere")
        assert out.status == 404
        await scene.sign_in()
        scene.client.cookie_jar.clear(lambda cookie: cookie.key == "portal")
        stranger = await scene.get("/nowhere")
        for answer in (out, stranger):
            assert "Esta página não existe" in answer.text
            assert "Marina" not in answer.html

    in_portuguese(act)


def test_choices_that_the_head_office_alone_misses_are_told() -> None:
    token = i18n.current.set("pt_BR")
    try:
        assert wordings.of(NotOffered("the offer has no such filter")) == "A matriz não oferece mais algo que você escolheu."
    finally:
        i18n.current.reset(token)
