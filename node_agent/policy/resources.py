"""The resources that exist, and the two grammars: a resource that is asked for, a pattern that is
granted.

A resource outside this list is nobody's, whatever a ``**`` says: a request that smuggles a slash,
a star or an unheard-of verb into a name can't be covered by a broad grant. A pattern that can
match nothing here is refused when it is written, because a deny with a typing error in it would
be a hole that nobody sees.
"""

from __future__ import annotations

import re
from functools import lru_cache

__all__ = [
    "ALL_BELOW",
    "ANY_SEGMENT",
    "NAME",
    "RESOURCES",
    "can_match",
    "is_partial",
    "is_resource",
    "matches_segment",
    "split_path",
]

ANY_SEGMENT = "*"
ALL_BELOW = "**"

NAME = "<name>"
"""Stands for the name of a managed object in RESOURCES."""

RESOURCES: tuple[str, ...] = (
    "/peer/incoming",
    "/peer/upstream",
    "/peer/relay",
    "/peer/origin",
    "/peer/publish/certificate",
    "/peer/publish/status",
    "/peer/publish/crl",
    "/peer/publish/read",
    "/peer/publish/take_back",
    "/ra/enroll",
    "/ra/revoke",
    "/ra/status",
    "/ra/search",
    "/ra/approve",
    "/ca/<name>",
    "/profile/<name>",
    "/protocol/rest",
    "/protocol/est",
    "/protocol/acme",
    "/protocol/cmp",
    "/signer/<name>/renew",
)

# The same form as objects.Name, so that what can't be an object's name can't be granted.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?\Z")
_TEMPLATES: tuple[tuple[str, ...], ...] = tuple(tuple(path[1:].split("/")) for path in RESOURCES)

# Longer than any resource above with the longest name in it.
_MAX_PATH_CHARACTERS = 200


def split_path(path: str) -> tuple[str, ...] | None:
    """Return the segments of ``/a/b``, or None when ``path`` isn't such a path."""
    if len(path) > _MAX_PATH_CHARACTERS or not path.startswith("/"):
        return None
    segments = tuple(path[1:].split("/"))
    return segments if all(segments) else None


def is_resource(path: str) -> bool:
    """Tell whether ``path`` names one resource of this list, without any wildcard."""
    segments = split_path(path)
    return segments is not None and any(
        len(template) == len(segments) and all(map(_is_segment, template, segments))
        for template in _TEMPLATES
    )


@lru_cache(maxsize=4096)
def can_match(pattern: tuple[str, ...]) -> bool:
    """Tell whether some resource of the list is matched by ``pattern``."""
    return any(_overlaps(pattern, template) for template in _TEMPLATES)


def is_partial(segment: str) -> bool:
    """Tell whether a segment of a pattern has its ``*`` beside other characters."""
    return ANY_SEGMENT in segment and segment not in (ANY_SEGMENT, ALL_BELOW)


def matches_segment(pattern: str, segment: str) -> bool:
    """Tell whether one segment of a pattern, other than ``**``, matches ``segment``.

    There is one ``*`` at most, so what is before and behind it is compared once each: the time is
    linear in the length, whatever is asked for.
    """
    head, star, tail = pattern.partition(ANY_SEGMENT)
    if not star:
        return pattern == segment
    return (
        len(segment) >= len(head) + len(tail)
        and segment.startswith(head)
        and segment.endswith(tail)
    )


def _is_segment(expected: str, segment: str) -> bool:
    return _NAME.match(segment) is not None if expected == NAME else expected == segment


def _overlaps(pattern: tuple[str, ...], template: tuple[str, ...]) -> bool:
    if pattern[-1] == ALL_BELOW:
        head = pattern[:-1]
        return len(template) > len(head) and _overlaps_each(head, template[: len(head)])
    return len(template) == len(pattern) and _overlaps_each(pattern, template)


def _overlaps_each(pattern: tuple[str, ...], template: tuple[str, ...]) -> bool:
    return all(
        _overlaps_segment(segment, expected)
        for segment, expected in zip(pattern, template, strict=True)
    )


def _overlaps_segment(segment: str, expected: str) -> bool:
    """Only names of objects are matched in part."""
    if is_partial(segment):
        return expected == NAME
    return segment == ANY_SEGMENT or _is_segment(expected, segment)
