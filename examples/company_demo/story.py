"""What the representative and the head office do: choose, search, sell without a network, and agree afterwards."""

import time
from datetime import date, datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from attrs import Factory, mutable

from company import ZONE, Rep
from contract import WINDOW_DAYS, Customer, Order, OrderItem, PaymentTerm, Product
from device import PATIENCE_S, Device, Moved
from office import Office
from offlinekit import Collection, Offline, Rejection, Transaction
from offlinekit.nodes import Filter
from telling import NAMES, counts, money, say, size, table

COLLECTIONS: tuple[type[Collection], ...] = (PaymentTerm, Product, Customer, Order, OrderItem)
RAISED = "Tinta acrílica"
PRICES_UP = 4


@mutable
class Story:
    """Who takes part, and what is to be accounted for at the end."""

    device: Device
    office: Office
    rep: Rep
    other: Rep
    today: date = Factory(lambda: datetime.now(ZoneInfo(ZONE)).date())
    picked: str = ""
    orders: dict[str, Order] = Factory(dict)
    attempts: dict[str, Transaction] = Factory(dict)
    credit: dict[str, Decimal] = Factory(dict)
    last_number: int = 0

    @property
    def chosen(self) -> Filter:
        """The customers that the representative chose, as a filter to ask the head office with."""
        lately = Order.customer.some(Order.placed >= self.today - timedelta(days=WINDOW_DAYS))
        return (Customer.city.is_in(self.rep.cities[:2]) & lately) | (Customer.code == self.picked)


def held(device: Device) -> dict[str, int]:
    """How many records of each collection the device holds."""
    return {cls.__collection__.name: device.replica.select(cls).count() for cls in COLLECTIONS}


def told(moved: Moved) -> None:
    """What a sync moved, in one line."""
    bulk = f", {size(moved.file_bytes)} of it one file" if moved.file_bytes else ""
    say(f"sent {size(moved.up)}, received {size(moved.down)}{bulk}, in {moved.seconds:.2f} s")


def choose(story: Story) -> None:
    """The representative composes a selection from the offer, looks at what it would move, and saves it."""
    device, cities = story.device, story.rep.cities
    first = device.moved()
    say(f"The new device is empty. What everybody holds came first, unasked: {counts(first.received)}")
    told(first)
    far = device.replica.remote.select(Customer).where(Customer.city == cities[-1]).order_by(Customer.code).first()
    if far is None:
        raise SystemExit("too few customers for this story; try --customers 60")
    story.picked = far.code
    take = device.replica.configure().quick("mine").quick("buying").all_of(Customer.city.is_in(cities[:2]))
    take = take.pick(Customer, far.code).include("recent_orders")
    labels = [device.replica.offer.quick[name].label for name in ("mine", "buying")]
    say(f"{story.rep.name} chooses: {' '.join(labels)} (quick), in {cities[0]} or {cities[1]} (advanced),")
    say(f"and {far.name} in {far.city} (picked by hand), {device.replica.offer.includes['recent_orders'].label}")
    preview = take.preview()
    take.save()
    moved = device.sync()
    now = held(device)
    rows = [(NAMES[n], now[n] - moved.received.get(n, 0), p.fetch, moved.received.get(n, 0), p.hold, now[n])
            for n, p in sorted(preview.collections.items(), key=lambda part: list(NAMES).index(part[0]))]  # fmt: skip
    table(("", "held before", "preview: to fetch", "received", "preview: to hold", "held now"), rows, numbers=range(1, 6))
    say(f"The preview estimated {size(preview.fetch_bytes)} before compression; only what was missing moved:")
    told(moved)
    everyone = device.replica.remote.select(Customer).where(story.chosen).limit(10_000).all()
    story.credit = {client.code: client.credit for client in everyone}


def search(story: Story) -> None:
    """A search takes milliseconds and no network."""
    rows = []
    for words in ("parafuso inox", "lampada led branc", "tinta acril neve", "sifao"):
        started = time.perf_counter()
        found = story.device.replica.select(Product).search(words).order_by(Product.price).with_total().limit(1).all()
        spent = f"{1000 * (time.perf_counter() - started):.1f} ms"
        best = f"{found[0].name}, {money(found[0].price)}" if found else ""
        rows.append((words, found.total or 0, spent, best))
    table(("words", "found", "time", "cheapest"), rows, numbers=(1, 2))


def affordable(story: Story, place: int) -> Product:
    """A product for an order, neither cheap nor dear, of a group of its own."""
    query = story.device.replica.select(Product).where(Product.price.between(Decimal(20), Decimal(60)))
    found = query.order_by(Product.group, Product.price).all()
    return found[place * len(found) // 5]


def place(story: Story, name: str, customer: Customer, quantity: int, *, discount: int = 0) -> None:
    """Writes an order with one line; it is durable when the block ends."""
    product = affordable(story, len(story.attempts))
    price = (product.price * (100 - discount) / 100).quantize(Decimal("0.01"))
    with story.device.replica.transaction("place_order") as tx:
        order = tx.insert(Order(customer=customer.code, term=customer.term, placed=story.today, total=price * quantity))
        tx.insert(OrderItem(order=order.id, line=1, product=product.sku, quantity=quantity, price=price))
    story.orders[name], story.attempts[name] = order, tx


def sell_offline(story: Story) -> None:
    """Five transactions while nobody answers, and what the head office changes meanwhile."""
    device = story.device
    customers = device.replica.select(Customer).where(Customer.code != story.picked).order_by(Customer.code).all()
    if len(customers) < 5:
        raise SystemExit("too few customers for this story; try --customers 60")
    say(f"status: {device.link.status.state}")
    try:
        device.replica.remote.select(Customer).count()
    except Offline:
        say("Asking the head office raises Offline. What is held works as before, and orders are kept on the device:")
    place(story, "A", customers[0], 12)
    place(story, "B", customers[1], 5)
    place(story, "C", customers[2], 20_000)
    place(story, "D", customers[3], 8, discount=60)
    extra = affordable(story, 4)
    with device.replica.transaction("add_line") as tx:
        tx.insert(OrderItem(order=story.orders["C"].id, line=2, product=extra.sku, quantity=3, price=extra.price))
    story.attempts["E"] = tx
    notes = {"A": "", "B": "", "C": "far above any credit", "D": "60% off, below any price", "E": "one more line for order C"}
    rows = []
    for name, attempt in story.attempts.items():
        order = story.orders.get(name)
        client = device.replica.get(Customer, order.customer) if order else None
        rows.append((name, client.name if client else "", money(order.total) if order else money(extra.price * 3),
                     attempt.mutation.state, notes[name]))  # fmt: skip
    table(("", "customer", "total", "state", ""), rows, numbers=(2,))
    gone = customers[-1]
    prices, moved = story.office.clerk(RAISED, PRICES_UP, gone.code, story.other.code)
    device.until_offline()
    say(f"status: {device.link.status.state}, {len(device.replica.pending())} to send")
    say("Meanwhile a clerk of the head office, with a program of its own that writes plain SQL:")
    say(f"  raises {prices:,} prices of '{RAISED}' by {PRICES_UP}%")
    say(f"  gives {moved} customer, {gone.name}, to {story.other.name}")


def reconnect(story: Story) -> None:
    """The line is back, breaks once more at the worst moment, and is back for good."""
    device = story.device
    device.moved()
    device.line.plug(lose_answer=True)
    device.link.sync_now()
    if not device.line.lost.wait(PATIENCE_S):
        raise SystemExit("the device did not try again")
    say("The orders reach the head office, and the line breaks before its answer comes back.")
    say(f"The device cannot know what became of them: {len(device.replica.pending())} are still pending, and are sent again.")
    before = held(device)["customer"]
    moved = device.sync()
    rows = []
    for name, attempt in story.attempts.items():
        state = attempt.mutation.now
        order = story.orders.get(name)
        record = device.replica.get(Order, order.id) if order else None
        number = f"number {record.number:,}" if record is not None and record.number else ""
        if state.state == "rejected":
            number = f"{state.code}: {state.message}; look at: {', '.join(state.fields)}"
        if state.state == "parked":
            number = "waits for order C, which was refused"
        rows.append((name, "accepted" if record is not None and record.number else state.state, number))
    table(("", "answer", ""), rows)
    say(f"answers: {', '.join(f'{n} {outcome}' for outcome, n in moved.outcomes.items())}")
    say("(transformed: accepted, with a value that the head office gave: the number)", "dim")
    say(f"received: {counts(moved.received)} (new prices, and what the orders changed)")
    say(f"dropped: {counts(moved.dropped)} (the customer that went away, and what was held for it)")
    say(f"customers held: {before} before, {held(device)['customer']} now")
    told(moved)


def correct(story: Story) -> None:
    """The representative corrects what was refused; what waited for it follows by itself."""
    device = story.device
    for refused in device.replica.rejections():
        mend(story, refused)
    moved = device.sync()
    rows = []
    for name, order in story.orders.items():
        record = device.replica.get(Order, order.id)
        assert record is not None
        lines = device.replica.select(OrderItem).where(OrderItem.order == order.id).count()
        rows.append((name, f"{record.number:,}" if record.number else "none", money(record.total), lines))
    table(("", "number", "total", "lines"), rows, numbers=(1, 2, 3))
    say(f"rejections left: {len(device.replica.rejections())}, parked: {len(device.replica.parked())}, pending: "
        f"{len(device.replica.pending())}; order C has its second line")  # fmt: skip
    told(moved)


def mend(story: Story, refused: Rejection) -> None:
    """Opens a refused transaction, corrects the fields it was refused for, and sends it again."""
    replica = story.device.replica
    order = next(r for r in refused.records if isinstance(r, Order))
    item = next(r for r in refused.records if isinstance(r, OrderItem))
    quantity, price = item.quantity, item.price
    if refused.code == "credit":
        client = replica.remote.select(Customer).where(Customer.code == order.customer).first()
        assert client is not None
        quantity = int(client.credit / 2 / item.price)
        say(f"credit: the head office says that {money(client.credit)} are left; {item.quantity:,} pieces become {quantity:,}")
    else:
        product = replica.get(Product, item.product)
        assert product is not None
        price = product.price
        say(f"price: {money(item.price)} becomes the list price, {money(price)}")
    with refused.edit() as tx:
        tx.update(order, total=price * quantity)
        tx.update(item, quantity=quantity, price=price)
    say(f"  sent again, and {tx.mutation.settled(PATIENCE_S).state}")
