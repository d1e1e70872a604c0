"""Whether several subjects have a name in common, of a CA say, that all of them are granted.

Grants are patterns, and what they will match needn't exist here: a proxy knows no CA. So names are
made up from the patterns themselves, one for each way in which two of them can overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from node_agent.policy.resources import ALL_BELOW, ANY_SEGMENT, matches_segment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from node_agent.policy.decide import RoleSet
    from node_agent.policy.model import Rule, Subject

__all__ = ["share_a_name"]

_ANY_NAME: Final = "x"


def share_a_name(kind: str, subjects: Sequence[Subject], roles: RoleSet) -> bool:
    """Tell whether everyone is granted ``/<kind>/<name>`` for one and the same name."""
    patterns = {
        pattern
        for subject in subjects
        for role in roles.roles_of(subject)
        for rule in role.rules
        for pattern in _names_in(rule, kind)
    }
    return any(
        all(roles.permits(subject, f"/{kind}/{name}") for subject in subjects)
        for name in _made_up(patterns)
    )


def _names_in(rule: Rule, kind: str) -> Iterator[str]:
    """Return what an allowing rule says of the name, as a pattern of one segment."""
    first, *rest = rule.pattern
    if rule.allows and first == ALL_BELOW:
        yield ANY_SEGMENT
    elif rule.allows and rest and matches_segment(first, kind):
        yield ANY_SEGMENT if rest[0] == ALL_BELOW else rest[0]


def _made_up(patterns: set[str]) -> Iterator[str]:
    parts = [pattern.partition(ANY_SEGMENT) for pattern in patterns]
    yield from (head for head, star, _ in parts if not star)
    heads = {head for head, star, _ in parts if star}
    tails = {tail for _, star, tail in parts if star}
    yield from (f"{head}{_ANY_NAME}{tail}" for head in heads for tail in tails)
