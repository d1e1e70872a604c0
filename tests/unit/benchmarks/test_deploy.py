from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.bench_deploy import Deployment, render, task_runs
from benchmarks.deploy_inventory import topology_of_size, write_inventory
from tools.test_hosts.inventory_reader import read_inventories

SHIPPED = Path("inventories/three_tier")
RECAP = """\
PLAY RECAP *********************************************************************
ca1                        : ok=15   changed=7    unreachable=0    failed=0    skipped=1
localhost                  : ok=40   changed=0    unreachable=0    failed=0    skipped=0
ra1                        : ok=13   changed=6    unreachable=0    failed=0    skipped=1
"""


@pytest.mark.parametrize(("nodes", "ras", "vas"), [(3, 1, 1), (8, 4, 3), (16, 8, 7)])
def test_topology_has_as_many_nodes_as_wanted(nodes: int, ras: int, vas: int) -> None:
    topology = yaml.safe_load((SHIPPED / "topology.yml").read_text())
    made = topology_of_size(topology, nodes)
    names = list(made["nodes"])
    assert len(names) == nodes
    assert sum(name.startswith("ra") for name in names) == ras
    assert sum(name.startswith("va") for name in names) == vas
    assert len({node["address"] for node in made["nodes"].values()}) == nodes
    assert len(made["links"]) == nodes - 1


def test_inventory_plugin_accepts_such_a_topology(tmp_path: Path) -> None:
    write_inventory(SHIPPED, tmp_path / "inventory", 16)
    lab = read_inventories([str(tmp_path / "inventory")])
    assert len([host for host in lab.hosts if host.zone != "clients"]) == 16


def test_too_few_nodes_are_refused() -> None:
    with pytest.raises(ValueError, match="the least"):
        topology_of_size({}, 2)


def test_task_runs_are_those_of_the_busiest_host_but_not_of_the_controller() -> None:
    assert task_runs(RECAP) == 15


def test_bars_are_judged_for_eight_hosts_alone() -> None:
    text = render([Deployment(4, 10, 20, 10, 15), Deployment(8, 10, 60, 11, 15)])
    assert "full: <= 5, measured 6.00: not reached: 1.20 times" in text
    assert "unchanged: <= 1.2, measured 1.10: reached" in text
    assert text.count("bar for eight hosts") == 2
    assert "an added host" not in text


@pytest.mark.parametrize(
    ("sixteen", "said"),
    [
        (100, "measured 1.00: reached (5.00 s up to eight, 5.00 s up to sixteen)"),
        (110, "measured 1.25: reached (5.00 s up to eight, 6.25 s up to sixteen)"),
        (140, "measured 2.00: not reached: 1.60 times what it may be (5.00 s"),
    ],
)
def test_host_that_is_added_may_cost_no_more_than_those_before(sixteen: int, said: str) -> None:
    full = {4: 40, 16: sixteen, 8: 60}
    text = render([Deployment(hosts, 10, taken, 11, 15) for hosts, taken in full.items()])
    assert f"bar for an added host, full: <= 1.25, {said}" in text
