"""What a front end reads of an offer and does with a configuration has real types."""

from __future__ import annotations

from uuid import UUID

from offlinekit import Advanced, Collection, Field, Offer, Quick, QuickParam, Replica, desc, field, param
from offlinekit.configurator import Budget, Candidates, Chosen, Condition, Configuration, Mark, Preview, Selection


class Customer(Collection):
    code: Field[str] = field(key=True)
    city: Field[str]


offer = Offer(
    Quick("in_city", Customer, Customer.city == param("city"), "In a city", params=[QuickParam("city", choices=["Recife"])]),
    advanced=[Customer.city, Advanced(Customer.code, operators=["="], label="Code")],
)
names: list[str] = [q.label for cls in offer.configurable for q in offer.of(cls).quick]
proposed: list[str] = [option.label for option in offer.quick["in_city"].params["city"].choices]


def steps(replica: Replica) -> bytes:
    take: Configuration = (
        replica.configure().quick("in_city", city="Recife").all_of(offer.advanced["customer", "city"].filter("null"))
    )
    chosen: Chosen = take.of(Customer)
    chip: Condition = chosen.conditions[0]
    take.replace(chip, Customer.city == "Natal").remove(chip.id).pick_none(Customer).pick(Customer, "a").include("orders")
    page: Candidates[Customer] = take.candidates(Customer, show="chosen").search("a").order_by(desc(Customer.code)).all()
    cities: list[str] = [customer.city for customer, mark in page.marked if mark.chosen]
    marks: tuple[Mark, ...] = take.chosen(Customer, page)
    preview: Preview = take.preview()
    ids: list[UUID] = [stranded.mutation for stranded in preview.stranded]
    fits: bool = preview.fits(Budget(records=len(cities) + len(marks) + len(ids))) and preview.fits(10**6)
    selection: Selection = take.save() if fits else replica.renew_selection()
    return selection.encode()


async def on_a_loop(take: Configuration) -> int:
    page: Candidates[Customer] = await take.candidates(Customer).limit(5).fetch()
    marks: tuple[Mark, ...] = await take.fetch_chosen(Customer, page)
    preview: Preview = await take.fetch_preview()
    return len(marks) + preview.of(Customer).hold + await take.candidates(Customer).fetch_count()
