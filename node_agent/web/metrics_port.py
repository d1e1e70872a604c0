"""The metrics port: one path, for a scraper, where ``listen.metrics`` says so. Nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node_agent.metrics import MEDIA_TYPE
from node_agent.web.api import ApiAnswer, ApiCall, ApiSettings, Route
from node_agent.web.problems import Audience
from node_agent.web.routing import build_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from node_agent.web.asgi import AsgiApp, Scope

__all__ = ["metrics_app"]


def metrics_app(read: Callable[[], bytes]) -> AsgiApp:
    """Return the application that answers ``GET /metrics`` with what ``read`` returns."""

    async def handle(call: ApiCall) -> ApiAnswer:
        return ApiAnswer(read(), media_type=MEDIA_TYPE)

    route = Route(
        method="GET",
        path="/metrics",
        name="metrics",
        summary="Metrics in the text format of Prometheus",
        handle=handle,
        answer=None,
        is_open=True,
    )
    settings = ApiSettings(admit=_nobody, audience=Audience.PUBLIC, max_body_bytes=0)
    return build_app([route], settings)


def _nobody(scope: Scope) -> None:
    """There is nobody to know: the port is for whoever the firewall lets in."""
