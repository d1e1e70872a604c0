"""An inventory of any size: the shipped one of three tiers, with as many RAs and VAs as wanted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["topology_of_size", "write_inventory"]

# Room for RAs below, for VAs above; the lab itself has .1 and .254.
_FIRST_RA, _FIRST_VA = 11, 111


def write_inventory(shipped: Path, directory: Path, nodes: int) -> None:
    """Copy the inventory ``shipped`` to ``directory``, with ``nodes`` nodes."""
    shutil.copytree(shipped, directory)
    path = directory / "topology.yml"
    topology = topology_of_size(yaml.safe_load(path.read_text(encoding="utf-8")), nodes)
    path.write_text(yaml.safe_dump(topology, explicit_start=True), encoding="utf-8")


def topology_of_size(topology: dict[str, Any], nodes: int) -> dict[str, Any]:
    """Return the topology with its one CA node and ``nodes - 1`` others, half RAs and half VAs."""
    if nodes < 3:
        raise ValueError("a CA, an RA and a VA are the least")
    others = nodes - 1
    made = {"ca1": topology["nodes"]["ca1"]}
    for kind, count, first in (
        ("ra", others - others // 2, _FIRST_RA),
        ("va", others // 2, _FIRST_VA),
    ):
        model = topology["nodes"][f"{kind}1"]
        network = model["address"].rpartition(".")[0]
        for number in range(count):
            made[f"{kind}{number + 1}"] = {**model, "address": f"{network}.{first + number}"}
    links = [{"from": "ca1", "to": name} for name in made if name != "ca1"]
    return {**topology, "nodes": made, "links": links}
