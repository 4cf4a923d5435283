"""Runs one target under atheris (libFuzzer): new inputs are kept that reach new code of offlinekit.

    python -m tests.fuzz.run TARGET [options of libFuzzer]

What is found is written to build/fuzz/TARGET-crash-…; `python -m tests.fuzz.targets TARGET FILE` shows it again.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

with atheris.instrument_imports(include=["offlinekit", "offlinekit_adapters"]):
    from tests.fuzz.mutating import mutated
    from tests.fuzz.targets import TARGETS

BUILD = Path(__file__).resolve().parents[2] / "build" / "fuzz"
RSS_MB, TIMEOUT_S, SIZE_MAX = 1024, 10, 1 << 16


def by_structure(data: bytes, size_max: int, seed: int) -> bytes:
    """Half of the mutations look at MessagePack; the first byte of an input is not part of it."""
    if seed % 2:
        for skip in (1, 0):
            try:
                made = data[:skip] + mutated(data[skip:], seed)
            except ValueError:
                continue
            return made if len(made) <= size_max else made[:size_max]
    return bytes(atheris.Mutate(data, len(data) if len(data) >= size_max else size_max))


def main(name: str, options: list[str]) -> None:
    """Never returns: libFuzzer ends the process, with an error if something was found."""
    logging.disable(logging.CRITICAL)
    target = TARGETS[name]
    found, kept = BUILD / "corpus" / name, Path(__file__).with_name("corpus") / name
    found.mkdir(parents=True, exist_ok=True)
    arguments = [sys.argv[0], f"-artifact_prefix={BUILD}/{name}-", f"-rss_limit_mb={RSS_MB}", f"-timeout={TIMEOUT_S}",
                 f"-max_len={SIZE_MAX}", "-print_final_stats=1", *options, str(found), str(kept)]  # fmt: skip
    call = target.make()
    atheris.Setup(arguments, call, **({"custom_mutator": by_structure} if target.packed else {}))
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
