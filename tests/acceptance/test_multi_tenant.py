"""A tenant is added under the load of another as the page says, and neither sees the other."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.deployment import ROOT, Deployment
from tests.acceptance.reader import TENANTS_PAGE, Reader, commands_of, commands_until
from tests.acceptance.requester import signing_request
from tests.acceptance.tenants import (
    ADDED,
    FIRST,
    SECOND,
    Asker,
    changes,
    links_at_proxy,
    play,
    requesters_of,
)

if TYPE_CHECKING:
    from pathlib import Path

# Each test goes on where the one before it ended, as an operator would.
RUNNING = ("ca1", "proxy1", "va1", f"ra-{FIRST}", f"ra-{SECOND}")


def processes(deployment: Deployment) -> dict[str, str]:
    """Return the process number of each agent that ran before."""
    show = "systemctl show --property=MainPID --value peersys"
    return {name: deployment.host(name).check_output(show) for name in RUNNING}


def added_file(deployment: Deployment) -> Path:
    return deployment.inventory / f"tenants/{ADDED}.yml"


def test_a_tenant_that_clashes_is_refused_with_file_and_line(deployment: Deployment) -> None:
    shipped = (ROOT / f"inventories/multi_tenant/tenants/{SECOND}.yml").read_text(encoding="utf-8")
    clashing = shipped.replace(f"ra-{SECOND}:", f"ra-{FIRST}:").replace(SECOND, ADDED)
    own = added_file(deployment)
    own.write_text(clashing.replace("198.18.2", "198.18.3"), encoding="utf-8")
    try:
        status, said = play(deployment, "add_tenant.yml", tenant=ADDED)
    finally:
        own.unlink()
    assert status != 0
    told = " ".join(said.split())
    assert f"{ADDED}.yml:14: nodes.ra-{FIRST}: ra-{FIRST} is written already at " in told, told
    status, said = play(deployment, "add_tenant.yml", tenant=ADDED)
    assert status != 0
    assert f"has no tenant {ADDED}. Write tenants/{ADDED}.yml" in " ".join(said.split())


@pytest.mark.timeout(600)
def test_a_tenant_is_added_under_load_as_the_page_says_and_nothing_restarts_or_breaks(
    deployment: Deployment,
) -> None:
    agents, links = processes(deployment), links_at_proxy(deployment)
    assert links
    typed = commands_until(f"tenants/{ADDED}.yml", TENANTS_PAGE)
    commands = commands_of(TENANTS_PAGE)[len(typed) :]
    reader = Reader(deployment)
    with requesters_of(deployment, FIRST):
        for text in commands:
            began = time.monotonic()
            reader.types(text)
            print(f"{time.monotonic() - began:4.0f} s  {text}")
        assert processes(deployment) == agents
        assert links <= links_at_proxy(deployment)
        # "Run again it changes nothing."
        said = reader.types(commands[-1])
        assert "add_tenant.yml" in commands[-1]
        assert set(changes(said).values()) == {0}, said
    reader.hand_over(deployment.inventory)


def test_tenants_do_not_see_each_other() -> None:
    """What is another tenant's, and what nobody has, get the same answers."""
    deployment = Deployment.from_environment()
    first, added = Asker(deployment, FIRST), Asker(deployment, ADDED)
    order = {"authority": FIRST, "profile": f"{FIRST}_server", "csr": signing_request("a.test")}
    status, issued = first.ask("POST", "/v1/certificates", order)
    assert status == 201, issued
    status, own = added.ask("GET", "/v1/catalogue")
    assert status == 200
    assert [one["name"] for one in own["authorities"]] == [ADDED]
    serial = issued["serial"]
    for method, path, body in (
        ("POST", "/v1/certificates", order),
        ("GET", f"/v1/certificates/{FIRST}/{serial}", None),
        ("GET", f"/v1/certificates?authority={FIRST}", None),
        ("POST", f"/v1/certificates/{FIRST}/{serial}/revocation", {"reason": "superseded"}),
    ):
        there = added.ask(method, path, body)
        nowhere = {**body, "authority": "none"} if body is order else body
        # The RA has no CA above that serves either; it may repeat what it was asked for.
        status, said = added.ask(method, path.replace(FIRST, "none"), nowhere)
        assert status in (403, 503)
        assert there == (status, json.loads(json.dumps(said).replace("none", FIRST)))
    added.token = first.token
    assert added.ask("GET", "/v1/catalogue")[0] == 401
