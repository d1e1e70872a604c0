"""What acceptance tests stand on: a deployed inventory, and a requester's rights at its RAs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from tests.acceptance.deployment import VARIABLE, Deployment
from tests.acceptance.enrolment_load import EnrolmentLoad
from tests.acceptance.requester import Requester
from tools.test_hosts import lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = "tests/acceptance/"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip these tests where nothing was deployed, and give them the time that hosts need."""
    skip = pytest.mark.skip(
        reason=f"no deployment: 'make acceptance' makes one and sets {VARIABLE}"
    )
    for item in items:
        if HERE not in item.path.as_posix():
            continue
        item.add_marker(pytest.mark.timeout(300))
        if VARIABLE not in os.environ:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def deployment() -> Deployment:
    """Return what was deployed."""
    return Deployment.from_environment()


@pytest.fixture(scope="session")
def urls(deployment: Deployment) -> list[str]:
    """Return where the RAs are."""
    found = (own.get("registration_authority_url") for own in deployment.variables.values())
    return sorted(url for url in found if url)


@pytest.fixture(scope="session")
def token(deployment: Deployment) -> str:
    """Return the API token with which the playbook verifies, too."""
    owns = deployment.variables.values()
    return next(str(own["verification_token"]) for own in owns if "verification_token" in own)


@pytest.fixture(scope="session")
def trust_anchors(deployment: Deployment) -> str:
    """Return what requesters trust."""
    names = [n for n, own in deployment.variables.items() if "registration_authority_url" in own]
    return deployment.trust_anchors(names[0])


@pytest.fixture
def requester(urls: list[str], token: str, trust_anchors: str) -> Iterator[Requester]:
    """Return somebody who asks."""
    own = Requester(urls, token, trust_anchors)
    yield own
    own.close()


@pytest.fixture
def healed_after(deployment: Deployment) -> Iterator[None]:
    """Let every host reach the others again when the test is over."""
    yield
    lab.heal(deployment.places)


@pytest.fixture
def load(urls: list[str], token: str, trust_anchors: str) -> Callable[[], EnrolmentLoad]:
    """Return what makes a load with names that nobody used before."""

    def make() -> EnrolmentLoad:
        label = uuid4().hex[:12]
        return EnrolmentLoad(urls, token=token, trust_anchors=trust_anchors, label=label)

    return make
