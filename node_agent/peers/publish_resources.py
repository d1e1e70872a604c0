"""What a peer needs to publish, to say where its log is, and to put rows right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node_agent.peers.operations import PositionRequest, PublishRequest
    from node_agent.peers.repair_messages import RepairRequest

__all__ = ["PUBLISHES", "position_resources", "publish_resources", "repair_resources"]

# A CA's own certificate comes with the least of the grants: no CRL can be checked without it.
_PUBLISH_RESOURCE = {
    "authority": "crl",
    "certificate": "certificate",
    "status": "status",
    "crl": "crl",
}

# An empty batch says no kind, and a position may name no CA: who publishes nothing has none to say.
PUBLISHES = tuple(f"/peer/publish/{kind}" for kind in ("certificate", "status", "crl"))


def publish_resources(request: PublishRequest) -> tuple[str, ...]:
    kinds = sorted({_PUBLISH_RESOURCE.get(entry.kind, "unknown") for entry in request.entries})
    return (
        *(f"/peer/publish/{kind}" for kind in kinds),
        *(f"/ca/{name}" for name in request.authorities),
    )


def position_resources(request: PositionRequest) -> tuple[str, ...]:
    names = dict.fromkeys((*request.authorities, *request.complete, *request.partial))
    # What a serial that nobody spoke of means is as much as a status.
    status = ("/peer/publish/status",) if request.complete or request.partial else ()
    return (*status, *(f"/ca/{name}" for name in names))


def repair_resources(request: RepairRequest) -> tuple[str, ...]:
    takes_back = request.takes_back or request.surplus
    return (
        "/peer/publish/read",
        "/peer/publish/certificate",
        "/peer/publish/status",
        *(("/peer/publish/take_back",) if takes_back else ()),
        f"/ca/{request.authority}",
    )
