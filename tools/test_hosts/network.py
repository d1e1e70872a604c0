"""The zones: one bridge each, the controller's addresses on them, and the router between them.

All of it is in two network namespaces, so that neither the machine's addresses nor its routes
matter, and deleting the two deletes everything.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tools.test_hosts.commands import run, succeeds
from tools.test_hosts.model import controller_address, router_address
from tools.test_hosts.router import ruleset

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.test_hosts.model import Lab, Zone
    from tools.test_hosts.places import Places


def ensure_network(lab: Lab, places: Places) -> None:
    """Make what is missing; whatever is there stays as it is."""
    controller, router = places.controller_namespace, places.router_namespace
    for namespace, forwards in ((controller, 0), (router, 1)):
        if namespace not in namespaces():
            run("ip", "netns", "add", namespace)
        _set(namespace, "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1",
             f"net.ipv4.ip_forward={forwards}")  # fmt: skip
        run("ip", "-n", namespace, "link", "set", "lo", "up")
    present = _interfaces(controller)
    for number, zone in enumerate(lab.zones):
        if zone.interface not in present:
            _lay_out(zone, f"r-{len(present) + number}", places)


def load_rules(lab: Lab, cuts: Iterable[frozenset[str]], places: Places) -> None:
    """Let the router do what the zones, and the cuts between them, say."""
    within = ("nsenter", f"--net=/run/netns/{places.router_namespace}", "--")
    run(*within, "nft", "-f", "-", given=ruleset(lab, cuts))


def remove_network(places: Places) -> None:
    """Delete both namespaces and everything in them."""
    for namespace in (places.router_namespace, places.controller_namespace):
        if namespace in namespaces():
            run("ip", "netns", "delete", namespace)


def namespaces() -> set[str]:
    """Return the names of the machine's network namespaces."""
    listed = run("ip", "-j", "netns", "list").strip()
    return {entry["name"] for entry in json.loads(listed or "[]")}


def _interfaces(namespace: str) -> set[str]:
    return {entry["ifname"] for entry in json.loads(run("ip", "-n", namespace, "-j", "link"))}


def _set(namespace: str, *settings: str) -> None:
    run("nsenter", f"--net=/run/netns/{namespace}", "--", "sysctl", "-q", "-w", *settings)


def _lay_out(zone: Zone, cable: str, places: Places) -> None:
    """Make the bridge last in name: an interrupted layout is begun anew."""
    name, controller, router = zone.interface, places.controller_namespace, places.router_namespace
    if name in _interfaces(router):
        run("ip", "-n", router, "link", "delete", name)
    inside = [f"link add {cable} type bridge forward_delay 0"]
    inside += [
        f"address add {controller_address(n)}/{n.prefixlen} dev {cable}" for n in zone.networks
    ]
    inside += [
        f"link add c{cable} type veth peer name {name} netns {router}",
        f"link set c{cable} master {cable} up",
        f"link set {cable} name {name} up",
    ]
    run("ip", "-n", controller, "-batch", "-", given="\n".join(inside))
    outside = [f"address add {router_address(n)}/{n.prefixlen} dev {name}" for n in zone.networks]
    outside.append(f"link set {name} up")
    run("ip", "-n", router, "-batch", "-", given="\n".join(outside))


def pull_cable(name: str, places: Places) -> None:
    """Take a host off its network, so that its end isn't told to anybody.

    The kernel closes the connections of processes that end; a host without power closes none.
    """
    cable = f"vb-{name}"
    if cable in _interfaces(places.controller_namespace):
        run("ip", "-n", places.controller_namespace, "link", "set", cable, "down")


def remove_cable(name: str, places: Places) -> None:
    """Remove what is left of the cable of a host without power.

    The kernel removes it some time after the host's end, and the next boot needs the name.
    """
    succeeds("ip", "-n", places.controller_namespace, "link", "delete", f"vb-{name}")
