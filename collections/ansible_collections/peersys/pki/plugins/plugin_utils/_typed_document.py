# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""Values of a located document, each with its type, or a refusal that names the line."""

from __future__ import annotations

import difflib
import typing as t

from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    Document,
    Fault,
    Path,
    TopologyRefused,
    shown,
)

_TYPES: dict[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "a text",
    int: "a number",
    bool: "yes or no",
}
T = t.TypeVar("T")


class TypedDocument:
    """Reads one document; every method refuses what isn't of the form asked for."""

    def __init__(self, document: Document) -> None:
        self.document = document

    def refuse(self, path: Path, message: str, remedy: str = "") -> t.NoReturn:
        """Raise TopologyRefused with this one fault."""
        raise TopologyRefused(self.document, [Fault(path, message, remedy)])

    def known_keys(self, path: Path, found: dict[str, t.Any], known: t.Iterable[str]) -> None:
        """Refuse a key that isn't known, and name the one that was meant."""
        for key in found:
            if key not in known:
                self.refuse((*path, key), "unknown key", one_of(key, sorted(known)))

    def required(self, path: Path, found: dict[str, t.Any], key: str, kind: type[T]) -> T:
        """Return the value of a key that must be there."""
        if found.get(key) is None:
            above = shown(self.document.written(path)[1])
            self.refuse((*path, key), f"is missing below {above or 'the top'}")
        return self.typed((*path, key), found[key], kind)

    def optional(self, path: Path, found: dict[str, t.Any], key: str, kind: type[T]) -> T | None:
        """Return the value of a key, None when it isn't there."""
        value = found.get(key)
        return None if value is None else self.typed((*path, key), value, kind)

    def texts(self, path: Path, value: t.Any) -> list[str]:
        """Return a list of texts, an empty one for None."""
        items = self.typed(path, [] if value is None else value, list)
        return [self.typed((*path, index), item, str) for index, item in enumerate(items)]

    def typed(self, path: Path, value: t.Any, kind: type[T]) -> T:
        """Return the value, which must be of the kind."""
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.refuse(path, f"must be {_TYPES[kind]}, not {type(value).__name__}")
        return value


def one_of(word: str, known: t.Sequence[str]) -> str:
    """Return a remedy: the word that was probably meant, or all of them."""
    near = difflib.get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}?" if near else f"Known are {', '.join(known)}"
