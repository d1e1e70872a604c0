"""A node's objects and the difference that a plan makes, drawn with rich."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import yaml
from rich.console import Group, RenderableType
from rich.text import Text
from rich.tree import Tree

from node_agent.cli import look

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_agent.cli.admin_client import Json

__all__ = ["node_page", "plan_page"]

_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_VERBS = {"create": "+ create", "update": "~ update", "delete": "- delete"}
_SHORT_VALUE = 100


def node_page(answer: Json) -> RenderableType:
    """Return all objects by kind, each with its state on a line or a few."""
    tree = Tree(look.plain(answer["identity"]), guide_style="dim")
    for kind, views in answer["objects"].items():
        if not views:
            continue
        branch = tree.add(look.title(kind.replace("_", " ")))
        for view in views:
            leaf = branch.add(look.plain(view["spec"]["name"]))
            for name, value in _highlights(view):
                leaf.add(Text.assemble((f"{name}: ", "dim"), look.plain(value)))
    return tree


def plan_page(plan: Json, *, dry_run: bool) -> RenderableType:
    """Return each step as a unified difference of its YAML, and a closing line."""
    if not plan["changed"]:
        return look.plain("Nothing to change: the node already is as the file says.")
    steps = [part for step in plan["steps"] for part in _step(step)]
    count = len(plan["steps"])
    objects = "1 object" if count == 1 else f"{count} objects"
    closing = f"{objects} would change; nothing was done." if dry_run else f"{objects} changed."
    return Group(*steps, look.title(closing))


def _step(step: Json) -> Iterator[Text]:
    kind = step["kind"].replace("_", " ")
    yield look.title(f"{_VERBS.get(step['action'], step['action'])} {kind}: {step['name']}")
    before, after = _lines(step["before"]), _lines(step["after"])
    for line in difflib.unified_diff(before, after, lineterm="", n=2):
        if line.startswith(("---", "+++")):
            continue
        text = look.plain(f"  {line}")
        text.stylize(_COLOURS.get(line[:1], ""))
        yield text


def _lines(spec: Json) -> list[str]:
    if spec is None:
        return []
    return yaml.safe_dump(spec, sort_keys=False, allow_unicode=True).splitlines()


def _highlights(view: Json) -> Iterator[tuple[str, object]]:
    """What tells an object apart at a glance: no PEM, nothing that isn't set."""
    for name, value in {**view["spec"], **(view.get("state") or {})}.items():
        shown = _brief(value)
        if name == "name" or not shown or "-----BEGIN" in shown:
            continue
        yield name, shown if len(shown) <= _SHORT_VALUE else f"{shown[:_SHORT_VALUE]}…"


def _brief(value: Json) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_brief(part)}" for key, part in value.items() if part is not None)
    if isinstance(value, list):
        return ", ".join(map(_brief, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
