# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: isolation_table
short_description: Show what became of a node that was taken over, and what it had asked for
description:
  - Makes one table for people of what each node did to isolate another one, and one of what that one had asked for or passed on.
  - The input is what C(peersys --json peer isolate) says on each node.
version_added: 0.1.0
author:
  - Peersys contributors (@peersys)
positional: _input
options:
  _input:
    description: By the name of each node, what its agent says; None, or an error of the command, where it wasn't reached.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show the report
  ansible.builtin.debug:
    msg: "{{ {'ca1': told.stdout | from_json, 'va1': none} | peersys.pki.isolation_table }}"
"""

RETURN = r"""
_value:
  description: Both tables.
  type: str
"""

import datetime
import typing as t

from ansible.errors import AnsibleFilterError

_DONE = ("node", "links", "role", "revoked", "connectors", "publishers")
_ASKED = ("time (UTC)", "node", "verdict", "action", "who", "resources", "serial")
# Without it a node has done nothing.
_DECIDED = "links_closed"
Report = t.Mapping[str, t.Any]


def isolation_table(reports: t.Mapping[str, Report | None]) -> str:
    """Return the tables; see DOCUMENTATION."""
    told = {node: report for node, report in reports.items() if report and _DECIDED in report}
    try:
        done = [_done(node, told.get(node)) for node in sorted(reports)]
        asked = [
            (entry["at"], _entry(node, entry))
            for node, report in told.items()
            for entry in report["asked"]
        ]
    except (KeyError, TypeError) as error:
        raise AnsibleFilterError(f"not what 'peersys peer isolate' says: {error}") from error
    asked.sort()
    tables = [_table(_DONE, done), ""]
    tables += [_table(_ASKED, [row for _at, row in asked])] if asked else ["It asked for nothing."]
    return "\n".join(tables)


def _done(node: str, report: Report | None) -> tuple[str, ...]:
    if report is None:
        return (node, "NOT REACHED", "", "", "", "")
    links = "as they were" if report["dry_run"] else "STILL UP"
    if report["links_closed"]:
        links = f"closed in {report['closed_after_seconds']:.2f} s"
    return (
        node,
        links,
        report["role"],
        ", ".join(f"{one['authority']} {one['serial']}" for one in report["certificates"]),
        ", ".join(one["name"] for one in report["connectors"]),
        ", ".join(report["publishers"]),
    )


def _entry(node: str, entry: Report) -> tuple[str, ...]:
    at = datetime.datetime.fromtimestamp(entry["at"], tz=datetime.timezone.utc)
    return (
        at.strftime("%Y-%m-%d %H:%M:%S"),
        node,
        "allowed" if entry["allowed"] else "denied",
        entry["action"],
        entry["chain"],
        " ".join(entry["resources"]),
        str(entry["detail"].get("serial") or ""),
    )


def _table(head: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> str:
    printed = [head, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in printed) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in printed
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _printable(text: str) -> str:
    """What the node asked for is its own words, and this goes to a terminal."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


class FilterModule:
    """Filters of isolation."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return the filters by name."""
        return {"isolation_table": isolation_table}
