"""The rules between zones: who may open connections to whom, and which zones are cut apart.

The whole rule set is rendered and loaded at once, so there is no moment with half of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.test_hosts.model import Lab

_TABLE = "inet zones"


def ruleset(lab: Lab, cuts: Iterable[frozenset[str]] = ()) -> str:
    """Return the router's nftables rules; the zones of each pair in ``cuts`` don't hear each other.

    What is cut is dropped and never refused: neither side learns of it, as when a cable is pulled.
    """
    lines = [
        *(f"  {rule}" for rule in _cut_rules(lab, cuts)),
        "  ct state established,related accept",
        *(f"  {rule}" for rule in _dial_rules(lab)),
        "  counter",
    ]
    chain = "\n".join(["  type filter hook forward priority filter; policy drop;", *lines])
    return (
        f"table {_TABLE}\ndelete table {_TABLE}\n"
        f"table {_TABLE} {{\n chain forward {{\n{chain}\n }}\n}}\n"
    )


def _cut_rules(lab: Lab, cuts: Iterable[frozenset[str]]) -> list[str]:
    rules = []
    for pair in sorted(sorted(cut) for cut in cuts):
        one, other = (lab.zone(name).interface for name in pair)
        rules += [
            f'iifname "{a}" oifname "{b}" counter drop' for a, b in ((one, other), (other, one))
        ]
    return rules


def _dial_rules(lab: Lab) -> list[str]:
    return [
        f'iifname "{zone.interface}" oifname "{lab.zone(dialled).interface}" ct state new accept'
        for zone in lab.zones
        for dialled in zone.dials
        if dialled != zone.name
    ]
