# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The table ``inet peersys``: a pure function from rules to what nft reads.

Everything that isn't named is dropped on the way in. Established connections, loopback, ICMP
(IPv6 doesn't work without it), DHCPv6 answers and SSH are let in on every host. A host that was
taken over is left nothing but SSH from the controller, in either direction.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

TABLE = "inet peersys"
# How a file of rules begins that no ordinary table may replace.
ISOLATED = "# This host was taken over, and is isolated.\n"
_MAX_COMMENT_BYTES = 120
_LAST_PORT = 65535


class RuleError(Exception):
    """A rule makes no sense."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """One port and who may reach it. Nobody may when no source is listed."""

    port: int
    sources: t.Tuple[str, ...]
    comment: str

    @classmethod
    def parse(cls, raw: t.Mapping[str, t.Any]) -> Rule:
        """Return the rule. Raises RuleError naming what is wrong."""
        port, comment = int(raw["port"]), str(raw.get("comment") or "")
        if not 1 <= port <= _LAST_PORT:
            raise RuleError(f"port {port} is not from 1 to {_LAST_PORT}")
        if not comment.isprintable() or '"' in comment or len(comment) > _MAX_COMMENT_BYTES:
            raise RuleError(f"the comment of port {port} has quotes, control characters or is long")
        return cls(port, tuple(_network(port, source) for source in raw["from"]), comment)

    def lines(self) -> t.Iterator[str]:
        """Yield the rule as nft reads it, one line for each family."""
        for family, version in (("ip", 4), ("ip6", 6)):
            chosen = [one for one in self.sources if ipaddress.ip_network(one).version == version]
            if chosen:
                comment = f' comment "{self.comment}"' if self.comment else ""
                sources = ", ".join(dict.fromkeys(chosen))
                yield f"{family} saddr {{ {sources} }} tcp dport {self.port} accept{comment}"


def ruleset(rules: t.Iterable[Rule], ssh_ports: t.Iterable[int]) -> str:
    """Return one transaction: whatever the table held before, afterwards it holds this."""
    ports = _set(map(str, sorted(set(ssh_ports))))
    lines = [
        "type filter hook input priority filter; policy drop;",
        "ct state established,related accept",
        "ct state invalid drop",
        'iif "lo" accept',
        "meta l4proto { icmp, ipv6-icmp } accept",
        "ip6 saddr fe80::/10 udp dport 546 accept",
        f'tcp dport {ports} accept comment "SSH"',
        *(line for rule in rules for line in rule.lines()),
    ]
    return _transaction({"inbound": lines})


def isolating_ruleset(controllers: t.Iterable[str], ssh_ports: t.Iterable[int]) -> str:
    """Return the table of a host that was taken over: nothing but SSH from the controllers.

    That holds for connections that are established already, and for what the host itself sends.
    Addresses of neighbours are asked for still, without which no packet goes out (RFC 4861).
    Raises RuleError for what is no address.
    """
    ports = _set(map(str, sorted(set(ssh_ports))))
    neighbours = "icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept"
    sources = [ipaddress.ip_network(_network(22, one)) for one in controllers]
    if not sources:
        raise RuleError("no controller is known, and none could come back")
    inbound, outbound = ['iif "lo" accept', neighbours], ['oif "lo" accept', neighbours]
    for family, version in (("ip", 4), ("ip6", 6)):
        chosen = [str(one) for one in sources if one.version == version]
        if chosen:
            inbound.append(f"{family} saddr {_set(chosen)} tcp dport {ports} accept")
            answer = f"tcp sport {ports} ct state established accept"
            outbound.append(f"{family} daddr {_set(chosen)} {answer}")
    hooked = {"inbound": "input", "outbound": "output", "forwarded": "forward"}
    chains = {"inbound": inbound, "outbound": outbound, "forwarded": []}
    return ISOLATED + _transaction(
        {
            name: [f"type filter hook {hooked[name]} priority filter; policy drop;", *lines]
            for name, lines in chains.items()
        }
    )


def _transaction(chains: t.Mapping[str, t.Iterable[str]]) -> str:
    text = f"table {TABLE} {{ }}\ndelete table {TABLE}\ntable {TABLE} {{\n"
    for name, lines in chains.items():
        text += "\n".join([f"    chain {name} {{", *(f"        {one}" for one in lines), "    }\n"])
    return text + "}\n"


def _set(words: t.Iterable[str]) -> str:
    return f"{{ {', '.join(words)} }}"


def _network(port: int, source: t.Any) -> str:
    try:
        return str(ipaddress.ip_network(str(source)))
    except ValueError as error:
        raise RuleError(f"who may reach port {port}: {error}") from error
