"""A small lab for tests: two hosts, two zones, one direction."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from tools.test_hosts.model import Host, Lab, Zone

INNER = Zone("inner", (IPv4Network("192.0.2.0/24"),), ("outer",))
OUTER = Zone("outer", (IPv4Network("198.51.100.0/24"),))
NEAR = Host("near", "inner", IPv4Address("192.0.2.11"))
FAR = Host("far", "outer", IPv4Address("198.51.100.11"))
SMALL = Lab((INNER, OUTER), (NEAR, FAR))
