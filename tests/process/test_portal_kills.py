"""The portal's process killed fifty times, spread over the steps of the story, over HTTP as a browser speaks it.

An order counts as saved when the page said so: the answer to saving led to the order's own page. At the end each saved order is
with the head office exactly once, or on the device with the reason why it was refused; drafts hold what a page had shown as kept.
"""

from __future__ import annotations

import http.client
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlencode

import apsw
import pytest

from offlinekit_portal.company import Company
from offlinekit_portal.office import PASSWORD_VARIABLE, build, today
from tests.evidence import keep

KILLS, SEED, PASSWORD = 50, 20_261_124, "a-password-of-the-test"
WAIT_S = 60.0
STEPS = ("sign in", "choose", "download", "draft", "save", "send", "correct")


class Program:
    """A process of the portal's; the addresses are in the line that it prints when it is ready."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "offlinekit_portal", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        line = next((line for line in self.process.stdout if " http://" in line), "")
        assert line, f"{arguments[0]} ended with {self.process.wait()}"
        self.port = int(re.findall(r":(\d+)/", line)[0])

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends it and waits until it is gone."""
        self.process.send_signal(number)
        self.process.communicate()


class Browser:
    """What a browser does, without one: cookies, forms, and following where an answer leads."""

    def __init__(self) -> None:
        self.port, self.cookies = 0, dict[str, str]()

    def send(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Status, where the answer leads, body; raises OSError when the portal dies meanwhile."""
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items()), "Accept-Language": "en"}
            if form is not None:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
            line.request(method, path, None if form is None else urlencode(form), headers)
            answer = line.getresponse()
            body = answer.read().decode()
            for cookie in answer.headers.get_all("Set-Cookie") or ():
                name, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[name] = value
            return answer.status, answer.headers.get("Location", ""), body
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            line.close()


class Story:
    """One representative, one device, one head office; the portal is killed and started again under them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.rng, self.browser = folder, random.Random(SEED), Browser()
        self.office = Program("office", "--data", folder / "office", "--port", 0)
        self.portal: Program | None = None
        self.saved: dict[str, str] = {}  # the orders whose page was reached, and the step
        self.kept: dict[str, int] = {}  # drafts, and how many lines a page had shown
        self.kills: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()  # kills by step that came after the answer

    def up(self) -> None:
        """Starts the portal if it does not run, and signs in if that was lost."""
        if self.portal is None:
            address = f"http://127.0.0.1:{self.office.port}"
            self.portal = Program("portal", "--office", address, "--data", self.folder / "device", "--port", 0)
            self.browser.port = self.portal.port

    def signed_in(self) -> None:
        """Goes on with the session, or signs in."""
        self.up()
        if self.browser.send("GET", "/inicio")[0] != 200:
            status, to, _ = self.browser.send("POST", "/entrar", {"user": "marina", "password": PASSWORD})
            assert (status, to) == (303, "/inicio")

    def until(self, what: str, done: Callable[[], bool]) -> None:
        """Looks again until it is so; each look is a request, which takes as long as it takes."""
        end = time.monotonic() + WAIT_S
        while not done():
            assert time.monotonic() < end, f"{what} did not come"

    def kill(self, step: str, after_s: float, act: Callable[[], object]) -> None:
        """Kills the portal so long after the act has begun; what the act had to say is kept by itself."""
        assert self.portal is not None
        process = self.portal.process
        timer = threading.Timer(after_s, process.send_signal, (signal.SIGKILL,))
        timer.start()
        with suppress(OSError):
            act()
            self.reached[step] += 1
        timer.join()
        process.communicate()
        self.portal = None
        self.kills[step] += 1

    # -- the steps

    def choose(self) -> None:
        """Ticks what to take and saves it."""
        for schema, form in (
            ("clientes", {"do": "quick", "quick": "my_customers"}),
            ("produtos", {"do": "quick", "quick": "catalogue"}),
            ("produtos", {"do": "include", "include": "prices"}),
        ):
            assert self.browser.send("POST", f"/offline/configurar/{schema}/rapido", form)[0] < 400
        status, to, body = self.browser.send("POST", "/offline/salvar", {})
        assert (status, to) == (303, "/offline/baixando"), (status, to, body[:500])

    def arrived(self) -> None:
        """Waits until the package is there."""
        self.until("the package", lambda: 'href="/clientes/' in self.browser.send("GET", "/clientes")[2])

    def draft(self, quantity: int) -> str:
        """A draft of one line; its address."""
        codes = sorted(set(re.findall(r'href="/clientes/([0-9]{6}-[0-9]{2})"', self.browser.send("GET", "/clientes")[2])))
        status, to, _ = self.browser.send("GET", f"/pedidos/novo?cliente={self.rng.choice(codes)}")
        assert status == 303, status
        self.kept[to] = 0
        found = self.browser.send("GET", f"{to}/produtos?q=parafuso")[2]
        product = self.rng.choice(re.findall(r'data-code="([^"]+)"', found))
        assert self.browser.send("POST", f"{to}/linhas", {"product": product})[0] == 200
        self.kept[to] = 1
        assert self.browser.send("POST", f"{to}/guardar", {"q1": str(quantity)})[0] == 200
        return to

    def save(self, draft: str, step: str) -> str:
        """Saves a draft; the address of the order's page, from then on a saved order."""
        status, to, body = self.browser.send("POST", f"{draft}/salvar", {})
        assert status == 303, body[:500]
        assert re.fullmatch(r"/pedidos/[0-9a-f-]{36}", to), to
        self.saved[to.rpartition("/")[2]] = step
        self.kept.pop(draft, None)
        return to

    def look_at_drafts(self) -> None:
        """Every draft that a page had shown is still there, with its line, or has become an order."""
        for draft, lines in list(self.kept.items()):
            status, to, body = self.browser.send("GET", draft)
            if status == 303 and to.startswith("/pedidos/") and "rascunho" not in to:
                self.saved[to.rpartition("/")[2]] = "save"  # the answer was lost, but the page says that it is saved
                del self.kept[draft]
            else:
                assert status == 200, f"the draft {draft} is gone: {status} {to}"
                assert len(re.findall(r'<tr id="line\d+"', body)) >= lines, "a line of a draft is gone"

    def refused(self) -> list[str]:
        """The addresses of refused orders."""
        return sorted(set(re.findall(r'href="(/pendencias/[0-9a-f-]{36})"', self.browser.send("GET", "/pendencias")[2])))

    def run(self, step: str) -> None:
        """The story up to a step, and a kill in the middle of it."""
        delay = self.rng.uniform(0, 0.12)
        if step == "sign in":
            self.up()
            self.browser.cookies.clear()
            self.kill(step, delay, lambda: self.browser.send("POST", "/entrar", {"user": "marina", "password": PASSWORD}))
            return
        self.signed_in()
        self.look_at_drafts()
        if step == "choose":
            self.kill(step, self.rng.uniform(0, 0.4), self.choose)
        elif step == "download":
            self.browser.send("POST", "/offline/renovar", {})
            self.choose()
            self.kill(step, self.rng.uniform(0, 0.5), lambda: self.browser.send("GET", "/offline/baixando"))
        else:
            self.sell(step, delay)

    def sell(self, step: str, delay: float) -> None:
        """The steps that need a package."""
        if not self.saved and 'href="/clientes/' not in self.browser.send("GET", "/clientes")[2]:
            self.choose()
        self.arrived()
        if step == "draft":
            self.kill(step, self.rng.uniform(0, 0.3), lambda: self.draft(3))
        elif step == "save":
            draft = self.draft(self.rng.randint(1, 9))
            self.kill(step, delay, lambda: self.save(draft, step))
        elif step == "send":
            order = self.save(self.draft(self.rng.randint(1, 9)), step)
            self.kill(step, delay, lambda: self.browser.send("GET", order))
        else:
            if not self.refused():
                self.save(self.draft(90_000), step)
                self.until("the refusal", lambda: bool(self.refused()))
            status, to, _ = self.browser.send("POST", f"{self.refused()[0]}/corrigir", {})
            assert status == 303
            assert self.browser.send("POST", f"{to}/guardar", {"q1": "2"})[0] == 200
            self.kill(step, delay, lambda: self.save(to, step))

    def settle(self) -> None:
        """Lets everything be sent."""
        self.signed_in()
        self.look_at_drafts()
        self.until("the end of the queue", lambda: 'class="tag pending"' not in self.browser.send("GET", "/pedidos")[2]
                   and 'class="tag info"' not in self.browser.send("GET", "/pedidos")[2])  # fmt: skip


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Story]:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORD)
    (tmp_path / "office").mkdir()
    build(tmp_path / "office", Company(today(), products=600, customers=120, prospects=20))
    told = Story(tmp_path)
    try:
        yield told
    finally:
        told.office.end()
        if told.portal is not None:
            told.portal.end()


def credit(folder: Path) -> dict[str, int]:
    """What each customer may still buy for, in hundredths, as the head office has it."""
    db = apsw.Connection(str(folder / "office" / "office.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return dict(db.execute("SELECT code, credit_left FROM customer"))
    finally:
        db.close()


def arrived(folder: Path) -> list[tuple[str, str, int, int]]:
    """Id, customer, total in hundredths and number of every order that came from a device."""
    db = apsw.Connection(str(folder / "office" / "office.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        sql = "SELECT id, customer, total, number FROM orders WHERE local_number<>'' ORDER BY number"
        return [(id_.hex() if isinstance(id_, bytes) else id_.replace("-", ""), c, t, n) for id_, c, t, n in db.execute(sql)]
    finally:
        db.close()


@pytest.mark.slow
@pytest.mark.invariant("I1", "I3")
def test_an_order_that_a_page_called_saved_is_sent_once_whenever_the_portal_dies(story: Story, tmp_path: Path) -> None:
    before = credit(tmp_path)
    for n in range(KILLS):
        story.run(STEPS[n % len(STEPS)])
    story.settle()
    taken = arrived(tmp_path)
    ids = Counter(id_ for id_, *_ in taken)
    refused, lost = [], []
    for order in story.saved:
        if order.replace("-", "") not in ids:
            status, to, _ = story.browser.send("GET", f"/pedidos/{order}")
            if to.startswith("/pendencias/") and to in story.refused():
                refused.append(order)
            else:
                lost.append((order, story.saved[order], status, to))
    spent = Counter[str]()
    for _, customer, total, _ in taken:
        spent[customer] += total
    after = credit(tmp_path)
    doubled = [c for c in before if before[c] - after[c] != spent[c]]
    numbers = [n for *_, n in taken]
    counts = {"kills": dict(story.kills), "answered before the kill": dict(story.reached), "saved": len(story.saved),
              "at the head office": len(taken), "refused": len(refused), "lost": len(lost), "doubled": len(doubled)}  # fmt: skip
    keep("portal_kills", counts, seed=SEED)
    print(counts)
    assert sum(story.kills.values()) == KILLS
    assert not lost, f"saved, and neither with the head office nor refused: {lost}"
    assert not doubled, f"the head office took an order twice from {doubled}"
    assert len(set(numbers)) == len(numbers) == len(ids)
    assert len(story.saved) >= KILLS // 4
