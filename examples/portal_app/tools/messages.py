"""Keeps the catalogues in step with the sources: `python tools/messages.py` extracts, merges, and says what lacks a translation.

The texts in the sources are the English ones, so the English catalogue needs an entry for plurals alone.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po, write_po

PACKAGE = Path(__file__).resolve().parent.parent / "offlinekit_portal"
LANGUAGES = ("pt_BR", "es", "en")
METHODS = [("**.py", "python"), ("templates/**.html", "jinja2")]
UNSTABLE = tuple(
    f'"{name}'.encode()
    for name in ("POT-Creation", "PO-Revision", "Last-Translator", "Language-Team", "Report-Msgid", "Project-Id", "Generated-By")
)
OPTIONS = {"templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"}}


def extracted() -> Catalog:
    """Every text in the sources."""
    catalogue = Catalog(domain="portal")
    found = extract_from_dir(str(PACKAGE), METHODS, OPTIONS, keywords={"_": None, "gettext": None, "ngettext": (1, 2)})
    for name, line, text, _, _ in sorted(found, key=lambda f: (f[0], f[1])):
        catalogue.add(text, locations=[(name, line)])
    return catalogue


def path(language: str) -> Path:
    """The file of a language."""
    return PACKAGE / "locale" / language / "LC_MESSAGES" / "portal.po"


def merged(language: str, template: Catalog) -> Catalog:
    """The catalogue of a language with the texts of the sources: new ones empty, vanished ones gone."""
    with path(language).open("rb") as file:
        catalogue = read_po(file, locale=language, domain="portal")
    catalogue.update(template, no_fuzzy_matching=True, update_creation_date=False)
    catalogue.obsolete.clear()
    if language == "en":
        for message in catalogue:
            if message.id:
                message.string = message.id
    return catalogue


def lacking(catalogue: Catalog) -> list[str]:
    """The texts without a translation."""
    return [str(m.id) for m in catalogue if m.id and not (all(m.string) if isinstance(m.string, tuple | list) else m.string)]


def written(catalogue: Catalog) -> bytes:
    """A catalogue as its file holds it."""
    text = io.BytesIO()
    write_po(text, catalogue, width=120, no_location=True, omit_header=False, sort_output=True)
    return b"".join(line for line in text.getvalue().splitlines(keepends=True) if not line.startswith(UNSTABLE))


def main() -> int:
    """Writes the catalogues; 1 if one of them lacks a translation."""
    template, missing = extracted(), 0
    for language in LANGUAGES:
        catalogue = merged(language, template)
        path(language).write_bytes(written(catalogue))
        lacks = lacking(catalogue)
        missing += len(lacks)
        print(f"{language}: {len(catalogue)} texts, {len(lacks)} without a translation")
        for one in lacks:
            print(f"  {one}")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
