"""The demo: a head office in one process, a representative's device in this one, and the line between them cut in the middle."""

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from contract import Customer, Order, Product, offer, schema  # noqa: E402
from offlinekit import Link, Replica, Status, Transaction  # noqa: E402
from offlinekit_adapters.http import HTTP  # noqa: E402


def say(text: str = "") -> None:
    """Narrates, at once."""
    print(text, flush=True)


class Office:
    """The head office's process, and the line to it: `start` and `cut`."""

    def __init__(self, folder: str, products: int, customers: int) -> None:
        self.folder, self.products, self.customers = folder, products, customers
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        command = [sys.executable, str(HERE / "server.py"), self.folder, str(self.port), str(self.products), str(self.customers)]
        self.process = subprocess.Popen(command)
        for _ in range(1200):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(timeout=0.05)
            if self.process.poll() is not None:
                raise SystemExit("the head office did not start")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
        raise SystemExit("the head office did not answer within a minute")

    def cut(self) -> None:
        """Kills it in the middle of whatever it does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def show_moved(link: Link, seconds: float) -> None:
    """What the last round moved."""
    report = link.report
    moved = [f"{n:,} {name}" for name, n in report.received.items() if n]
    say(f"   received {', '.join(moved) or 'nothing'}; dropped {sum(report.dropped.values())}; "
        f"{report.file_bytes / 1e6:.1f} MB as a file; {seconds:.1f} s")  # fmt: skip


def place(replica: Replica, customer: str, quantity: int) -> Transaction:
    """An order of the first product, durable when this returns."""
    product = replica.select(Product).order_by(Product.price).where(Product.price > Decimal("10")).first()
    assert product is not None
    with replica.transaction("place_order") as tx:
        total = product.price * quantity
        tx.insert(Order(customer=customer, product=product.sku, quantity=quantity, total=total))
    say(f"   order for {customer}: {quantity} × {product.name} = {total}, saved here as {tx.mutation.state}")
    return tx


def story(replica: Replica, link: Link, office: Office) -> int:
    """The story; returns how many orders were placed."""
    say("2. The representative chooses: my customers in Campinas, one more by hand, with their orders")
    take = replica.configure().quick("mine").all_of(Customer.city == "Campinas").pick(Customer, "000007-01").include("orders")
    preview = take.preview()
    say(f"   the preview says: {preview.rows:,} records, about {preview.fetch_bytes / 1e6:.1f} MB to fetch")
    take.save()
    started = time.perf_counter()
    link.wait_synced(timeout=120)
    show_moved(link, time.perf_counter() - started)
    customers = replica.select(Customer).order_by(Customer.name).all()
    say(f"   held now: {len(customers)} customers, {replica.select(Product).count():,} products")
    say("3. THE LINE IS CUT (the head office's process is killed)")
    office.cut()
    started = time.perf_counter()
    found = replica.select(Product).search("paraf zinc").limit(3).all()
    say(f"   search 'paraf zinc' in {1000 * (time.perf_counter() - started):.1f} ms: {'; '.join(p.name for p in found)}")
    placed = [place(replica, c.code, 2 + n) for n, c in enumerate(customers[:4])]
    placed.append(place(replica, customers[0].code, 1_000_000))
    say(f"   waiting to be sent: {len(replica.pending())}")
    say("4. The line is back")
    office.start()
    link.wait_synced(timeout=120)
    for tx in placed:
        state = tx.mutation.now
        say(f"   {state.state}{': ' + state.message if state.message else ''}")
    say("5. The refused order is corrected and sent again")
    for refused in replica.rejections():
        with refused.edit() as tx:
            for order in [r for r in refused.records if isinstance(r, Order)]:
                tx.update(order, quantity=1, total=order.total / order.quantity)
        say(f"   {tx.mutation.settled(timeout=30).state}")
    link.wait_synced(timeout=60)
    return len(placed)


def verdict(replica: Replica, placed: int) -> bool:
    """Compares both sides through the public API."""
    here = {o.id: o.number for o in replica.select(Order)}
    there = {o.id: o.number for o in replica.remote.select(Order).limit(1000).all()}
    same = here == there and len(set(here.values())) == placed == len(here) and None not in here.values()
    say(f"6. Orders placed {placed}, at the head office {len(there)}, here {len(here)}: lost {placed - len(there)}, "
        f"doubled {len(there) - len(set(there.values()))}; numbers {sorted(n for n in here.values() if n)}")  # fmt: skip
    say("   both sides hold the same" if same else "   THE TWO SIDES DIFFER")
    return same


def main() -> int:
    """Runs the story in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--products", type=int, default=20_000)
    parser.add_argument("--customers", type=int, default=2_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        office = Office(folder, options.products, options.customers)
        say(f"1. A head office with {options.products:,} products and {options.customers:,} customers is made")
        started = time.perf_counter()
        office.start()
        say(f"   ready in {time.perf_counter() - started:.1f} s, on port {office.port}")
        shown: list[str] = []

        def status(now: Status) -> None:
            if now.state in ("offline", "online") and shown[-1:] != [now.state]:
                shown.append(now.state)
                say(f"   [{now.state}: {now.pending} to send, {now.rejected} refused]")

        try:
            with Replica.open(f"{folder}/rep-07.db", schema, offer=offer, identity="rep-07") as replica:
                link = replica.start_sync(HTTP(f"http://127.0.0.1:{office.port}/sync", bearer="demo"), every=2)
                link.on_status(status)
                link.wait_synced(timeout=120)
                return 0 if verdict(replica, story(replica, link, office)) else 1
        finally:
            office.cut()


if __name__ == "__main__":
    sys.exit(main())
