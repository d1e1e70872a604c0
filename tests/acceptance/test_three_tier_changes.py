"""What an operator changes after the first day: the version of the agent, the address of a host."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING

from tests.acceptance.deployment import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from testinfra.host import Host

    from tests.acceptance.deployment import Deployment

CA, VA = "ca1", "va1"
PEER_PORT = 7443
ADDRESS, NEW_ADDRESS = "198.51.100.21", "198.51.100.29"
AGENT_SOURCE = ("LICENSE", "constraints.txt", "node_agent", "pyproject.toml")
VERSIONS = "/opt/peersys/versions"


def play(deployment: Deployment, playbook: str, *options: str) -> None:
    command = [*deployment.into_machine_network, *deployment.play(playbook)]
    status, said = deployment.run_playbook(command, *options)
    assert status == 0, said


def link(host: Host, name: str) -> str:
    """Return the version that a link leads to."""
    target: str = host.check_output(f"readlink /opt/peersys/{name}")
    return target.removeprefix("versions/")


def test_another_version_is_installed_and_the_one_before_it_is_gone_back_to(
    deployment: Deployment, tmp_path: Path
) -> None:
    """As a checkout of another version would have it."""
    source, wheelhouse = tmp_path / "source", tmp_path / "wheelhouse"
    source.mkdir()
    for name in AGENT_SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, source / name)
    with (source / "node_agent/__init__.py").open("a", encoding="utf-8") as file:
        file.write("# Another version.\n")
    shutil.copytree(ROOT / ".wheelhouse", wheelhouse)
    host, only = deployment.host(VA), f"--limit={VA}:localhost"
    first = link(host, "current")
    look = f"stat --format='%i %Y' {VERSIONS}/{first}/inventory.json"
    installed = host.check_output(look)

    other = (f"--extra-vars=node_source={source}", f"--extra-vars=node_wheelhouse={wheelhouse}")
    play(deployment, "site.yml", only, *other)
    second = link(host, "current")
    assert second != first
    assert link(host, "previous") == first
    assert f"{VERSIONS}/{second}/" in host.check_output("head -n 1 /opt/peersys/bin/peersys")

    began = time.monotonic()
    play(deployment, "site.yml", only)
    print(f"{VA} went back to the version before in {time.monotonic() - began:.0f} s")
    assert (link(host, "current"), link(host, "previous")) == (first, second)
    assert host.check_output(look) == installed, "it was brought again"
    assert deployment.agent(VA, "status")["health"] == "ok"


def test_an_address_that_changed_is_followed_by_firewalls_and_links(
    deployment: Deployment, tmp_path: Path
) -> None:
    deployment.host(VA).check_output(f"ip address add {NEW_ADDRESS}/24 dev host0")
    topology = deployment.inventory / "topology.yml"
    written = topology.read_text(encoding="utf-8")
    assert ADDRESS in written
    topology.write_text(written.replace(ADDRESS, NEW_ADDRESS), encoding="utf-8")
    # The host's key is known under the address that it had.
    known = {"ansible_ssh_extra_args": f"-o HostKeyAlias={ADDRESS}"}
    moved = tmp_path / "moved.yaml"
    moved.write_text(json.dumps({"all": {"hosts": {VA: known}}}), encoding="utf-8")
    play(deployment, "site.yml", f"--inventory={moved}")
    play(deployment, "verify.yml", f"--inventory={moved}")
    linked = deployment.host(CA).check_output(
        f"ss -Htn state established '( dport = :{PEER_PORT} )'"
    )
    assert f"{NEW_ADDRESS}:{PEER_PORT}" in linked
    assert f"{ADDRESS}:{PEER_PORT}" not in linked
