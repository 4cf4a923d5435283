"""The portal's languages: each catalogue says all that the sources say, no less and no more, and in its own words."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

from offlinekit_portal import contract
from offlinekit_portal.web import i18n, registers
from offlinekit_portal.web.views import settings

PORTAL = Path(contract.__file__).parent
TOOL = PORTAL.parent / "tools" / "messages.py"
LANGUAGES = ("pt_BR", "es", "en")
PLACE = re.compile(r"%\(\w+\)s")
ENDS = tuple(".:…")

# Words that two of the languages spell alike: only a text of these alone may be the same in both.
SHARED = {
    ("pt_BR", "en"): "e item mail prospect prospects subtotal total",
    ("es", "en"): "error no prospect prospects subtotal total",
    ("pt_BR", "es"): """
        anterior aplicar aviso bloqueado cabe calculando campo cliente clientes como conectado configurador consultando
        continuar curva código de desc descartar desde diagnóstico editar encontrados entrega enviado enviando enviar estado
        filtro filtros grupo idioma kb marca menos mostrar nunca opcional ordenar pedido pedidos por prospect prospects página
        páginas registro registros renovar representante revisar rápido segmento sincronizando subtotal todos total unidades
        valor valores vender ver último
    """,
}
# The words that templates hold outside of the catalogue: the product's name, keys, units.
BARE = {"Rota Vendas", "Enter", "Esc", "s", "min"}


@cache
def tool() -> ModuleType:
    """The program that keeps the catalogues."""
    spec = importlib.util.spec_from_file_location("portal_messages", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def sources() -> Catalog:
    """The texts in the sources."""
    found = tool().extracted()
    assert isinstance(found, Catalog)
    return found


@cache
def kept(language: str) -> Catalog:
    """A catalogue as its file has it."""
    with tool().path(language).open("rb") as file:
        return read_po(file, locale=language, domain="portal", abort_invalid=True)


def pairs(language: str) -> Iterator[tuple[str, str]]:
    """Each text with its translation; both forms of those that follow a number."""
    for message in kept(language):
        if message.id:
            yield from zip(forms(message.id), forms(message.string), strict=True)


def forms(text: Any) -> tuple[str, ...]:
    """A text, or both forms of one that follows a number."""
    return tuple(text) if isinstance(text, tuple | list) else (text,)


def words(text: str) -> set[str]:
    """The words of a text."""
    return set(re.findall(r"[^\W\d_]+", PLACE.sub(" ", text).lower()))


def ids(catalogue: Catalog) -> set[tuple[str, ...]]:
    """The keys of a catalogue."""
    return {forms(m.id) for m in catalogue if m.id}


def test_the_languages_are_those_that_the_portal_offers():
    folders = {folder.name for folder in (PORTAL / "locale").iterdir() if folder.is_dir()}
    assert set(LANGUAGES) == set(tool().LANGUAGES) == set(i18n.LANGUAGES) == set(i18n.NAMES) == folders
    assert i18n.DEFAULT == "pt_BR"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_catalogue_has_the_texts_of_the_sources_and_no_others(language: str):
    assert sorted(ids(sources()) ^ ids(kept(language))) == [], f"run {TOOL.name}, and translate"
    assert not kept(language).obsolete
    assert not [m.id for m in kept(language) if m.id and m.fuzzy]


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_translation_is_empty(language: str):
    assert tool().lacking(kept(language)) == []
    assert not [text for text, said in pairs(language) if said != said.strip()]


@pytest.mark.parametrize("language", LANGUAGES)
def test_placeholders_and_ends_are_those_of_the_text(language: str):
    for text, said in pairs(language):
        assert sorted(PLACE.findall(said)) == sorted(PLACE.findall(text)), f"{text!r}: {said!r}"
        assert PLACE.sub("", said).count("%") == PLACE.sub("", text).count("%"), f"{text!r}: {said!r}"
        assert [said.endswith(end) for end in ENDS] == [text.endswith(end) for end in ENDS], f"{text!r}: {said!r}"
        if PLACE.search(text):
            assert "%(" not in said % dict.fromkeys(re.findall(r"%\((\w+)\)s", text), "7")


def test_the_texts_in_the_sources_are_the_english_ones():
    assert [text for text, said in pairs("en") if text != said] == []


@pytest.mark.parametrize(("one", "other"), SHARED)
def test_two_languages_agree_only_in_words_that_both_have(one: str, other: str):
    both = zip(pairs(one), pairs(other), strict=True)
    shared, same = words(SHARED[one, other]), {said for (text, said), (text_too, too) in both if text == text_too and said == too}
    assert {said: words(said) - shared for said in same if not words(said) <= shared} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_tool_would_change_nothing(language: str):
    would, has = tool().written(tool().merged(language, sources())), tool().path(language).read_bytes()
    lines = zip_longest(would.splitlines(keepends=True), has.splitlines(keepends=True))
    assert [pair for pair in lines if pair[0] != pair[1]][:3] == [], f"run {TOOL.name}"


# -- what is marked far from where it is shown


def marked() -> Iterator[str]:
    """Texts that pages translate although they get them as values."""
    offer = contract.offer
    for quick in offer.quick.values():
        yield from (quick.label, quick.explanation, *(p.label for p in quick.params.values()))
    for register in registers.REGISTERS:
        yield from (register.label, register.search, *(label for label, _ in register.sorts.values()))
        for include in offer.of(register.cls).includes:
            yield from (include.label, include.explanation)
    yield from (advanced.label for advanced in offer.advanced.values())
    yield from contract.STATUSES.values()
    yield from (label for label, _ in settings.COUNTED)


def test_texts_marked_where_they_are_declared_are_in_the_catalogues():
    known = {one for key in ids(sources()) for one in key}
    texts = {text for text in marked() if text}
    assert len(texts) > 50
    assert texts <= known, texts - known


def test_no_template_holds_words_outside_of_the_catalogues():
    said = {}
    for path in sorted((PORTAL / "templates").glob("*.html")):
        text = re.sub(r"\{#.*?#\}|\{%\s*set again\s*%\}.*?\{%\s*endset\s*%\}", "", path.read_text(encoding="utf-8"), flags=re.S)
        text = re.sub(r"\{\{.*?\}\}", "\0", re.sub(r"\{%.*?%\}", "\1", text, flags=re.S), flags=re.S)
        spoken = re.findall(r'\b(?:aria-label|placeholder|title|alt)="([^"]*)"', text)
        bare = re.split(r"[\0\1]", re.sub(r"<[^>]*>", "\1", "\1".join([text, *spoken])))
        found = {part.strip(" \n·≈():,.+/") for part in bare if re.search(r"[^\W\d_]", part)} - BARE
        if found:
            said[path.name] = found
    assert said == {}


def test_a_text_comes_in_the_language_of_the_reader_and_with_its_number():
    before = i18n.current.set("pt_BR")
    try:
        assert i18n.gettext("Save to send later") == "Salvar para enviar depois"
        assert i18n.gettext("data as of %(time)s", time="13:57") == "dados de 13:57"
        assert [i18n.ngettext("%(num)s order", "%(num)s orders", n) for n in (0, 1, 1302)] == [
            "0 pedidos", "1 pedido", "1.302 pedidos",
        ]  # fmt: skip
        i18n.current.set("es")
        assert i18n.gettext("Save to send later") == "Guardar para enviar después"
        i18n.current.set("en")
        assert i18n.ngettext("%(num)s order", "%(num)s orders", 1302) == "1,302 orders"
    finally:
        i18n.current.reset(before)
