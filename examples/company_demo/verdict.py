"""The end of the story: both sides are read through the public API and compared, record by record."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import TypeVar

from contract import WINDOW_DAYS, Customer, Order, OrderItem, PaymentTerm, Product, schema
from offlinekit import Collection, Replica, everything
from offlinekit.nodes import Filter
from story import COLLECTIONS, Story
from telling import NAMES, say, size, table

C = TypeVar("C", bound=Collection)
PAGE = 5_000


def remote(replica: Replica, cls: type[C], where: Filter = everything) -> Iterator[C]:
    """Records of the head office, page by page."""
    query = replica.remote.select(cls).where(where).limit(PAGE)
    page = query.all()
    yield from page
    while page.next is not None:
        page = query.after(page.next).all()
        yield from page


def digest(cls: type[Collection], records: Iterator[Collection]) -> dict[object, dict[str, object]]:
    """Records by key, without what devices never hold."""
    info = schema.info(cls)
    found: dict[object, dict[str, object]] = {}
    for record in records:
        values = record.as_dict()
        key = tuple(values[name] for name in info.key)
        assert key not in found, f"{key} came twice"
        found[key] = {name: values[name] for name in info.replicated}
    return found


def compare(story: Story) -> bool:
    """A table of what each side holds; whether it is the same."""
    replica = story.device.replica
    orders = Order.customer.within(story.chosen) & (Order.placed >= story.today - timedelta(days=WINDOW_DAYS))
    asked: dict[type[Collection], Filter] = {
        PaymentTerm: everything, Product: everything, Customer: story.chosen, Order: orders,
        OrderItem: OrderItem.order.within(orders),
    }  # fmt: skip
    rows, same = [], True
    for cls in COLLECTIONS:
        here = digest(cls, iter(replica.select(cls)))
        there = digest(cls, remote(replica, cls, asked[cls]))
        differ = sum(1 for key in here.keys() | there.keys() if here.get(key) != there.get(key))
        same = same and differ == 0
        rows.append((NAMES[schema.info(cls).name], len(here), len(there), differ))
    table(("", "device", "head office", "different"), rows, numbers=(1, 2, 3))
    return same


def account(story: Story) -> bool:
    """Counts the lost and the doubled among what was placed offline, by number, line and credit."""
    replica = story.device.replica
    ids = {order.id for order in story.orders.values()}
    there = list(remote(replica, Order, Order.id.is_in(ids)))
    numbers = sorted(order.number or 0 for order in remote(replica, Order, Order.number > story.last_number))
    lines = list(remote(replica, OrderItem, OrderItem.order.is_in(ids)))
    placed, written = len(ids), len(ids) + 1
    lost = placed - len({order.id for order in there}) + written - len(lines)
    doubled = len(numbers) - len(set(numbers)) + max(0, len(numbers) - placed) + max(0, len(lines) - written)
    taken = {code: Decimal(0) for code in story.credit}
    for order in there:
        taken[order.customer] += order.total
    wrong = 0
    for client in remote(replica, Customer, Customer.code.is_in(taken)):
        charged = story.credit[client.code] - client.credit
        lost += charged < taken[client.code]
        doubled += charged > taken[client.code]
        wrong += charged != taken[client.code]
    say(f"placed offline: {placed} orders with {written} lines; at the head office: {len(there)} with {len(lines)}")
    say("credit taken from the customers: " + ("once for each order" if not wrong else f"wrong for {wrong}"))
    say(f"numbers given: {', '.join(f'{n:,}' for n in numbers)}")
    say(f"lost {lost}, doubled {doubled}", "bold green" if lost == doubled == 0 else "bold red")
    return lost == doubled == 0 and not replica.rejections() and not replica.parked() and not replica.pending()


def idle(story: Story) -> bool:
    """A sync with nothing to do."""
    story.device.moved()
    moved = story.device.sync()
    records = moved.sent + sum(moved.received.values()) + sum(moved.dropped.values())
    say(f"one more sync moves {records} records: {size(moved.up)} sent, {size(moved.down)} received, in {moved.seconds:.2f} s")
    return records == 0
