# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: verification_table
short_description: Show what was verified as one table
description:
  - Makes one table for people from the pings of every node, the ports that hosts tried, and the steps of every trial.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
positional: _input
options:
  _input:
    description: For each node its pings, as M(peersys.pki.peer_info) returns them.
    type: dict
    required: true
  steps:
    description: The steps of all trials, as M(peersys.pki.trial_certificate) returns them.
    type: list
    elements: dict
    default: []
  probes:
    description: For each host what it tried, as M(peersys.pki.port_probe) returns it.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what was verified
  ansible.builtin.debug:
    msg: "{{ {'ca1': {'ra1': [0.8]}} | peersys.pki.verification_table(trial.steps) }}"
"""

RETURN = r"""
_value:
  description: The table.
  type: str
"""

import collections
import types
import typing as t

_HEAD = ("node", "what", "took", "seen")


def verification_table(
    pings: t.Mapping[str, t.Mapping[str, t.Sequence[float]]],
    steps: t.Sequence[t.Mapping[str, t.Any]] = (),
    probes: t.Mapping[str, t.Mapping[str, t.Any]] = types.MappingProxyType({}),
) -> str:
    """Return the table; see DOCUMENTATION."""
    rows: list[tuple[str, ...]] = [_HEAD]
    for node, peers in sorted(pings.items()):
        for peer, times in sorted(peers.items()):
            links = f"{len(times)} link{'s' if len(times) != 1 else ''}"
            rows.append((node, f"pinged {peer}", _shown(min(times, default=None)), links))
    for host, tried in sorted(probes.items()):
        rows.extend(_tried(host, tried, expect) for expect in ("open", "closed"))
    rows.extend(
        (step["node"], step["step"], _shown(step["milliseconds"]), step["detail"]) for step in steps
    )
    rows = [row for row in rows if row]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _tried(host: str, tried: t.Mapping[str, t.Any], expect: str) -> tuple[str, ...]:
    """Return one row for all ports that must be open, or closed; nothing without any."""
    states = [one["state"] for one in tried["probes"] if one["expect"] == expect]
    if not states:
        return ()
    ports = f"{len(states)} port{'s' if len(states) != 1 else ''}"
    counts = collections.Counter(states)
    seen = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    verb = "reached" if expect == "open" else "was kept from"
    return host, f"{verb} {ports}", _shown(tried["milliseconds"]), seen


def _shown(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.1f} ms"


def _line(row: t.Sequence[str], widths: t.Sequence[int]) -> str:
    node, what, took, seen = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
    return f"{node}  {what}  {took.strip().rjust(widths[2])}  {seen}".rstrip()


class FilterModule:
    """Filters of verification."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"verification_table": verification_table}
