"""How the demo speaks: in colours and with a bar on a terminal, in plain lines everywhere else."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from offlinekit import Status

console = Console(highlight=False)
if not console.is_terminal:
    console = Console(highlight=False, width=120)


def chapter(number: int, title: str) -> None:
    """A chapter begins."""
    console.print()
    console.print(Text(f"{number}. {title}", style="bold cyan"))


def say(text: str, style: str = "") -> None:
    """A line of the story."""
    console.print(Text(f"   {text}", style=style), soft_wrap=True)


def table(head: Iterable[str], rows: Iterable[Iterable[object]], *, numbers: Iterable[int] = ()) -> None:
    """A table; the columns named in `numbers` are aligned to the right."""
    right = set(numbers)
    made = Table(box=None, padding=(0, 2), header_style="dim", pad_edge=False)
    for n, name in enumerate(head):
        made.add_column(name, justify="right" if n in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(amount(cell) if isinstance(cell, int) else str(cell)) for cell in row))
    grid = Table.grid(padding=(0, 0, 0, 3))
    grid.add_row("", made)
    console.print(grid)


def amount(number: int) -> str:
    """A count, with commas."""
    return f"{number:,}"


def money(value: Decimal) -> str:
    """An amount in reais."""
    return f"R$ {value:,.2f}"


def size(count: int) -> str:
    """Bytes, readably."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} kB" if count < 1_000_000 else f"{count / 1e6:.2f} MB"


def counts(moved: Mapping[str, int]) -> str:
    """Records by collection, in words; what did not move is left out."""
    return ", ".join(f"{amount(n)} {NAMES[name][: -1 if n == 1 else None]}" for name, n in moved.items() if n) or "nothing"


NAMES = {
    "payment_term": "payment terms",
    "customer": "customers",
    "product": "products",
    "orders": "orders",
    "order_item": "order lines",
}


@contextmanager
def arriving() -> Iterator[Callable[[Status], None]]:
    """Shows what is on its way by collection: bars that are gone when it is here, or a line for each phase without a terminal."""
    columns = (TextColumn("   {task.fields[phase]}"), BarColumn(30), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}
        told = ""

        def show(status: Status) -> None:
            nonlocal told
            progress = status.progress
            if progress is None or not progress.collections:
                return
            for name, part in progress.collections.items():
                said = f"{amount(part.records)} of {amount(part.records_total)} {NAMES[name]}"
                said += f", {size(part.bytes)} of {size(part.bytes_total)}"
                if name not in tasks:
                    tasks[name] = bars.add_task(said, phase=progress.phase)
                bars.update(tasks[name], description=said, completed=part.records, total=part.records_total, phase=progress.phase)
            if not console.is_terminal and progress.phase != told:
                told = progress.phase
                parts = (f"{amount(p.records_total)} {NAMES[n]} ({size(p.bytes_total)})" for n, p in progress.collections.items())
                say(f"{told}: {', '.join(parts)}")

        yield show
