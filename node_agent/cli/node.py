"""``peersys node``: what the node is made of, and making it so."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from node_agent.cli.failures import ExitStatus, UsageError

if TYPE_CHECKING:
    import argparse

    from rich.console import RenderableType

    from node_agent.cli.admin_client import Json
    from node_agent.cli.session import Session

__all__ = ["apply", "show"]


def show(namespace: argparse.Namespace, session: Session) -> int:
    """Show every object, or with ``--spec`` the file that would make them."""
    answer = session.admin.get("node")
    if namespace.spec:
        _show_specification(answer, session)
    else:
        session.show(answer, lambda: _page(answer))
    return ExitStatus.OK


def apply(namespace: argparse.Namespace, session: Session) -> int:
    """Apply a specification file, or only show its plan."""
    specification = _read(namespace.file)
    dry_run = "true" if namespace.dry_run else "false"
    plan = session.admin.put("node", body=specification, dry_run=dry_run)
    session.show(plan, lambda: _plan(plan, dry_run=namespace.dry_run))
    return ExitStatus.OK


def _show_specification(answer: Json, session: Session) -> None:
    specification = {
        kind: [view["spec"] for view in views] for kind, views in answer["objects"].items() if views
    }
    if session.as_json:
        session.show(specification, lambda: "")
        return
    import yaml

    session.write(yaml.safe_dump(specification, sort_keys=False, allow_unicode=True).rstrip())


def _read(name: str) -> Json:
    import yaml

    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        # JSON is tried first: it is the quicker of the two, and nearly a part of YAML.
        content = json.loads(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except OSError as error:
        raise UsageError(f"{name} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{name} is neither YAML nor JSON: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(
            f"{name} is not a node specification",
            remedy="write kinds and their objects, as 'peersys node show --spec' prints them",
        )
    return content


def _page(answer: Json) -> RenderableType:
    from node_agent.cli.node_view import node_page

    return node_page(answer)


def _plan(plan: Json, *, dry_run: bool) -> RenderableType:
    from node_agent.cli.node_view import plan_page

    return plan_page(plan, dry_run=dry_run)
