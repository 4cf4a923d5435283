"""The demo: a head office in one process, a representative's device in this one, and the line between them cut in the middle."""

import argparse
import sys
import tempfile
import time

from company import FIRST_NUMBER, reps
from device import Device
from line import Line
from office import Office
from story import Story, choose, correct, reconnect, search, sell_offline
from telling import amount, chapter, say
from verdict import account, compare, idle


def open_office(office: Office, products: int, customers: int) -> int:
    """Starts the head office and says what it makes; returns the number of its last order."""
    chapter(1, f"The head office: {amount(products)} products, {amount(customers)} customers, in a process of its own")
    started, last = time.perf_counter(), 0
    for what, count, seconds in office.start():
        say(f"{amount(count):>7} {what} ({seconds:.2f} s)")
        last = FIRST_NUMBER + count - 1 if what == "past orders" else last
    say(f"ready in {time.perf_counter() - started:.1f} s")
    return last


def run(story: Story) -> bool:
    """The chapters in order; whether all ended well."""
    choose(story)
    chapter(3, "Searching, from the device alone")
    search(story)
    chapter(4, "THE PLUG IS PULLED")
    story.device.line.pull()
    story.device.until_offline()
    sell_offline(story)
    chapter(5, "Plugged in again")
    reconnect(story)
    say("")
    say("What was refused is corrected and sent again:")
    correct(story)
    chapter(6, "What both sides hold now")
    good = [compare(story), account(story), idle(story)]
    say("Both sides hold the same." if all(good) else "THE TWO SIDES DIFFER.", "bold green" if all(good) else "bold red")
    return all(good)


def main() -> int:
    """Runs the story in a temporary folder; 0 when both sides agree at the end."""
    parser = argparse.ArgumentParser(prog="company_demo", description=__doc__)
    parser.add_argument("--products", type=int, default=20_000, help="default: 20000")
    parser.add_argument("--customers", type=int, default=2_000, help="default: 2000")
    options = parser.parse_args()
    started = time.perf_counter()
    rep, other, *_ = reps(options.customers)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        office = Office(folder, options.products, options.customers, rep.code)
        try:
            last = open_office(office, options.products, options.customers)
            line = Line(office.port)
            line.plug()
            chapter(2, f"A device for {rep.name}, representative in {rep.cities[0]} and around")
            device = Device(folder, line, office.token, rep.code)
            try:
                good = run(Story(device, office, rep, other, last_number=last))
            finally:
                device.close()
                line.close()
        finally:
            office.stop()
    say(f"The whole story took {time.perf_counter() - started:.1f} s.", "dim")
    return 0 if good else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
