"""What cannot be configured is refused by the checkers; each line with `# error` must be reported."""

from __future__ import annotations

from offlinekit import Collection, Field, field
from offlinekit.configurator import Budget, Configuration


class Customer(Collection):
    code: Field[str] = field(key=True)


def steps(take: Configuration) -> None:
    take.all_of("code = 1")  # error
    take.candidates("customer")  # error
    take.candidates(Customer, show="all")  # error
    take.join(Customer, "some")  # error
    take.preview().fits("1 MB")  # error
    Budget(rows=1)  # error
    names: list[int] = [c.code for c in take.candidates(Customer).all()]  # error
    print(names)
