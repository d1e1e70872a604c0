"""After two interrupted runs of ``site`` and one that completed, nothing is half."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.acceptance.deployment import Deployment


def test_one_version_is_installed_and_runs(deployment: Deployment) -> None:
    for name in deployment.nodes:
        host = deployment.host(name)
        versions = host.check_output("ls /opt/peersys/versions").split()
        assert len(versions) == 1, f"{name} has {versions}"
        assert host.service("peersys").is_running, name


def test_every_node_has_one_identity_that_its_peers_know(deployment: Deployment) -> None:
    for name in deployment.nodes:
        status = deployment.agent(name, "status")
        assert status["health"] == "ok", f"{name}: {status['reasons']}"
        assert status["peers"], name
        assert {peer["state"] for peer in status["peers"]} == {"up"}, name


def test_no_task_left_files_of_its_own(deployment: Deployment) -> None:
    for name in deployment.nodes:
        looked = "find /opt/peersys /etc/peersys /var/lib/peersys"
        named = "-name '*.new' -o -name '*.partial' -o -name '*.tmp' -o -name '.ansible*'"
        left = deployment.host(name).check_output(f"{looked} {named}")
        assert left == "", name
