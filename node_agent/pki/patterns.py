r"""Regular expressions that can't be made slow: the pattern language of certificate profiles.

A pattern is written by an operator, but the text it is matched with comes from whoever sends a
CSR, and a backtracking matcher can be kept busy for years by 64 characters (``(a+)+``). So patterns
are the *regular* subset of the usual syntax, matched by an automaton in time linear in the text:

- characters, ``.``, ``\`` before a punctuation mark, ``\d \w \s \D \W \S`` (ASCII meaning);
- classes ``[a-z0-9-]`` and ``[^…]``; groups ``(…)`` and ``(?:…)``; alternatives ``|``;
- ``* + ? {m} {m,} {m,n}``, each also with a ``?`` behind, which changes nothing here.

A pattern always matches the whole text; ``^`` at its start and ``$`` at its end may be written and
mean nothing more. Back-references and look-around are refused.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, field

from node_agent.errors import ConfigError

__all__ = ["MAX_PATTERN_CHARACTERS", "Pattern"]

MAX_PATTERN_CHARACTERS = 1024
# Counted repetitions are written out: [a-z]{0,63} takes 64 states, a long host pattern hundreds.
_MAX_STATES = 8192
_MAX_NESTING = 32
_MAX_REPEAT = 1024
# Transitions that are remembered; beyond it the table starts afresh, so that hostile texts can't
# fill the memory.
_MAX_REMEMBERED = 16384

_DIGITS = frozenset(string.digits)
_WORD = frozenset(string.ascii_letters + string.digits + "_")
_SPACE = frozenset(" \t\n\r\f\v")
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": _SPACE}


@dataclass(frozen=True, slots=True)
class _Characters:
    """A set of characters, or with ``negated`` every character but those."""

    members: frozenset[str]
    negated: bool = False

    def __contains__(self, character: str) -> bool:
        return (character in self.members) != self.negated


@dataclass(frozen=True, slots=True)
class _Sequence:
    parts: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Choice:
    options: tuple[_Node, ...]


@dataclass(frozen=True, slots=True)
class _Repeat:
    part: _Node
    minimum: int
    maximum: int | None


_Node = _Characters | _Sequence | _Choice | _Repeat


class Pattern:
    """A compiled pattern. Raises ConfigError saying at which character it can't be used."""

    __slots__ = ("_automaton", "literals", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        if len(source) > MAX_PATTERN_CHARACTERS:
            raise ConfigError(f"a pattern may have {MAX_PATTERN_CHARACTERS} characters at most")
        parser = _Parser(source)
        self._automaton = _Automaton(parser.parse())
        self.literals = frozenset(parser.literals)
        """Characters that the pattern names outright, not by a range or a negation."""

    def matches(self, text: str) -> bool:
        """Tell whether the whole ``text`` matches."""
        return self._automaton.accepts(text)

    def __repr__(self) -> str:
        return f"Pattern({self.source!r})"


class _Parser:
    """Recursive descent over the pattern's characters."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at = 0
        self._depth = 0
        self.literals: set[str] = set()

    def parse(self) -> _Node:
        start = 1 if self._source.startswith("^") else 0
        end = len(self._source)
        if self._source.endswith("$") and not self._source.endswith("\\$"):
            end -= 1
        self._source, self._at = self._source[:end], start
        node = self._choice()
        if self._at < len(self._source):
            raise self._error("unbalanced ')'")
        return node

    def _error(self, fault: str) -> ConfigError:
        return ConfigError(
            f"pattern {self._source!r}: {fault} at character {self._at + 1}",
            remedy="see docs/reference/profiles.md for the pattern language",
        )

    def _peek(self) -> str:
        return self._source[self._at] if self._at < len(self._source) else ""

    def _take(self) -> str:
        character = self._peek()
        if not character:
            raise self._error("something is missing")
        self._at += 1
        return character

    def _choice(self) -> _Node:
        options = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence())
        return options[0] if len(options) == 1 else _Choice(tuple(options))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in ("", "|", ")"):
            parts.append(self._repeat())
        return _Sequence(tuple(parts))

    def _repeat(self) -> _Node:
        atom = self._atom()
        match self._peek():
            case "*":
                bounds: tuple[int, int | None] = (0, None)
            case "+":
                bounds = (1, None)
            case "?":
                bounds = (0, 1)
            case "{":
                bounds = self._bounds()
            case _:
                return atom
        self._at += 1
        if self._peek() == "?":
            self._at += 1
        if self._peek() in ("*", "+", "?", "{"):
            raise self._error("a repetition of a repetition needs a group")
        return _Repeat(atom, *bounds)

    def _bounds(self) -> tuple[int, int | None]:
        end = self._source.find("}", self._at)
        low, comma, high = self._source[self._at + 1 : end].partition(",")
        if end < 0 or not _is_count(low) or not (high == "" or _is_count(high)):
            raise self._error("'{' must begin {m}, {m,} or {m,n}; write \\{ for the character")
        minimum = int(low)
        maximum = (int(high) if high else None) if comma else minimum
        if maximum is not None and not minimum <= maximum <= _MAX_REPEAT:
            raise self._error("impossible repetition")
        self._at = end
        return minimum, maximum

    def _atom(self) -> _Node:
        match character := self._take():
            case "(":
                return self._group()
            case "[":
                return self._class()
            case ".":
                return _Characters(frozenset("\n"), negated=True)
            case "\\":
                return self._escape()
            case "*" | "+" | "?" | "{" | "}" | "]" | "^" | "$":
                self._at -= 1
                raise self._error(f"{character!r} has no meaning; write \\{character}")
            case _:
                return self._literal(character)

    def _literal(self, character: str) -> _Characters:
        self.literals.add(character)
        return _Characters(frozenset(character))

    def _group(self) -> _Node:
        if self._peek() == "?":
            if self._source[self._at : self._at + 2] != "?:":
                raise self._error("only (…) and (?:…) groups exist")
            self._at += 2
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise self._error("groups are nested too deep")
        node = self._choice()
        if self._peek() != ")":
            raise self._error("a group is not closed")
        self._at += 1
        self._depth -= 1
        return node

    def _escape(self) -> _Characters:
        character = self._take()
        if members := _CLASSES.get(character.lower()):
            return _Characters(members, negated=character.isupper())
        if character.isalnum() or not character.isascii():
            self._at -= 1
            raise self._error(f"\\{character} is not supported")
        return self._literal(character)

    def _class(self) -> _Characters:
        negated = self._peek() == "^"
        self._at += negated
        members: set[str] = set()
        first = True
        while first or self._peek() != "]":
            members |= self._class_member(negated=negated)
            first = False
        self._at += 1
        return _Characters(frozenset(members), negated=negated)

    def _class_member(self, *, negated: bool) -> frozenset[str]:
        low = self._class_character()
        ranged = self._peek() == "-" and self._source[self._at + 1 : self._at + 2] not in ("]", "")
        if not ranged:
            if not negated and len(low.members) == 1:
                self.literals |= low.members
            return low.members
        self._at += 1
        high = self._class_character()
        (start, *more), (end, *others) = low.members, high.members
        if more or others or not start <= end or ord(end) - ord(start) > 0x3000:
            raise self._error("not a range of characters")
        return frozenset(map(chr, range(ord(start), ord(end) + 1)))

    def _class_character(self) -> _Characters:
        character = self._take()
        if character != "\\":
            return _Characters(frozenset(character))
        escaped = self._take()
        if members := _CLASSES.get(escaped):
            return _Characters(members)
        if escaped.isalnum() or not escaped.isascii():
            raise self._error(f"\\{escaped} is not supported in a class")
        return _Characters(frozenset(escaped))


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


@dataclass(slots=True)
class _State:
    """Either a step on ``characters`` to ``target`` or silent moves to ``silent``."""

    characters: _Characters | None = None
    target: int = 0
    silent: list[int] = field(default_factory=list)


class _Automaton:
    """Thompson's construction, simulated with remembered steps (a DFA made as it is needed)."""

    __slots__ = ("_accepting", "_start", "_states", "_steps")

    def __init__(self, node: _Node) -> None:
        self._states: list[_State] = [_State()]
        self._accepting = 0
        self._steps: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._start = self._closure({self._build(node, self._accepting)})

    def accepts(self, text: str) -> bool:
        current = self._start
        for character in text:
            following = self._steps.get((current, character))
            if following is None:
                following = self._step(current, character)
            if not following:
                return False
            current = following
        return self._accepting in current

    def _step(self, current: frozenset[int], character: str) -> frozenset[int]:
        states = self._states
        targets = {
            states[index].target
            for index in current
            if (characters := states[index].characters) is not None and character in characters
        }
        following = self._closure(targets)
        if len(self._steps) >= _MAX_REMEMBERED:
            self._steps.clear()
        self._steps[current, character] = following
        return following

    def _closure(self, indexes: set[int]) -> frozenset[int]:
        reached, pending = set(indexes), list(indexes)
        while pending:
            for index in self._states[pending.pop()].silent:
                if index not in reached:
                    reached.add(index)
                    pending.append(index)
        # Silent states lead nowhere by themselves; without them equal sets are recognized as equal.
        keep = (
            i for i in reached if i == self._accepting or self._states[i].characters is not None
        )
        return frozenset(keep)

    def _add(self, state: _State) -> int:
        if len(self._states) >= _MAX_STATES:
            raise ConfigError(
                "the pattern's repetitions multiply beyond use",
                remedy="use smaller or unbounded repetitions; names are short anyway",
            )
        self._states.append(state)
        return len(self._states) - 1

    def _build(self, node: _Node, following: int) -> int:
        """Add states for ``node`` that continue at ``following``; return where they begin."""
        match node:
            case _Characters():
                return self._add(_State(node, following))
            case _Sequence():
                for part in reversed(node.parts):
                    following = self._build(part, following)
                return following
            case _Choice():
                starts = [self._build(option, following) for option in node.options]
                return self._add(_State(silent=starts))
            case _Repeat():
                return self._build_repeat(node, following)

    def _build_repeat(self, node: _Repeat, following: int) -> int:
        current = following
        if node.maximum is None:
            current = self._add(_State())
            again = self._build(node.part, current)
            self._states[current].silent = [again, following]
        else:
            for _ in range(node.maximum - node.minimum):
                current = self._add(_State(silent=[self._build(node.part, current), following]))
        for _ in range(node.minimum):
            current = self._build(node.part, current)
        return current
