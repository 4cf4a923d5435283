"""The story in a browser, at a desk and on a phone: choose, sell, lose the line, go on selling, and meet the office again."""

from __future__ import annotations

from playwright.sync_api import Locator, expect

from tests.browser.world import PASSWORD, Reader, World

ARRIVES_MS = 60_000
SETTLES_MS = 30_000


def sign_in(reader: Reader) -> None:
    page = reader.page
    reader.go("/entrar")
    reader.look("sign_in")
    page.fill("#user", "marina")
    page.fill("#password", "wrong")
    page.press("#password", "Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    reader.said.clear()  # the browser itself notes the 401
    reader.look("sign_in_refused")
    page.fill("#password", PASSWORD)
    page.press("#password", "Enter")
    page.wait_for_url("**/inicio")
    reader.look("first_day")


def tick(reader: Reader, *names: str) -> None:
    """Ticks boxes; each is saved before the next one is touched."""
    for name in names:
        with reader.page.expect_response(lambda r: r.request.method == "POST" and "/offline/configurar/" in r.url):
            reader.page.check(f"#{name}")


def choose(reader: Reader) -> None:
    page = reader.page
    reader.go("/offline")
    reader.look("no_package")
    reader.go("/offline/configurar/clientes/rapido")
    tick(reader, "q-my_customers", "i-contacts", "i-addresses", "i-history")
    reader.look("quick")
    reader.go("/offline/configurar/clientes/avancado")
    reader.look("advanced")
    reader.go("/offline/configurar/clientes/registros")
    rows = page.locator("#found tbody input[type=checkbox]")
    expect(rows.first).to_be_checked()
    with page.expect_response(lambda r: r.request.method == "POST"):
        rows.nth(1).uncheck()
    reader.look("records")
    reader.go("/offline/configurar/prospects/rapido")
    tick(reader, "q-my_prospects")
    reader.go("/offline/configurar/produtos/rapido")
    tick(reader, "q-catalogue", "i-prices")
    reader.go("/offline/configurar/produtos/revisar")
    reader.look("review")
    page.locator("form[action='/offline/salvar'] button:visible").first.click()
    page.wait_for_url("**/offline/baixando")
    reader.look("downloading")
    expect(page.locator("a.btn.primary[href='/clientes']")).to_be_visible(timeout=ARRIVES_MS)
    reader.look("downloaded")


def add(reader: Reader, words: str, quantity: int) -> None:
    """Adds a product by keyboard alone: search, Enter, quantity, Enter."""
    page, lines = reader.page, reader.page.locator("#entry-lines tbody tr")
    before = lines.count()
    page.fill("#psearch", words)
    expect(page.locator("#plist [role=option]").first).to_be_visible()
    page.press("#psearch", "Enter")
    expect(lines).to_have_count(before + 1)
    field = page.locator("#entry-lines [inputmode=numeric]").last
    expect(field).to_be_focused()
    with page.expect_response(lambda r: r.request.method == "POST" and "/guardar" in r.url):
        field.fill(str(quantity))
        field.press("Enter")
    expect(page.locator("#psearch")).to_be_focused()


def save(reader: Reader) -> str:
    """Saves the order; the address of its page."""
    reader.page.locator("#save:visible, #save-bar:visible").first.click()
    reader.page.wait_for_url(lambda url: "/pedidos/" in url and "/rascunho/" not in url)
    return reader.page.url.removeprefix(reader.url)


def tag(reader: Reader, kind: str) -> Locator:
    """The state of the document on the page."""
    return reader.page.locator(f"main .pagehead .tag.{kind}")


def sell_connected(reader: Reader) -> None:
    page = reader.page
    reader.go("/clientes")
    reader.look("customers")
    page.locator("#customers a[href^='/clientes/']:visible").first.click()
    page.wait_for_url("**/clientes/*")
    reader.look("customer")
    page.locator("main a[href^='/pedidos/novo']:visible").first.click()
    page.wait_for_url("**/pedidos/rascunho/*")
    add(reader, "parafuso", 12)
    page.fill("#psearch", "cabo")
    expect(page.locator("#plist [role=option]").first).to_be_visible()
    reader.look("order_search")
    page.press("#psearch", "Escape")  # closes the list
    page.press("#psearch", "Escape")  # empties the field, which brings a phone's save bar back
    reader.look("order_connected")
    save(reader)
    expect(tag(reader, "ok")).to_be_visible(timeout=SETTLES_MS)
    reader.look("order_sent")


def sell_offline(reader: Reader) -> tuple[str, str]:
    """Pulls the plug on the demo's page and writes two orders, of which the second exceeds any credit."""
    page = reader.page
    reader.go("/dev/rede")
    reader.look("network")
    page.check("input[name=kind][value=refuse]")
    page.locator("form[action='/dev/rede'] button").click()
    expect(page.locator(".pill[data-state=offline]")).to_be_visible(timeout=SETTLES_MS)
    reader.look("line_down")
    made: list[str] = []
    for quantity in (3, 60_000):
        reader.go("/clientes")
        page.locator("#customers a[href^='/clientes/']:visible").nth(2).click()
        page.wait_for_url("**/clientes/*")
        if not made:
            reader.look("customer_offline")
        page.locator("main a[href^='/pedidos/novo']:visible").first.click()
        page.wait_for_url("**/pedidos/rascunho/*")
        add(reader, "tinta", quantity)
        if not made:
            reader.look("order_offline")
        made.append(save(reader))
        expect(tag(reader, "pending")).to_be_visible()
    reader.look("order_saved_offline")
    for name, path in (("orders_offline", "/pedidos"), ("sync_offline", "/sincronia"), ("home_offline", "/inicio")):
        reader.go(path)
        reader.look(name)
    return made[0], made[1]


def correct(reader: Reader) -> None:
    """The refused order, its reason, and a smaller one instead of it."""
    page = reader.page
    reader.go("/pendencias")
    link = page.locator("#issues a[href^='/pendencias/']:visible").first
    expect(link).to_be_visible(timeout=SETTLES_MS)
    reader.look("issues")
    link.click()
    page.wait_for_url("**/pendencias/*")
    reader.look("issue")
    page.locator("form[action$='/corrigir'] button").click()
    page.wait_for_url("**/pedidos/rascunho/*")
    reader.look("correcting")
    field = page.locator("#entry-lines [inputmode=numeric]").first
    with page.expect_response(lambda r: r.request.method == "POST" and "/guardar" in r.url):
        field.fill("2")
        field.press("Enter")
    save(reader)
    expect(tag(reader, "ok")).to_be_visible(timeout=SETTLES_MS)
    expect(page.locator(".count.bad")).to_have_count(0)


def test_a_representative_sells_through_a_lost_connection(reader: Reader, world: World) -> None:
    sign_in(reader)
    choose(reader)
    sell_connected(reader)
    good, _ = sell_offline(reader)
    world.line("through")
    reader.go(good)
    expect(tag(reader, "ok")).to_be_visible(timeout=SETTLES_MS)
    correct(reader)
    for name, path in (("orders", "/pedidos"), ("sync", "/sincronia"), ("package", "/offline"), ("settings", "/ajustes"),
                       ("more", "/mais"), ("help", "/ajuda/offline"), ("home", "/inicio"), ("missing", "/nowhere")):  # fmt: skip
        reader.go(path)
        if name == "missing":
            reader.said.clear()  # the browser itself notes the 404
        reader.look(name)
    taken = world.taken()
    assert len(taken) == 3 == len({local for local, _ in taken}) == len({number for _, number in taken}), taken
