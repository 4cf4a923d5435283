"""The Offline Configurator: what may be chosen, what is chosen, which records that means, what it would move, and saving it.

    take = replica.configure().quick("mine").all_of(Customer.city == "Campinas").pick(Customer, "000312-01")
    print(take.preview().rows)
    take.save()

A front end reads `replica.offer` to know what to show, and keeps one `Configuration` while its user goes through the steps.
"""

from offlinekit.configurator.candidates import Candidates, CandidateSelect, Mark
from offlinekit.configurator.conditions import Condition
from offlinekit.configurator.configuration import Chosen, Configuration
from offlinekit.configurator.preview import Budget, Preview, PreviewOf, Stranded
from offlinekit.offer import Advanced, Always, Include, Offer, Offered, Option, Quick, QuickParam
from offlinekit.selection import Selection

__all__ = [
    "Advanced",
    "Always",
    "Budget",
    "CandidateSelect",
    "Candidates",
    "Chosen",
    "Condition",
    "Configuration",
    "Include",
    "Mark",
    "Offer",
    "Offered",
    "Option",
    "Preview",
    "PreviewOf",
    "Quick",
    "QuickParam",
    "Selection",
    "Stranded",
]
