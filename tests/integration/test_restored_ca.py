"""A CA whose store was put back to an old copy, with real agents: held until `peersys recover`, and
nothing that was given out before goes back.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from tests.integration.test_sync import caught_up, judge, store_of, verify
from tests.support.openssl import make_csr
from tests.support.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.agents import Topology

    Start = Callable[..., AbstractContextManager[Topology]]
    Issued = dict[str, Any]

pytestmark = pytest.mark.timeout(180)


def enrol(topology: Topology, directory: Path, name: str) -> Issued:
    status, answer = topology.rest().enroll(make_csr(directory, f"{name}.example.org"))
    assert status == 201, answer
    return answer


def crl_of(topology: Topology) -> x509.CertificateRevocationList:
    """Return the CRL that the VA serves."""
    url = f"http://{topology.va.listen['status']}/crl/issuing.crl"
    with urllib.request.urlopen(url, timeout=10) as answer:
        return x509.load_der_x509_crl(answer.read())


def number_of(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def is_listed(crl: x509.CertificateRevocationList, issued: Issued) -> bool:
    return crl.get_revoked_certificate_by_serial_number(int(issued["serial"], 16)) is not None


def position(topology: Topology) -> int:
    """Return how far the VA has acknowledged the CA's change log."""
    return int(topology.ca.admin.get("/v1/objects/publishers/va1")["state"]["position"])


def recover(topology: Topology, *options: str) -> dict[str, Any]:
    """Run ``peersys recover`` on the CA; return what it says."""
    socket = str(topology.ca.admin.socket_path)
    done = subprocess.run(
        [*(sys.executable, "-m", "node_agent", "--socket", socket), "--json", "recover", *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def restart_with(topology: Topology, copy: Path) -> None:
    """Put a copy in the place of the CA's store, as somebody does who restores a backup."""
    topology.ca.stop()
    for name in ("-wal", "-shm"):
        store_of(topology.ca).with_name(f"store.sqlite3{name}").unlink(missing_ok=True)
    shutil.copy(copy, store_of(topology.ca))
    topology.start_agent(topology.ca)


def reasons(topology: Topology) -> str:
    return " ".join(topology.ca.admin.get("/v1/status")["reasons"])


def test_a_restored_ca_signs_nothing_until_it_knows_again_what_it_did(
    own_topology: Start, tmp_path: Path
) -> None:
    with own_topology() as topology:
        old = enrol(topology, tmp_path, "old")
        wait_until(lambda: caught_up(topology), what="the VA knows the old certificate")
        topology.ca.stop()
        copy = tmp_path / "copy.sqlite3"
        shutil.copy(store_of(topology.ca), copy)
        topology.start_agent(topology.ca)
        topology.wait_healthy()

        good, revoked = (enrol(topology, tmp_path, name) for name in ("good", "revoked"))
        for issued in (old, revoked):
            assert topology.rest().revoke(issued["serial"])[0] == 200
        wait_until(
            lambda: all(is_listed(crl_of(topology), item) for item in (old, revoked)),
            what="the CRL names both",
        )
        wait_until(lambda: caught_up(topology), what="the VA has everything")
        seen, number = position(topology), number_of(crl_of(topology))

        restart_with(topology, copy)
        wait_until(lambda: "old copy" in reasons(topology), what="the CA has found out")
        check_held(topology, tmp_path, number)
        check_recovered(topology, old, good, revoked)

        fresh = enrol(topology, tmp_path, "fresh")
        topology.wait_healthy()
        wait_until(lambda: caught_up(topology), what="the VA follows again")
        assert position(topology) > seen
        wait_until(lambda: number_of(crl_of(topology)) > number, what="a newer CRL is published")
        crl = crl_of(topology)
        assert [is_listed(crl, item) for item in (old, good, revoked, fresh)] == [
            True,
            False,
            True,
            False,
        ]
        status = topology.va.listen["status"]
        expected = ((old, "revoked"), (good, "good"), (revoked, "revoked"), (fresh, "good"))
        for issued, word in expected:
            assert judge(topology, tmp_path, issued).ocsp(status) == word
        assert set(verify(topology).values()) == {0}, "CA and VA are of one mind"


def check_held(topology: Topology, directory: Path, number: int) -> None:
    """Nothing is issued, nothing at the VA is repaired away, and no list goes back."""
    status, problem = topology.rest().enroll(make_csr(directory, "held.example.org"))
    assert status == 503, problem
    assert topology.ca.admin.get("/v1/status")["health"] == "degraded"
    planned = recover(topology, "--dry-run")
    assert planned["dry_run"]
    assert "old copy" in reasons(topology), "a plan changes nothing"
    assert number_of(crl_of(topology)) == number


def check_recovered(topology: Topology, old: Issued, good: Issued, revoked: Issued) -> None:
    """What the VA knows is read back."""
    report = recover(topology)
    (found,) = [item for item in report["authorities"] if item["authority"] == "issuing"]
    assert (found["statuses"], found["listed"]) == (2, [])
    assert found["certificates"] >= 2
    wait_until(
        lambda: "old copy" not in reasons(topology),
        what=lambda: f"the CA is held no more: {reasons(topology)}",
    )
    known = {
        item["serial"]: item["status"]
        for item in topology.ca.admin.get("/v1/certificates?authority=issuing&limit=1000")
    }
    assert [known[item["serial"]] for item in (old, good, revoked)] == [
        "revoked",
        "good",
        "revoked",
    ]
