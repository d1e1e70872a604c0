"""What tests of a deployment with tenants share: who asks for whom, and plays that they run."""

from __future__ import annotations

import http.client
import json
import re
import ssl
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from tests.acceptance.enrolment_load import EnrolmentLoad

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.deployment import Deployment

# The page adds the third one.
FIRST, SECOND, ADDED = "alpha", "beta", "gamma"
PROXY = "proxy1"
_CHANGED = re.compile(r"^([\w-]+) +: ok=\d+ +changed=(\d+)", re.MULTILINE)
_PLAY_SECONDS = 180
# An RA waits 25 s for a link to come back before it says that there is none.
_ANSWER_SECONDS = 40


def play(deployment: Deployment, playbook: str, **variables: str) -> tuple[int, str]:
    """Run a shipped playbook; return its status and what it says."""
    options = [f"--extra-vars={name}={value}" for name, value in variables.items()]
    command = deployment.play(playbook)
    return deployment.run_playbook(command, *options, timeout_seconds=_PLAY_SECONDS)


def changes(said: str) -> dict[str, int]:
    """Return how often each host was changed."""
    return {name: int(count) for name, count in _CHANGED.findall(said)}


def url_of(deployment: Deployment, tenant: str) -> str:
    """Return where a tenant's RA is."""
    return str(deployment.variables[f"ra-{tenant}"]["registration_authority_url"])


def token_of(deployment: Deployment, tenant: str) -> str:
    """Return the API token at a tenant's RA."""
    return str(deployment.variables[f"ra-{tenant}"]["verification_token"])


@contextmanager
def requesters_of(deployment: Deployment, tenant: str) -> Iterator[EnrolmentLoad]:
    """Have a tenant's requesters at work until the end; none of them is ever told no."""
    traffic = EnrolmentLoad(
        [url_of(deployment, tenant)],
        token=token_of(deployment, tenant),
        trust_anchors=deployment.trust_anchors(f"ra-{tenant}"),
        label=uuid4().hex[:12],
        authority=tenant,
        profile=f"{tenant}_server",
        parallel=2,
    )
    with traffic:
        traffic.wait_for(10, seconds=60)
        yield traffic
        traffic.wait_for(len(traffic.done) + 10, seconds=60)
    assert not traffic.failures
    assert {one.attempts for one in traffic.done} == {1}
    print(f"{tenant} enrolled {len(traffic.done)} times beside it, each at the first attempt")


def links_at_proxy(deployment: Deployment) -> set[str]:
    """Return both ends of each link that the proxy has."""
    listed = deployment.host(PROXY).check_output("ss -Htn state established '( sport = :7443 )'")
    return {" ".join(line.split()[-2:]) for line in listed.splitlines()}


class Asker:
    """Asks one RA, and takes whatever it says."""

    def __init__(self, deployment: Deployment, tenant: str) -> None:
        self._url = urlsplit(url_of(deployment, tenant))
        self._anchors = deployment.trust_anchors(f"ra-{tenant}")
        self.token = token_of(deployment, tenant)

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Return status and document, without what differs in every answer."""
        assert self._url.hostname is not None
        connection = http.client.HTTPSConnection(
            self._url.hostname,
            self._url.port,
            timeout=_ANSWER_SECONDS,
            context=ssl.create_default_context(cadata=self._anchors),
        )
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        with closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            document = json.loads(answer.read())
        return answer.status, {k: v for k, v in document.items() if k != "request_id"}
