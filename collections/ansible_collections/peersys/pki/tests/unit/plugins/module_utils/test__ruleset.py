# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.peersys.pki.plugins.module_utils._ruleset import (
    ISOLATED,
    Rule,
    RuleError,
    isolating_ruleset,
    ruleset,
)


def rule(**given):
    return Rule.parse({"port": 7443, "from": ["192.0.2.11"], "comment": "links", **given})


def test_table_is_replaced_in_one_transaction():
    text = ruleset([], [22])
    assert text.startswith(
        "table inet peersys { }\ndelete table inet peersys\ntable inet peersys {"
    )


def test_everything_is_dropped_that_is_not_named():
    lines = ruleset([], [2222, 22]).splitlines()
    assert "policy drop;" in lines[4]
    assert [line.strip() for line in lines[5:-2]] == [
        "ct state established,related accept",
        "ct state invalid drop",
        'iif "lo" accept',
        "meta l4proto { icmp, ipv6-icmp } accept",
        "ip6 saddr fe80::/10 udp dport 546 accept",
        'tcp dport { 22, 2222 } accept comment "SSH"',
    ]


def test_families_get_a_line_each():
    mixed = rule(**{"from": ["192.0.2.11", "2001:db8::1", "198.51.100.0/24"]})
    assert list(mixed.lines()) == [
        'ip saddr { 192.0.2.11/32, 198.51.100.0/24 } tcp dport 7443 accept comment "links"',
        'ip6 saddr { 2001:db8::1/128 } tcp dport 7443 accept comment "links"',
    ]


def test_nobody_listed_is_nobody_let_in():
    assert list(rule(**{"from": []}).lines()) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"port": 0}, "port 0"),
        ({"port": 65536}, "port 65536"),
        ({"from": ["ra1"]}, "ra1"),
        ({"from": ["192.0.2.11/24"]}, "host bits"),
        ({"comment": 'links" accept'}, "quotes"),
        ({"comment": "a\nb"}, "quotes"),
        ({"comment": "x" * 200}, "long"),
    ],
)
def test_senseless_rule_is_refused_with_its_fault(given, said):
    with pytest.raises(RuleError, match=said):
        rule(**given)


def test_isolation_ends_what_is_established_and_lets_only_answers_out():
    text = isolating_ruleset(["192.0.2.1"], [22])
    assert text.startswith(ISOLATED + "table inet peersys { }\ndelete table inet peersys\n")
    lines = [line.strip() for line in text.splitlines()]
    assert lines.count("ct state established,related accept") == 0
    assert "ip daddr { 192.0.2.1/32 } tcp sport { 22 } ct state established accept" in lines
    assert lines[lines.index("chain forwarded {") + 2] == "}"


@pytest.mark.parametrize("controllers", [[], ["controller.example.org"]])
def test_isolation_that_nobody_could_end_is_refused(controllers):
    with pytest.raises(RuleError):
        isolating_ruleset(controllers, [22])
