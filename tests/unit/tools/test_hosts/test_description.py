"""What is read from inventories, and what is refused before anything is made."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from tests.unit.tools.test_hosts.labs import FAR, INNER, NEAR, OUTER, SMALL
from tools.test_hosts.errors import LabError
from tools.test_hosts.inventory_reader import lab_of, read_inventories
from tools.test_hosts.model import Host, Lab, Zone, lab_from_json

ZONES = {
    "inner": {"networks": ["192.0.2.0/24"], "dials": ["outer"]},
    "outer": {"networks": ["198.51.100.0/24"], "dials": []},
}


def variables(name: str) -> dict[str, Any]:
    host = SMALL.host(name)
    return {
        "ansible_host": str(host.address),
        "topology_zone": host.zone,
        "topology_zones": ZONES,
    }


def test_hosts_and_zones_come_from_the_variables_of_hosts() -> None:
    lab = lab_of({"near": variables("near"), "far": variables("far"), "localhost": {}})
    assert lab.merged(lab) == SMALL.merged(SMALL)


@pytest.mark.parametrize("lacking", ["ansible_host", "topology_zones"])
def test_a_host_without_a_variable_is_named(lacking: str) -> None:
    own = variables("near")
    del own[lacking]
    with pytest.raises(LabError, match=f"the host near lacks the variable {lacking}"):
        lab_of({"near": own})


def test_a_name_as_address_is_refused() -> None:
    with pytest.raises(LabError, match=r"the host near needs an IPv4 address.*example\.org"):
        lab_of({"near": variables("near") | {"ansible_host": "ca.example.org"}})


def test_a_lab_survives_being_written_down() -> None:
    mixed = SMALL.with_releases("bookworm", {"far": "trixie"})
    assert mixed.releases == ["bookworm", "trixie"]
    for lab in (SMALL, mixed):
        assert lab_from_json(lab.to_json()) == lab


def test_a_release_for_a_host_that_is_not_there_is_refused() -> None:
    with pytest.raises(LabError, match="there is no host nowhere"):
        SMALL.with_releases("bookworm", {"nowhere": "trixie"})


def test_a_host_does_not_change_its_release() -> None:
    other = SMALL.with_releases("bookworm", {"far": "trixie"})
    with pytest.raises(LabError, match=r"in outer with bookworm, .* in outer with trixie"):
        SMALL.merged(other)


@pytest.mark.parametrize(
    ("zones", "hosts", "message"),
    [
        ((INNER, OUTER), (), "no host with the variable topology_zone"),
        ((INNER,), (NEAR,), "zone inner dials outer, which is no zone"),
        ((OUTER,), (NEAR,), "there is no zone inner; zones: outer"),
        (
            (INNER, OUTER),
            (NEAR, replace(NEAR, name="twin")),
            "twin and near both have the address 192.0.2.11",
        ),
        ((INNER, OUTER), (replace(FAR, zone="inner"),), "in no network of the zone inner"),
        (
            (INNER, OUTER),
            (replace(NEAR, address=IPv4Address("192.0.2.254")),),
            "192.0.2.254 belongs to the lab itself",
        ),
        (
            (
                Zone("a-very-long-name-1", (IPv4Network("192.0.2.0/25"),)),
                Zone("a-very-long-name-2", (IPv4Network("192.0.2.128/25"),)),
            ),
            (NEAR,),
            "agree in the first 13 characters",
        ),
    ],
)
def test_what_cannot_be_laid_out_is_refused(
    zones: tuple[Zone, ...], hosts: tuple[Host, ...], message: str
) -> None:
    with pytest.raises(LabError, match=message):
        Lab(zones, hosts)


def test_one_address_with_two_names_is_no_contradiction_if_they_are_one_host() -> None:
    assert SMALL.merged(SMALL) == SMALL.merged(Lab(SMALL.zones, (NEAR,)))


def test_two_inventories_that_claim_one_name_are_refused() -> None:
    other = Lab(SMALL.zones, (replace(NEAR, address=IPv4Address("192.0.2.99")),))
    with pytest.raises(LabError, match=r"near differ: 192\.0\.2\.11 in inner .*, 192\.0\.2\.99 "):
        SMALL.merged(other)


def test_zones_that_changed_are_refused() -> None:
    other = Lab((replace(INNER, networks=(*INNER.networks, *OUTER.networks)), OUTER), (NEAR,))
    with pytest.raises(LabError, match="two descriptions of the zone inner differ"):
        SMALL.merged(other)


def test_a_zone_may_dial_what_either_inventory_says() -> None:
    other = Lab((replace(INNER, dials=()), replace(OUTER, dials=("inner",))), (NEAR,))
    for merged in (SMALL.merged(other), other.merged(SMALL)):
        assert {zone.name: zone.dials for zone in merged.zones} == {
            "inner": INNER.dials,
            "outer": ("inner",),
        }


def test_the_shipped_inventories_make_one_lab() -> None:
    names = ("three_tier", "va_chaining", "high_availability", "ra_chaining", "multi_tenant")
    lab = read_inventories([f"inventories/{name}" for name in names])
    assert {host.name for host in lab.hosts} == {
        *("ca1", "ca2", "cache1", "client1", "db1", "proxy1", "ra-alpha", "ra-beta"),
        *("ra1", "ra2", "va1", "va2", "va-exposed1", "va-exposed2"),
    }
    assert lab.zone("ca").dials == ("service",)
    assert lab.zone("service").dials == ("exposed",)
    assert lab.host("ra2").address == IPv4Address("198.51.100.12")


def test_a_missing_inventory_is_named() -> None:
    with pytest.raises(LabError, match="there is no inventory inventories/nowhere"):
        read_inventories(["inventories/nowhere"])
