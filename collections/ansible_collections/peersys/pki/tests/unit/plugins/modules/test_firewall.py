# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest
from ansible_collections.peersys.pki.plugins.module_utils import (
    _credentials,
    _firewall,
    _service,
)
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError
from ansible_collections.peersys.pki.plugins.modules import firewall

RULES = [{"port": 7443, "from": ["192.0.2.11"], "comment": "links"}]


class Kernel:
    """nft, systemd and an SSH server: a table is listed as it was loaded."""

    def __init__(self):
        self.table = ""
        self.loaded = []
        self.enabled = False
        self.timer = None

    def __call__(self, *command, given="", remedy=""):
        words = [word for word in command if not word.startswith("--")]
        match words:
            case ["nft", "list", "tables", "inet"]:
                return "table inet peersys\n" if self.table else ""
            case ["nft", "list", "table", "inet", "peersys"]:
                return self.table
            case ["nft", "-f", "-"]:
                self.load(given)
            case ["unshare", *_rest]:
                with open(words[-1], encoding="utf-8") as file:
                    return listing(file.read())
            case ["/usr/sbin/sshd", "-T"]:
                return "port 22\nport 2222\nloglevel INFO\n"
            case ["systemctl", "show", _unit]:
                state = ("active", "enabled") if self.enabled else ("inactive", "")
                return "ActiveState={}\nUnitFileState={}\nNeedDaemonReload=no\n".format(*state)
            case ["systemctl", "restart", _unit]:
                self.enabled = True
            case ["systemctl", "disable", _unit]:
                self.enabled = False
            case ["systemctl", "stop", unit]:
                assert unit.endswith(".timer")
                self.timer = None
            case ["systemd-creds", "decrypt", path, "-"]:
                with open(path, encoding="utf-8") as file:
                    return file.read()[::-1]
            case ["systemd-run", *_rest]:
                self.timer = command
        return ""

    def load(self, text):
        self.loaded.append(text)
        self.table = listing(text)


def listing(text):
    return text.partition("delete table inet peersys\n")[2]


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    kernel = Kernel()
    for module in (_credentials, _firewall, _service):
        monkeypatch.setattr(module, "run_command", kernel)
    monkeypatch.setattr(firewall.os, "geteuid", lambda: 0)
    monkeypatch.setattr(_service, "UNIT_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(_firewall, "RULES_PATH", str(tmp_path / "rules.nft"))
    monkeypatch.setattr(_firewall, "_BEFORE_PATH", str(tmp_path / "before.nft"))
    return kernel


def test_check_try_confirm_check_run(kernel, run_module, tmp_path):
    foreseen = run_module("firewall", check_mode=True, rules=RULES)
    assert (foreseen["changed"], foreseen["on_trial"]) == (True, False)
    assert "7443" in foreseen["diff"][0]["after"]
    assert kernel.loaded == []
    tried = run_module("firewall", rules=RULES)
    assert (tried["changed"], tried["on_trial"]) == (True, True)
    assert kernel.timer is not None
    assert not (tmp_path / "rules.nft").exists()
    assert not run_module("firewall", rules=RULES, confirm=True)["on_trial"]
    assert (kernel.timer, kernel.enabled) == (None, True)
    assert "7443" in (tmp_path / "rules.nft").read_text()
    for check_mode in (True, False):
        again = run_module("firewall", check_mode=check_mode, rules=RULES)
        assert (again["changed"], again["diff"]) == (False, [])
    assert len(kernel.loaded) == 1


def test_trial_of_a_run_that_was_cut_off_is_confirmed_over_a_new_connection(
    kernel, run_module, tmp_path
):
    run_module("firewall", rules=RULES)
    timer = kernel.timer
    foreseen = run_module("firewall", check_mode=True, rules=RULES)
    assert (foreseen["changed"], foreseen["on_trial"]) == (True, False)
    again = run_module("firewall", rules=RULES)
    assert (again["changed"], again["on_trial"], again["diff"]) == (True, True, [])
    assert (kernel.timer, kernel.enabled, len(kernel.loaded)) == (timer, False, 1)
    assert not (tmp_path / "rules.nft").exists()
    assert not run_module("firewall", rules=RULES, confirm=True)["on_trial"]
    assert (kernel.timer, kernel.enabled) == (None, True)
    assert not run_module("firewall", rules=RULES)["changed"]


def test_trial_of_what_the_file_holds_is_confirmed_too(kernel, run_module, tmp_path):
    """The kernel's table was changed by hand, and the run that put it right was cut off."""
    run_module("firewall", rules=RULES)
    run_module("firewall", rules=RULES, confirm=True)
    kernel.table += "tcp dport 23 accept\n"
    run_module("firewall", rules=RULES)
    assert run_module("firewall", rules=RULES)["on_trial"]
    run_module("firewall", rules=RULES, confirm=True)
    assert kernel.timer is None
    assert not run_module("firewall", rules=RULES)["on_trial"]


def test_trial_goes_back_to_the_table_before(kernel, run_module, tmp_path):
    run_module("firewall", rules=RULES)
    run_module("firewall", rules=RULES, confirm=True)
    before = kernel.table
    run_module("firewall", rules=[], trial_seconds=7)
    assert "--on-active=7" in kernel.timer
    kernel.load((tmp_path / "before.nft").read_text())
    assert kernel.table == before


def test_rule_added_by_hand_is_seen_and_taken_away(kernel, run_module):
    run_module("firewall", rules=RULES)
    run_module("firewall", rules=RULES, confirm=True)
    kernel.table += "tcp dport 23 accept\n"
    result = run_module("firewall", rules=RULES)
    assert result["changed"]
    assert "dport 23" in result["diff"][0]["before"]
    assert "dport 23" not in kernel.table


def test_table_that_only_the_kernel_holds_is_made_to_last(kernel, run_module, tmp_path):
    run_module("firewall", rules=RULES)
    run_module("firewall", rules=RULES, confirm=True)
    os.unlink(tmp_path / "rules.nft")
    assert run_module("firewall", rules=RULES)["changed"]
    assert (tmp_path / "rules.nft").exists()


def test_confirmation_that_comes_too_late_is_refused(kernel, run_module):
    assert "too early" in run_module("firewall", rules=RULES, confirm=True)["msg"]


def test_ports_of_the_ssh_server_are_found_unless_given(kernel, run_module):
    assert run_module("firewall", check_mode=True)["ssh_ports"] == [22, 2222]
    assert run_module("firewall", check_mode=True, ssh_ports=[2022])["ssh_ports"] == [2022]


def test_senseless_rule_is_refused_before_anything_is_changed(kernel, run_module):
    result = run_module("firewall", rules=[{"port": 7443, "from": ["ra1"]}])
    assert result["msg"].startswith("firewall_rules: who may reach port 7443")
    assert kernel.loaded == []


def test_absent_leaves_nothing(kernel, run_module, tmp_path):
    assert not run_module("firewall", state="absent")["changed"]
    run_module("firewall", rules=RULES)
    run_module("firewall", rules=RULES, confirm=True)
    assert run_module("firewall", check_mode=True, state="absent")["changed"]
    assert kernel.enabled
    assert run_module("firewall", state="absent")["changed"]
    assert not run_module("firewall", state="absent")["changed"]
    assert (kernel.enabled, kernel.table) == (False, "")
    assert os.listdir(tmp_path) == []


def isolate(run_module, **given):
    """Isolate the host as the action plugin does, and return the first answer."""
    tried = run_module("firewall", state="isolated", **given)
    if tried.get("on_trial"):
        run_module("firewall", state="isolated", confirm=True, **given)
    return tried


def test_isolated_host_is_left_ssh_from_the_controller_alone(kernel, run_module, monkeypatch):
    monkeypatch.setattr(firewall, "controller_address", lambda: "192.0.2.1")
    run_module("firewall", rules=RULES)
    run_module("firewall", rules=RULES, confirm=True)
    told = isolate(run_module)
    assert (told["changed"], told["controllers"]) == (True, ["192.0.2.1"])
    for hook in ("input", "output", "forward"):
        assert f"type filter hook {hook} priority filter; policy drop;" in kernel.table
    assert "7443" not in kernel.table
    assert "established,related" not in kernel.table
    assert "ip saddr { 192.0.2.1/32 } tcp dport { 22, 2222 } accept" in kernel.table
    assert not isolate(run_module)["changed"]


def test_isolated_host_isnt_opened_by_the_way(kernel, run_module):
    isolate(run_module, controllers=["192.0.2.1", "2001:db8::1"])
    assert "ip6 saddr { 2001:db8::1/128 }" in kernel.table
    refused = run_module("firewall", rules=RULES)
    assert "was taken over, and is isolated" in refused["msg"]
    assert "isolation_state=absent" in refused["msg"]
    assert run_module("firewall", state="absent")["changed"]
    assert run_module("firewall", rules=RULES)["changed"]


def test_controller_is_where_the_ssh_session_above_comes_from(monkeypatch):
    """sudo took the variable away; the shell that sshd started has it."""
    files = {
        "/proc/30/environ": b"LANG=C\0",
        "/proc/30/status": b"Name:\tpython3\nPPid:\t20\n",
        "/proc/20/environ": b"A=b\0SSH_CONNECTION=2001:db8::1 40000 2001:db8::2 22\0",
    }
    monkeypatch.setattr(_firewall.os, "getpid", lambda: 30)
    monkeypatch.setattr(_firewall, "_read", lambda path: files.get(path, b""))
    assert _firewall.controller_address() == "2001:db8::1"
    files["/proc/20/environ"] = b""
    with pytest.raises(HostError, match="list its addresses"):
        _firewall.controller_address()


def test_host_of_another_topology_is_left_alone(kernel, run_module, tmp_path, monkeypatch):
    monkeypatch.setattr(firewall, "CLAIM_PATH", str(tmp_path / "claim.json"))
    (tmp_path / "claim.json").write_text('{"node": "ra1", "trust_domain": "a.example.org"}')
    own = {"name": "ra1", "trust_domain": "a.example.org"}
    assert run_module("firewall", rules=RULES, owner=own)["changed"]
    other = {**own, "trust_domain": "b.example.org"}
    for state in ("present", "absent"):
        result = run_module("firewall", state=state, rules=[], owner=other)
        assert "belongs to node ra1 of a.example.org" in result["msg"]
    assert len(kernel.loaded) == 1


@pytest.mark.parametrize("given", [{}, {"passphrase": "that of another inventory"}])
def test_passphrase_that_the_node_wouldnt_start_with_is_refused_before_anything_is_changed(
    kernel, run_module, tmp_path, monkeypatch, given
):
    """The node, whose task comes later, would refuse it: the host would be half changed."""
    secret = "correct horse battery staple"
    monkeypatch.setattr(firewall, "CLAIM_PATH", str(tmp_path / "claim.json"))
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/passphrase").write_text(secret[::-1])
    owner = {"name": "ra1", "trust_domain": "a.example.org", "config_directory": str(tmp_path)}
    owner["state_directory"] = str(tmp_path / "credentials")
    for check_mode in (True, False):
        refused = run_module(
            "firewall", check_mode=check_mode, rules=RULES, owner=owner, key_secrets=given
        )
        assert "runs on this host with another node_passphrase" in refused["msg"]
        assert secret not in str(refused)
        assert given.get("passphrase", secret) not in str(refused)
    assert kernel.loaded == []
    assert run_module("firewall", rules=RULES, owner=owner, key_secrets={"passphrase": secret})[
        "changed"
    ]
    # A node may go with all its keys.
    assert run_module("firewall", state="absent", owner=owner, key_secrets=given)["changed"]
