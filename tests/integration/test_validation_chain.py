"""A VA that is fed by a VA: what the CA records reaches it in order, and heals it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agents import allow
from tests.support.openssl import CertificateFiles, make_csr
from tests.support.processes import wait_until
from tests.support.validation_chain import ValidationChain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.agents import Agent

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValidationChain]:
    """Yield ca1 -> va1 -> va2, healthy; each test leaves it so."""
    with ValidationChain(tmp_path_factory.mktemp("chain")) as found:
        yield found


class Asked:
    """A certificate of the CA, and what VAs say of it."""

    def __init__(self, chain: ValidationChain, directory: Path, name: str) -> None:
        self._chain = chain
        directory = directory / name
        directory.mkdir()
        status, self.issued = chain.rest().enroll(make_csr(directory, f"{name}.example.org"))
        assert status == 201, self.issued
        path = "/v1/objects/certification_authorities/issuing"
        state = chain.ca.admin.get(path)["state"]
        self._files = CertificateFiles(
            directory, self.issued["certificate"], state["certificate"], state["root"]
        )

    @property
    def serial(self) -> bytes:
        """The serial number as the store keeps it."""
        return int(self.issued["serial"], 16).to_bytes(20, "big")

    def revoke(self) -> None:
        """Have the RA revoke it."""
        assert self._chain.rest().revoke(self.issued["serial"])[0] == 200

    def wait(self, va: Agent, word: str, *, timeout_seconds: float = 30) -> None:
        """Wait until a VA says ``word``."""

        def says_so() -> bool:
            try:
                return self.said_by(va) == word
            except AssertionError:
                # A VA that has just begun has no signer yet.
                return False

        wait_until(
            says_so,
            timeout_seconds=timeout_seconds,
            what=f"{va.name} says {word}",
        )

    def said_by(self, va: Agent) -> str:
        """Return what a VA says."""
        return self._files.ocsp(va.listen["status"])


def by_hand(agent: Agent, statement: str, *values: object) -> None:
    """Change an agent's rows with another program, while it runs."""
    path = agent.directory / "state" / "store.sqlite3"
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as store, store:
        assert store.execute(statement, values).rowcount > 0


def compare(chain: ValidationChain, **order: bool) -> dict[str, Any]:
    """Have va1 compare va2 with itself; return what was found for the issuing CA."""
    answer = chain.va.admin.post("/v1/publishers/va2/verification", order)
    return next(item for item in answer["authorities"] if item["authority"] == "issuing")


def test_what_the_ca_records_reaches_the_second_va(chain: ValidationChain, tmp_path: Path) -> None:
    asked = Asked(chain, tmp_path, "first")
    asked.wait(chain.va2, "good")
    asked.revoke()
    asked.wait(chain.va2, "revoked", timeout_seconds=10)
    wait_until(lambda: chain.publisher(chain.va, "va2")["lag_entries"] == 0, what="no lag")
    # Two signers, and what was asked for.
    assert compare(chain)["entries"] == 3


def test_the_first_va_may_die(chain: ValidationChain, tmp_path: Path) -> None:
    asked = Asked(chain, tmp_path, "second")
    asked.wait(chain.va2, "good")
    chain.va.kill()
    asked.revoke()
    assert asked.said_by(chain.va2) == "good"
    chain.start_agent(chain.va)
    asked.wait(chain.va2, "revoked")
    chain.wait_healthy()


def test_rows_of_the_second_va_are_put_right_by_the_first(
    chain: ValidationChain, tmp_path: Path
) -> None:
    revoked, good = (Asked(chain, tmp_path, name) for name in ("third", "fourth"))
    revoked.revoke()
    revoked.wait(chain.va2, "revoked")
    good.wait(chain.va2, "good")
    by_hand(
        chain.va2,
        "UPDATE certificates SET status = 'good', revoked_at = NULL, reason = NULL "
        "WHERE serial = ?",
        revoked.serial,
    )
    by_hand(chain.va2, "DELETE FROM certificates WHERE serial = ?", good.serial)
    found = compare(chain, repair=True)
    assert (found["missing"], found["changed"], found["repaired"]) == (1, 1, 2)
    revoked.wait(chain.va2, "revoked")
    good.wait(chain.va2, "good")

    # A VA isn't believed as its CA is: it can't take a revocation back.
    by_hand(
        chain.va2,
        "UPDATE certificates SET status = 'revoked', revoked_at = 5 WHERE serial = ?",
        good.serial,
    )
    found = compare(chain, repair=True)
    assert (found["changed"], found["repaired"]) == (1, 0)
    rules = chain.va2.admin.get("/v1/objects/peer_roles/nearer")["spec"]
    trusted = {**rules, "rules": [*rules["rules"], *allow("/peer/publish/take_back")]}
    chain.va2.admin.put("/v1/objects/peer_roles/nearer", trusted)
    assert compare(chain, repair=True)["repaired"] == 1
    chain.va2.admin.put("/v1/objects/peer_roles/nearer", rules)
    good.wait(chain.va2, "good")


def test_either_va_may_lose_its_disk(chain: ValidationChain, tmp_path: Path) -> None:
    before, after = (Asked(chain, tmp_path, name) for name in ("fifth", "sixth"))
    before.revoke()
    before.wait(chain.va2, "revoked")
    chain.wipe(chain.va2)
    chain.wait_healthy()
    before.wait(chain.va2, "revoked")
    chain.wipe(chain.va)
    # va2 has applied more of a log of va1 than the new one holds.
    after.revoke()
    after.wait(chain.va2, "revoked")
    chain.wait_healthy()
    found = compare(chain)
    assert (found["missing"], found["changed"], found["surplus"]) == (0, 0, 0)


def test_a_loop_is_refused_and_named(chain: ValidationChain, tmp_path: Path) -> None:
    roles = {
        "name": "farther",
        "members": [chain.va2.identity],
        "rules": allow("/peer/incoming", "/peer/publish/**", "/ca/**", "/signer/**"),
    }
    before = chain.va.admin.get("/v1/objects/peer_roles/farther")["spec"]
    chain.va.admin.put("/v1/objects/peer_roles/farther", roles)
    publisher = {"name": "back", "peer": chain.va.identity, "authorities": ["issuing"]}
    chain.va2.admin.apply(publishers=[publisher])

    def reason() -> str:
        found = chain.va2.admin.get("/v1/status")["publishers"]
        return next((item["last_error"] or "" for item in found if item["name"] == "back"), "")

    wait_until(lambda: "round in a loop" in reason(), timeout_seconds=60, what="the loop is named")
    assert " > " in reason().partition("round in a loop: ")[2], "the way is shown"
    chain.va2.admin.delete("/v1/objects/publishers/back")
    chain.va.admin.put("/v1/objects/peer_roles/farther", before)
    chain.wait_healthy()
