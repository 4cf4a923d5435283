"""How a program of this folder talks with the command that measures it: a word a line in, a line of JSON out."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["records", "talk", "timed"]

Words = Mapping[str, Callable[[], Mapping[str, Any]]]


def talk(first: Mapping[str, Any], words: Words) -> None:
    """Says that it is ready, with `first`, and answers each word by the function of that name, until nothing more comes."""
    print(json.dumps(first), flush=True)
    for word in sys.stdin:
        print(json.dumps(words[word.strip()]()), flush=True)


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Runs `work` and answers with the seconds that it took."""
    started = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - started}


def records(path: str) -> Iterator[dict[str, Any]]:
    """The records of a file, a JSON object a line."""
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)
