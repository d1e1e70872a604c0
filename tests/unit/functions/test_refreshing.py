"""Another node's changes: rights count whatever becomes of the rest of them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from node_agent.errors import TokenError
from node_agent.functions.node_objects import NodeObjects
from node_agent.functions.refreshing import ObjectRefresh
from node_agent.objects import AccessRule, PeerConnectorSpec, PeerRoleSpec
from node_agent.service.node import Node
from node_agent.store import Store, open_store
from node_agent.store.records import ObjectChange, ObjectRecord
from tests.support.event_loop import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from node_agent.functions.plan import Step
    from node_agent.objects import ObjectSpec

ROLE = PeerRoleSpec(name="ra1", rules=(AccessRule(resource="/**", effect="deny"),))
CONNECTOR = PeerConnectorSpec(name="ra1", peer="spiffe://x.example/node/ra1", address="ra1:1")


class Tokens:
    """Keys of a token that doesn't open here, until it does."""

    def __init__(self) -> None:
        self.opens = False

    def configure(self, specs: object) -> None:
        return

    def learn(self, keys: object) -> None:
        return

    def verify_new(self) -> None:
        if not self.opens:
            raise TokenError("another passphrase")


class Running:
    """The node, as it is told."""

    def __init__(self, objects: NodeObjects) -> None:
        self._objects = objects
        self.rights: list[list[str]] = []
        self.followed: list[list[str]] = []

    def follow_rights(self) -> None:
        self.rights.append([item.name for item in self._objects.all("peer_roles")])

    async def follow(self, steps: Sequence[Step], *, elsewhere: bool = False) -> None:
        self.followed.append([f"{step.kind}/{step.name}" for step in steps])


async def put(store: Store, kind: str, spec: ObjectSpec) -> None:
    record = ObjectRecord(kind=kind, name=spec.name, spec=msgspec.json.encode(spec))
    await store.apply_plan([ObjectChange(kind=kind, name=spec.name, record=record)])


def test_roles_count_although_a_key_does_not_open_and_the_rest_follows_later(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with open_store(f"sqlite:///{tmp_path}/x.sqlite3") as store:
            objects, tokens = NodeObjects(), Tokens()
            running = Running(objects)
            refresh = ObjectRefresh(
                store=store,
                objects=objects,
                tokens=cast("Any", tokens),
                known=cast("Any", None),
                revision=(await store.heads()).revision,
            )
            await put(store, "peer_connectors", CONNECTOR)
            await put(store, "peer_roles", ROLE)
            for _ in range(2):
                with pytest.raises(TokenError):
                    await refresh.refresh(running)
            assert running.rights == [["ra1"]]
            assert running.followed == []
            assert objects.all("peer_connectors") == []
            tokens.opens = True
            await refresh.refresh(running)
            assert running.followed == [["peer_roles/ra1", "peer_connectors/ra1"]]
            await refresh.refresh(running)
            assert len(running.followed) == 1

    run(scenario())


class _Part:
    """A part of a node that writes down what is done to it."""

    def __init__(self, name: str, told: list[str]) -> None:
        self._name = name
        self._told = told

    def __getattr__(self, name: str) -> Any:
        if name in ("linking", "registration", "identities"):
            return _Part(name, self._told)

        def call() -> None:
            self._told.append(f"{self._name}.{name}")

        return call


def test_a_plan_puts_roles_in_force_before_anything_that_can_fail() -> None:
    told: list[str] = []
    node = cast("Any", object.__new__(Node))
    node._links = _Part("links", told)
    node._edges = _Part("edges", told)
    first, *_others = node._make_parts()
    asyncio.run(first.follow())
    assert first.kinds == {"peer_roles", "requesters"}
    assert told == ["linking.replace_roles", "registration.configure"]
