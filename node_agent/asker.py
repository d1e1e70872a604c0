"""On whose behalf this node is at work: what is shared fairly is shared by askers."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["ASKER"]

ASKER: Final[ContextVar[Hashable]] = ContextVar("asker", default=None)
"""Who asked for what runs in this context: a link peer and an origin. None is this node itself."""
