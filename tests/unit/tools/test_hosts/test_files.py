"""What the lab writes and reads by itself: rules, logins, mirrors, requirements."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.unit.tools.test_hosts.labs import SMALL
from tools.test_hosts import recipe, requirements
from tools.test_hosts.cgroups import hierarchies
from tools.test_hosts.errors import LabError
from tools.test_hosts.inventory_writer import write_inventory
from tools.test_hosts.mirror import choose_mirror
from tools.test_hosts.places import DIRECTORY, Places
from tools.test_hosts.router import ruleset
from tools.test_hosts.state import locked, record_cuts, recorded_cuts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def places(tmp_path: Path) -> Places:
    own = Places(tmp_path / "lab", tmp_path / "cache")
    for host in SMALL.hosts:
        own.host(host.name).mkdir(parents=True)
    return own


def test_rules_let_the_inner_zone_dial_and_nobody_else() -> None:
    rules = ruleset(SMALL)
    assert 'iifname "z-inner" oifname "z-outer" ct state new accept' in rules
    assert 'iifname "z-outer" oifname "z-inner"' not in rules
    assert "policy drop" in rules


def test_a_cut_comes_before_what_is_established() -> None:
    lines = ruleset(SMALL, [frozenset({"outer", "inner"})]).splitlines()
    established = next(n for n, line in enumerate(lines) if "established" in line)
    drops = [n for n, line in enumerate(lines) if line.endswith("counter drop")]
    assert len(drops) == 2
    assert max(drops) < established


def test_cuts_are_remembered(places: Places) -> None:
    assert recorded_cuts(places) == set()
    record_cuts({frozenset({"inner", "outer"})}, places)
    assert recorded_cuts(places) == {frozenset({"inner", "outer"})}


MOUNTS = """\
31 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 31 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd
34 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
"""


def test_systemd_uses_these_hierarchies_of_control_groups() -> None:
    assert [path.name for path in hierarchies(MOUNTS)] == ["systemd", "unified"]


def test_the_second_inventory_says_only_how_to_log_in(places: Places) -> None:
    write_inventory(SMALL, places)
    written = yaml.safe_load((places.inventory / "hosts.yaml").read_text())
    group = written["test_hosts"]
    assert group["hosts"] == {"far": {}, "near": {}}
    assert set(group["vars"]) == {"ansible_user", "ansible_ssh_common_args", "ansible_control_path"}
    assert group["vars"]["ansible_user"] != "root"


def test_a_sudo_password_stays_in_its_file(places: Places) -> None:
    places.sudo_password.write_text("correct horse")
    write_inventory(SMALL, places)
    written = (places.inventory / "hosts.yaml").read_text()
    assert "correct horse" not in written
    assert str(places.sudo_password) in written


def test_host_keys_are_known_before_the_first_login(places: Places) -> None:
    write_inventory(SMALL, places)
    known = places.known_hosts.read_text().splitlines()
    assert [line.split()[0] for line in known] == ["near,192.0.2.11", "far,198.51.100.11"]
    keys = {line.split()[2] for line in known}
    assert len(keys) == 2
    assert "StrictHostKeyChecking yes" in places.ssh_configuration.read_text()


@pytest.mark.skipif(shutil.which("ssh") is None, reason="ssh is missing (openssh-client)")
def test_ssh_understands_its_configuration(places: Places) -> None:
    write_inventory(SMALL, places)
    command = ["ssh", "-F", str(places.ssh_configuration), "-G", "near"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "hostname 192.0.2.11\n" in shown
    assert f"userknownhostsfile {places.known_hosts}\n" in shown
    assert "stricthostkeychecking true\n" in shown


def test_two_labs_share_neither_files_nor_namespaces(tmp_path: Path) -> None:
    one, other = (Places(tmp_path / name, tmp_path) for name in ("one", "other"))
    assert one.controller_namespace != other.controller_namespace
    assert Places(DIRECTORY, tmp_path).controller_namespace == "peersys-hosts"


def test_a_second_command_is_told_to_wait(places: Places) -> None:
    with locked(places):
        with pytest.raises(LabError) as told, locked(places):
            pass
        assert "another command is at work" in str(told.value)
    with locked(places):
        pass


LISTED = """\
https://one.test/nodes|nodistro|main|. nodistro|nodistro
https://one.test/tools|bookworm|main|Somebody|Somebody's tools
http://two.test/debian|bookworm-updates|main|Debian|Debian
http://two.test/debian-security|bookworm-security|main|Debian|Debian-Security
http://two.test/debian|bookworm|non-free-firmware|Debian|Debian
http://two.test/debian|bookworm|main|Debian|Debian
"""


def test_the_mirror_is_the_debian_archive_among_other_sources() -> None:
    assert choose_mirror(LISTED) == "http://two.test/debian"


def test_a_machine_that_never_updated_its_lists_has_a_mirror_too() -> None:
    listed = "http://three.test/debian/|trixie|main|$(ORIGIN)|$(LABEL)\n"
    assert choose_mirror(listed) == "http://three.test/debian/"


def test_a_machine_without_debian_sources_is_told_so() -> None:
    with pytest.raises(LabError, match="name no Debian archive"):
        choose_mirror("https://one.test/nodes|nodistro|main|Other|Other\n")


def test_everything_that_is_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        requirements.shutil, "which", lambda name: None if name in ("nft", "ip") else name
    )
    monkeypatch.setattr(requirements.os, "geteuid", lambda: 1000)
    with pytest.raises(LabError) as raised:
        requirements.check_requirements()
    assert "packages: sudo apt-get install iproute2 nftables" in str(raised.value)
    assert "root: " in str(raised.value)


def test_another_recipe_has_another_name(monkeypatch: pytest.MonkeyPatch) -> None:
    before = recipe.recipe_hash("bookworm")
    assert recipe.recipe_hash("bookworm") == before
    assert recipe.recipe_hash("trixie") != before
    monkeypatch.setattr(recipe, "LATER_PACKAGES", ())
    assert recipe.recipe_hash("bookworm") != before
