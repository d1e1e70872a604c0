# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import sys
import time

import pytest
from ansible_collections.peersys.pki.plugins.module_utils import (
    _credentials,
    _host_checks,
    _node_service,
    _service,
)
from ansible_collections.peersys.pki.plugins.module_utils._host import CommandError
from ansible_collections.peersys.pki.plugins.modules import node_service
from ansible_collections.peersys.pki.plugins.plugin_utils._release_archive import write_archive

SECRET = "correct horse battery staple"


class Host:
    """systemd, useradd and systemd-creds of a host that isn't there."""

    def __init__(self):
        self.commands = []
        self.active = self.enabled = False
        self.users = set()
        self.log = ""

    def __call__(self, *command, given="", remedy=""):
        self.commands.append(command)
        words = [word for word in command if not word.startswith("--")]
        match words:
            case ["systemctl", "show", _unit]:
                shown = {
                    "ActiveState": "active" if self.active else "inactive",
                    "UnitFileState": "enabled" if self.enabled else "",
                    "NeedDaemonReload": "no",
                }
                return "".join(f"{key}={value}\n" for key, value in shown.items())
            case ["systemctl", "restart", _unit]:
                if self.log:
                    raise CommandError("job failed", "look")
                self.active = True
            case ["systemctl", "enable", _unit]:
                self.enabled = True
            case ["systemctl", "disable", _unit]:
                self.active = self.enabled = False
            case ["journalctl"]:
                return self.log
            case ["useradd", *_rest]:
                self.users.add(words[-1])
            case ["userdel", name]:
                self.users.remove(name)
            case ["systemd-creds", "encrypt", "-", "-"]:
                # The same secret never encrypts the same.
                return f"{len(self.commands)}:{given[::-1]}"
            case ["systemd-creds", "decrypt", path, "-"]:
                with open(path, encoding="utf-8") as file:
                    return file.read().partition(":")[2][::-1]
        return ""

    def ran(self, *words):
        return [command for command in self.commands if command[: len(words)] == words]


@pytest.fixture
def host(monkeypatch, tmp_path):
    host = Host()
    for module in (_credentials, _service):
        monkeypatch.setattr(module, "run_command", host)
    monkeypatch.setattr(_host_checks, "check_service_manager", lambda: None)
    monkeypatch.setattr(_service, "has_user", lambda name: name in host.users)
    monkeypatch.setattr(_service, "remove_user", host.users.remove)
    monkeypatch.setattr(_service, "UNIT_DIRECTORY", str(tmp_path / "units"))
    monkeypatch.setattr(_node_service, "CLAIM_PATH", str(tmp_path / "etc/claim.json"))
    (tmp_path / "units").mkdir()
    return host


@pytest.fixture
def release(tmp_path):
    packages = tmp_path / "packages"
    (packages / "sample").mkdir(parents=True)
    (packages / "sample/cli.py").write_text("def main(): return 0\n")
    (packages / "peersys-1.dist-info").mkdir()
    (packages / "peersys-1.dist-info/entry_points.txt").write_text(
        "[console_scripts]\npeersys = sample.cli:main\n"
    )
    written = write_archive(packages, tmp_path / "brought", with_bytecode=False)
    target = _host_checks.target_of(sys.executable)
    return {
        "versions": {_node_service._tag(target): "1-abc"},
        "archive": str(tmp_path / "brought"),
        "sha256": written.sha256,
        "unpacked_bytes": written.unpacked_bytes,
        "controller_seconds": time.time(),
    }


@pytest.fixture
def arguments(tmp_path, release):
    return {
        "name": "ca1",
        "trust_domain": "pki.example.org",
        "unit_content": "[Service]\n",
        "config_content": "name: ca1\n",
        "config_directory": str(tmp_path / "etc"),
        "credentials": [{"name": "passphrase", "content": SECRET}],
        "directories": [str(tmp_path / "state")],
        "install_directory": str(tmp_path / "opt"),
        "python": sys.executable,
        "source": "/src",
        "wheelhouse": "/house",
        "release": release,
    }


def test_check_run_check_run(host, arguments, run_module, tmp_path):
    foreseen = run_module("node_service", check_mode=True, **arguments)
    assert foreseen["changed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["brought", "packages", "units"]
    first = run_module("node_service", **arguments)
    assert first["steps"] == foreseen["steps"] == ["install", "make user", "configure", "restart"]
    assert (first["version"], host.active, host.enabled) == ("1-abc", True, True)
    (tmp_path / "state").mkdir()
    for check_mode in (True, False):
        again = run_module("node_service", check_mode=check_mode, **arguments)
        assert (again["changed"], again["steps"], again["diff"]) == (False, [], [])
    assert len(host.ran("systemctl", "restart")) == 1
    assert len(host.ran("systemctl", "daemon-reload")) == 1
    assert ("systemctl", "--quiet", "--no-reload", "enable", "peersys.service") in host.commands
    assert len(host.ran("systemd-creds", "decrypt")) == 2, "once in each run after the first"


def test_unknown_release_asks_for_the_archive_before_anything_is_changed(
    host, arguments, run_module, tmp_path
):
    arguments["release"] = {"versions": {}, "controller_seconds": time.time()}
    result = run_module("node_service", **arguments)
    assert set(result["archive_wanted"]) == {"python", "machine", "glibc"}
    assert not result["changed"]
    assert not (tmp_path / "etc").exists()
    foreseen = run_module("node_service", check_mode=True, **arguments)
    assert foreseen["diff"][0]["after"] == "not made yet\n"


def test_secret_is_stored_encrypted_and_shown_nowhere(host, arguments, run_module, tmp_path):
    shown = str(run_module("node_service", **arguments))
    path = tmp_path / "etc/credentials/passphrase"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert SECRET not in path.read_text()
    arguments["credentials"][0]["content"] = "another secret of some length"
    result = run_module("node_service", **arguments)
    shown += str(result)
    assert result["steps"] == ["configure", "restart"]
    for secret in (SECRET, "another secret of some length"):
        assert secret not in shown
        assert secret not in str(host.commands)


def test_credential_that_is_no_longer_wanted_is_removed(host, arguments, run_module, tmp_path):
    arguments["credentials"].append({"name": "store_password", "content": "for the database"})
    run_module("node_service", **arguments)
    arguments["credentials"].pop()
    assert run_module("node_service", **arguments)["steps"] == ["configure", "restart"]
    assert os.listdir(tmp_path / "etc/credentials") == ["passphrase"]


@pytest.mark.parametrize("name", ["passphrase", "shared_passphrase"])
@pytest.mark.parametrize("check_mode", [True, False])
def test_other_passphrase_than_the_keys_have_is_refused_before_anything_is_changed(
    host, arguments, run_module, tmp_path, name, check_mode
):
    secrets = {"passphrase": SECRET, "shared_passphrase": SECRET}
    arguments["credentials"] = credentials(secrets)
    run_module("node_service", **arguments)
    (tmp_path / "state").mkdir()
    arguments["credentials"] = credentials({**secrets, name: "that of another inventory"})
    arguments["config_content"] = "name: ca1\nworkers: 2\n"
    host.commands.clear()
    result = run_module("node_service", check_mode=check_mode, **arguments)
    assert result["failed"]
    assert (
        f"node ca1 of pki.example.org runs on this host with another node_{name}" in result["msg"]
    )
    assert "Remedy: give the node_" in result["msg"]
    assert host.commands
    assert (tmp_path / "etc/node.yaml").read_text() == "name: ca1\n"
    assert not (tmp_path / "etc/.restart-pending").exists()
    assert host.ran("systemd-creds", "decrypt") == host.commands
    for secret in (SECRET, "that of another inventory"):
        assert secret not in str(result)


def credentials(secrets):
    return [{"name": name, "content": content} for name, content in secrets.items()]


@pytest.mark.parametrize("given", [{}, {"passphrase": "fifteen letters"}])
def test_missing_or_short_passphrase_is_refused_before_anything_is_changed(
    host, arguments, run_module, tmp_path, given
):
    result = run_module("node_service", **{**arguments, "credentials": credentials(given)})
    assert "node_passphrase is missing or shorter than 16 characters" in result["msg"]
    assert "Remedy: write one with ansible-vault" in result["msg"]
    assert not (tmp_path / "etc").exists()
    assert host.commands == []


def test_shared_passphrase_that_keys_need_is_not_taken_away(host, arguments, run_module, tmp_path):
    arguments["credentials"].append({"name": "shared_passphrase", "content": SECRET})
    run_module("node_service", **arguments)
    (tmp_path / "state").mkdir()
    arguments["credentials"].pop()
    assert "another node_shared_passphrase" in run_module("node_service", **arguments)["msg"]


def test_passphrase_that_the_agent_never_started_with_can_be_corrected(
    host, arguments, run_module, tmp_path
):
    (tmp_path / "state").mkdir()
    host.log = "the passphrase does not open the key"
    assert run_module("node_service", **arguments)["failed"]
    arguments["credentials"][0]["content"] = "the one that the keys were made with"
    host.log = ""
    assert run_module("node_service", **arguments)["steps"] == ["configure", "restart"]


def test_passphrase_stays_proven_when_a_later_run_is_cut_off(host, arguments, run_module, tmp_path):
    run_module("node_service", **arguments)
    (tmp_path / "state").mkdir()
    host.log = "port is taken"
    changed = {**arguments, "config_content": "name: ca1\nworkers: 2\n"}
    assert run_module("node_service", **changed)["failed"]
    changed["credentials"] = [{"name": "passphrase", "content": "that of another inventory"}]
    assert "another node_passphrase" in run_module("node_service", **changed)["msg"]


def test_run_that_was_cut_off_before_the_restart_is_made_up_for(host, arguments, run_module):
    host.log = "store is locked"
    failed = run_module("node_service", **arguments)
    assert failed["failed"]
    assert "store is locked" in failed["msg"]
    host.log = ""
    host.active = True
    assert run_module("node_service", **arguments)["steps"] == ["restart"]
    assert not run_module("node_service", **arguments)["changed"]


def test_half_made_version_is_replaced_with_a_warning(
    host, arguments, run_module, tmp_path, monkeypatch
):
    warnings = []
    monkeypatch.setattr(
        node_service.AnsibleModule, "warn", lambda _self, text: warnings.append(text)
    )
    run_module("node_service", **arguments)
    os.unlink(tmp_path / "opt/versions/1-abc/inventory.json")
    (tmp_path / "opt/versions/.making-2").mkdir()
    result = run_module("node_service", **arguments)
    assert result["steps"] == ["install", "restart"]
    assert ".making-2, 1-abc half installed" in str(warnings)
    assert os.listdir(tmp_path / "opt/versions") == ["1-abc"]


def test_host_of_another_topology_is_left_alone(host, arguments, run_module):
    run_module("node_service", **arguments)
    arguments["trust_domain"] = "other.example.org"
    for state in ("started", "stopped", "absent"):
        result = run_module("node_service", **{**arguments, "state": state})
        assert result["failed"]
        assert "belongs to node ca1 of pki.example.org" in result["msg"]
    assert host.active


def test_clock_off_by_a_day_changes_nothing(host, arguments, run_module, tmp_path):
    arguments["release"]["controller_seconds"] -= 86400
    assert "ahead of the controller" in run_module("node_service", **arguments)["msg"]
    assert not (tmp_path / "etc").exists()


def test_stopped_keeps_everything(host, arguments, run_module, tmp_path):
    run_module("node_service", **arguments)
    stopped = {**arguments, "state": "stopped"}
    assert run_module("node_service", check_mode=True, **stopped)["steps"] == ["stop"]
    assert run_module("node_service", **stopped)["steps"] == ["stop"]
    assert not run_module("node_service", **stopped)["changed"]
    assert (host.active, host.enabled) == (False, False)
    assert (tmp_path / "etc/credentials/passphrase").exists()
    assert run_module("node_service", **arguments)["steps"] == ["restart"]


def test_absent_leaves_nothing(host, arguments, run_module, tmp_path):
    run_module("node_service", **arguments)
    (tmp_path / "state").mkdir()
    absent = {**arguments, "state": "absent"}
    assert run_module("node_service", check_mode=True, **absent)["changed"]
    assert host.active
    assert run_module("node_service", **absent)["changed"]
    assert not run_module("node_service", **absent)["changed"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["brought", "packages", "units"]
    assert os.listdir(tmp_path / "units") == []
    assert (host.active, host.users) == (False, set())
