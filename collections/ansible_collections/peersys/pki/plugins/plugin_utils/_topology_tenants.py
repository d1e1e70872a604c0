# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""The parts of a topology that tenants bring: one file ``tenants/<tenant>.yml`` for each.

All files become one document in which every key still knows its file and line. So a tenant is
added by a file of its own, and whatever it clashes with is named.
"""

from __future__ import annotations

import pathlib
import re
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    Document,
    Fault,
    Path,
    TopologyRefused,
    read_document,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._typed_document import TypedDocument

NAMED = ("zones", "nodes", "clients", "profiles", "authorities")
# Where tenants' trust domains and Management CAs are put, which stand at the top of their files.
TENANTS = "tenants"
ISSUER_KEYS = ("trust_domain", "management_ca")
TENANT_KEYS = ("plugin", *ISSUER_KEYS, *NAMED, "links")
_DIRECTORY = "tenants"
_SUFFIXES = (".yml", ".yaml")
# As other names of objects; it is part of a group's name.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,20}[a-z0-9])?\Z")


def is_tenant_file(path: pathlib.Path) -> bool:
    """Return whether the file is a tenant's, beside a topology."""
    return path.parent.name == _DIRECTORY and path.suffix in _SUFFIXES


def read_with_tenants(path: pathlib.Path) -> Document:
    """Return a topology file and its tenants' files as one document.

    Raises TopologyRefused when one of them isn't of the right form, or says what another one said.
    """
    document = _read(path)
    if not isinstance(document.value, dict):
        return document
    if TENANTS in document.value:
        remedy = f"Write {_DIRECTORY}/<tenant>.yml beside this file"
        TypedDocument(document).refuse((TENANTS,), "unknown key", remedy)
    files = sorted(path.parent.glob(f"{_DIRECTORY}/*"))
    for file in filter(is_tenant_file, files):
        _Tenant(_read(file), file.stem).join(document)
    return document


def tenants_in(document: Document) -> dict[Path, str]:
    """Return which tenant brought what, by the path in the whole document."""
    return {path: pathlib.Path(file).stem for path, (file, _own) in document.parts.items()}


def _read(path: pathlib.Path) -> Document:
    return read_document(str(path), path.read_text(encoding="utf-8"))


class _Tenant(TypedDocument):
    """One tenant's file."""

    def __init__(self, document: Document, name: str) -> None:
        super().__init__(document)
        self._name = name

    def join(self, whole: Document) -> None:
        """Add what the file says to the whole document."""
        if not _NAME.match(self._name):
            remedy = "Use lower-case letters, digits and inner dashes, and keep it short"
            self.refuse((), f"{self._name!r} is no name of a tenant", remedy)
        top = self.typed((), self.document.value, dict)
        self.known_keys((), top, TENANT_KEYS)
        # Without it Ansible's own plugins would take the file for an inventory.
        self.required((), top, "plugin", str)
        own = {key: top[key] for key in ISSUER_KEYS if key in top}
        if own:
            whole.value.setdefault(TENANTS, {})[self._name] = own
            self._locate(whole, (TENANTS, self._name), ())
        for section in NAMED:
            found = self.typed((section,), top.get(section) or {}, dict)
            for name, value in found.items():
                self._add(whole, section, name, value)
        links = self.typed(("links",), top.get("links") or [], list)
        for index, link in enumerate(links):
            self._link(whole, index, link, list(top.get("authorities") or {}))

    def _add(self, whole: Document, section: str, name: str, value: t.Any) -> None:
        path = (section, name)
        there = TypedDocument(whole).typed((section,), whole.value.get(section) or {}, dict)
        if name in there:
            message = f"{name} is written already at {whole.place(path)}"
            raise TopologyRefused(self.document, [Fault(path, message, "Choose another name")])
        whole.value[section] = {**there, name: value}
        self._locate(whole, path, path)

    def _link(self, whole: Document, index: int, link: t.Any, own: list[str]) -> None:
        there = TypedDocument(whole).typed(("links",), whole.value.get("links") or [], list)
        if isinstance(link, dict):
            # A tenant's link is for the tenant's CAs, and never for all that are behind it.
            link = {"authorities": own, **link}
        whole.value["links"] = [*there, link]
        self._locate(whole, ("links", len(there)), ("links", index))

    def _locate(self, whole: Document, path: Path, own: Path) -> None:
        whole.parts[path] = (self.document.file, own)
        for key, line in self.document.lines.items():
            if key[: len(own)] == own:
                whole.lines[(*path, *key[len(own) :])] = line
