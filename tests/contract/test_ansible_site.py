"""The shipped playbooks on the shipped local inventory, with real agents: the whole story once."""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "ansible-playbook"
RECAP = re.compile(
    r"^(?P<host>\w+) +: ok=\d+ +changed=(?P<changed>\d+) .*failed=(?P<failed>\d+)", re.M
)
PLAY_SECONDS = 180


class Site:
    """One local topology with its own directory and addresses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.output = ""
        process = os.getpid()
        self._environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "PEERSYS_LOCAL_ROOT": str(root),
            "PEERSYS_LOCAL_NETWORK": f"127.{process // 250 % 250 + 1}.{process % 250 + 1}",
        }

    def play(self, name: str, *options: str) -> dict[str, int]:
        """Run a playbook; returns the number of changes by host. Fails with its output."""
        done = subprocess.run(
            [PROGRAM, "-i", "inventories/local", f"playbooks/{name}.yml", *options],
            cwd=REPOSITORY,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PLAY_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + self.logs()
        self.output += done.stdout
        return {found["host"]: int(found["changed"]) for found in RECAP.finditer(done.stdout)}

    def logs(self) -> str:
        """Return the end of each node's log, for a failure's message."""
        parts = [
            f"\n== {path}\n{path.read_text()[-2000:]}" for path in self.root.glob("*/node.log")
        ]
        return "".join(parts)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("site") / "local")


# Each test goes on where the one before it ended, as an operator would.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * PLAY_SECONDS),
    pytest.mark.xdist_group("site"),
]


def test_check_mode_foresees_everything_and_makes_nothing(site: Site) -> None:
    changes = site.play("site", "--check")
    assert all(changes[host] for host in ("ca1", "ra1", "va1"))
    assert not list(site.root.glob("ca1/*"))


def test_first_run_lays_the_topology_out(site: Site) -> None:
    changes = site.play("site", "--diff", "-vvvv")
    assert all(changes[host] for host in ("ca1", "ra1", "va1"))


def test_second_run_changes_nothing(site: Site) -> None:
    assert set(site.play("site").values()) == {0}


def test_check_mode_of_a_standing_topology_foresees_nothing(site: Site) -> None:
    assert set(site.play("site", "--check", "--diff").values()) == {0}


def test_verification_passes_and_reports(site: Site) -> None:
    site.play("verify", "-vvvv")
    report = json.loads((site.root / "verification.json").read_text())
    assert set(report["pings"]) == {"ca1", "ra1", "va1"}
    assert set(report["pings"]["ca1"]) == {"ra1", "va1"}
    assert [step["step"] for step in report["steps"]][:2] == [
        "enrolled",
        "asked again with the same request id",
    ]
    assert report["steps"][-1]["step"] == "OCSP says revoked"


def test_secrets_are_private_and_in_no_output(site: Site) -> None:
    secrets = list((site.root / "secrets").iterdir())
    assert len(secrets) == 4
    for path in secrets:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        secret = path.read_text().split()[0]
        assert len(secret) == 48
        assert secret not in site.output
        assert hashlib.sha256(secret.encode()).hexdigest() not in site.output
        assert secret not in site.logs()


def test_passphrases_are_on_no_command_line(site: Site) -> None:
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path)]
    agents = [line for line in lines if str(site.root).encode() in line]
    assert len(agents) >= 3
    for path in (site.root / "secrets").iterdir():
        assert not any(path.read_bytes().split()[0] in line for line in lines)


def test_stopped_topology_comes_back_and_is_verified(site: Site) -> None:
    assert set(site.play("stop").values()) == {1}
    assert set(site.play("stop").values()) == {0}
    site.play("site")
    site.play("verify")


def test_isolated_node_stays_out_when_the_site_is_laid_out_again(site: Site) -> None:
    file = site.root / "isolation.json"
    taken_over = ("-e", "isolation_node=ra1", "-e", f"isolation_report_file={file}")
    assert site.play("isolate", *taken_over) == {"ca1": 1, "va1": 1, "localhost": 0}
    told = json.loads(file.read_text())
    assert told["nodes"].keys() == {"ca1", "va1"}
    for node in told["nodes"].values():
        assert node["closed_after_seconds"] <= 1.0
    enrolments = [one for one in told["nodes"]["ca1"]["asked"] if one["action"] == "ra.enroll"]
    assert enrolments[0]["detail"]["serial"]
    assert set(site.play("isolate", *taken_over).values()) == {0}
    file.unlink()
    site.play("site")
    command = [PROGRAM.parent / "peersys", "--socket", site.root / "ca1/run/admin.sock", "--json"]
    roles = subprocess.run([*command, "role", "list"], capture_output=True, check=True).stdout
    assert "isolated-ra1" in {role["spec"]["name"] for role in json.loads(roles)}


def test_decommission_leaves_nothing_running_or_stored(site: Site) -> None:
    site.play("decommission")
    assert not list(site.root.glob("*/*.pid"))
    assert sorted(path.name for path in site.root.iterdir()) == ["secrets", "verification.json"]
    assert set(site.play("decommission").values()) == {0}


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True
