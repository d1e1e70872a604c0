# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""YAML whose every key still knows its line, and what is said of a key that is wrong."""

from __future__ import annotations

import dataclasses
import typing as t

import yaml

Path = tuple[t.Union[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong: at which key, what, and what to write instead."""

    path: Path
    message: str
    remedy: str = ""


class TopologyRefused(Exception):
    """The document can't become an inventory; the message has one line per fault."""

    def __init__(self, document: Document, faults: t.Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(document.located(fault) for fault in faults))


@dataclasses.dataclass(frozen=True)
class Document:
    """``value`` is plain data; ``lines`` has the line of each key and list item by its path.

    ``parts`` are keys and list items that stand in files of their own: file, and path there.
    """

    file: str
    value: t.Any
    lines: dict[Path, int]
    parts: dict[Path, tuple[str, Path]] = dataclasses.field(default_factory=dict)

    def place(self, path: Path) -> str:
        """Return file and line of ``path``, or of the nearest key above it when it is missing."""
        file = self.written(path)[0]
        while path not in self.lines:
            path = path[:-1]
        return f"{file}:{self.lines[path]}"

    def written(self, path: Path) -> tuple[str, Path]:
        """Return the file in which ``path`` is written, and its path there."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.parts:
                file, own = self.parts[path[:length]]
                return file, (*own, *path[length:])
        return self.file, path

    def located(self, fault: Fault) -> str:
        """Return the fault as ``file:line: key: message. remedy``."""
        parts = [self.place(fault.path), shown(self.written(fault.path)[1]), fault.message]
        text = ": ".join(part for part in parts if part)
        return f"{text}. {fault.remedy}" if fault.remedy else text


def shown(path: Path) -> str:
    """Return a path as people write it: ``nodes.ra1.listen.peer``, ``links[0].to``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_document(file: str, text: str) -> Document:
    """Return ``text`` as located data. Raises TopologyRefused when it isn't plain YAML."""
    lines: dict[Path, int] = {(): 1}
    empty = Document(file, None, lines)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        value = None if node is None else _Reader(loader, lines, empty).value(node, ())
    except yaml.MarkedYAMLError as error:
        lines[()] = error.problem_mark.line + 1 if error.problem_mark else 1
        raise TopologyRefused(empty, [Fault((), f"not YAML: {error.problem}")]) from error
    finally:
        loader.dispose()
    return Document(file, value, lines)


class _Reader:
    def __init__(self, loader: yaml.SafeLoader, lines: dict[Path, int], document: Document) -> None:
        self._loader = loader
        self._lines = lines
        self._document = document

    def value(self, node: yaml.Node, path: Path) -> t.Any:
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._loader.construct_object(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {}
        for key_node, value_node in node.value:
            key = str(self._loader.construct_object(key_node))
            below = (*path, key)
            line = key_node.start_mark.line + 1
            if key in found:
                first = self._lines[below]
                self._lines[below] = line
                fault = Fault(below, f"written twice, first in line {first}", "Keep one of them")
                raise TopologyRefused(self._document, [fault])
            self._lines[below] = line
            found[key] = self.value(value_node, below)
        return found
