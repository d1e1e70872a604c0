"""The node's open ports: admin socket, RA REST, status. A port that isn't configured is closed."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from node_agent.web.admin import admin_app
from node_agent.web.backends import (
    ManagementBackend,
    RegistrationBackend,
    ServiceUrls,
)
from node_agent.web.listen import bind_tcp
from node_agent.web.metrics_port import metrics_app
from node_agent.web.registration import registration_app
from node_agent.web.serve import HttpServer
from node_agent.web.tls import TlsHolder
from node_agent.web.unix_socket import AdminGate, bind_admin_socket, group_id

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from node_agent.clock import Clock
    from node_agent.config import Address, NodeSettings

__all__ = ["Ports"]

log = structlog.get_logger(__name__)


class Ports:
    """Opens ports and closes them all with ``close``."""

    def __init__(self, settings: NodeSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._open = AsyncExitStack()
        self._rest_tls: TlsHolder | None = None

    def urls(self) -> ServiceUrls:
        """Return where the open ports are reached."""
        rest, status = self._settings.rest_address, self._settings.status_address
        return ServiceUrls(
            rest=f"https://{rest}/v1" if rest is not None and self._rest_tls is not None else None,
            status=f"http://{status}" if status is not None else None,
        )

    async def open_admin(self, backend: ManagementBackend) -> None:
        """Open the admin socket. Raises ConfigError when another agent answers there."""
        gid = group_id(self._settings.admin_group)
        path = self._settings.admin_socket
        listener = bind_admin_socket(path, admin_gid=gid)
        self._open.callback(path.unlink, missing_ok=True)
        gate = AdminGate(admin_gid=gid)
        await self._open.enter_async_context(
            HttpServer(admin_app(backend), [listener], inspect=gate.inspect)
        )

    async def open_status(
        self, serve: Callable[[Address], AbstractAsyncContextManager[object]]
    ) -> None:
        """Open the status port, if there is one, by entering what ``serve`` returns."""
        address = self._settings.status_address
        if address is not None:
            await self._open.enter_async_context(serve(address))
            log.info("status port open", address=str(address))

    async def open_metrics(self, read: Callable[[], bytes]) -> None:
        """Open the metrics port, if there is one."""
        address = self._settings.metrics_address
        if address is not None:
            await self._open.enter_async_context(HttpServer(metrics_app(read), bind_tcp(address)))
            log.info("metrics port open", address=str(address))

    async def open_rest(self, backend: RegistrationBackend, context: ssl.SSLContext | None) -> None:
        """Open the REST port once there is a certificate for it; afterwards put a new one in
        force. Connections that are open stay.
        """
        address = self._settings.rest_address
        if address is None or context is None:
            return
        if self._rest_tls is not None:
            self._rest_tls.replace(context)
            return
        await self._listen_rest(address, backend, context)

    async def close(self) -> None:
        """Close every port; requests under way are answered first."""
        await self._open.aclose()

    async def _listen_rest(
        self, address: Address, backend: RegistrationBackend, context: ssl.SSLContext
    ) -> None:
        holder = TlsHolder(context)
        app = registration_app(backend, clock=self._clock)
        await self._open.enter_async_context(HttpServer(app, bind_tcp(address), tls=holder))
        self._rest_tls = holder
        log.info("REST port open", address=str(address))
