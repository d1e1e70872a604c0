# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import os
import shutil
import socket as sockets

import pytest
from ansible_collections.peersys.pki.plugins.module_utils import (
    _host_checks,
    _listening,
    _service,
    _status_cache,
)
from ansible_collections.peersys.pki.plugins.module_utils._host import CommandError
from ansible_collections.peersys.pki.plugins.module_utils._listening import Address

OWN = 4711
CONFIG = "listen 80;\n"
ANY = str(ipaddress.IPv4Address(0))


class Host:
    """systemd, apt-get, ss and nginx of a host that isn't there."""

    def __init__(self, config):
        self.config = config
        self.commands = []
        self.active = self.enabled = self.installed = False
        self.index = True
        self.refused = ""
        self.sockets = []
        self.mute = False

    def program(self):
        return "/usr/sbin/nginx" if self.installed else None

    def __call__(self, *command, given="", remedy=""):
        words = [word for word in command if not word.startswith("--")]
        match words:
            case ["systemctl", "show", _unit] if "--value" in command:
                return str(OWN if self.active else 0)
            case ["systemctl", "show", _unit]:
                state = ("active" if self.active else "inactive", "enabled" if self.enabled else "")
                return "ActiveState={}\nUnitFileState={}\nNeedDaemonReload=no\n".format(*state)
            case ["systemctl", "enable", _unit]:
                self.enabled = True
            case ["systemctl", "restart" | "reload" as verb, _unit]:
                self.commands.append(verb)
                self.active = True
                self.listen()
            case ["systemctl", "disable", unit]:
                self.commands.append(f"stop {unit}")
                if unit != "nginx.service":
                    self.active = self.enabled = False
            case ["journalctl", *_rest]:
                return "bind() failed\n"
            case ["ss", *_rest]:
                return "".join(self.sockets)
            case ["env", _frontend, "apt-get", *_rest]:
                if not self.index:
                    raise CommandError("env failed: W: old\nE: Unable to locate package nginx", "x")
                self.installed = True
            case ["/usr/sbin/nginx", "-t", *_rest]:
                self.check(words[-1])
        return ""

    def check(self, path):
        self.commands.append("test")
        if self.refused:
            raise CommandError(f"nginx failed: nginx: [emerg] {self.refused} in {path}:1", "x")

    def listen(self):
        if not self.mute:
            ports = [
                word.strip(";") for word in self.config.read_text().split() if word[0].isdigit()
            ]
            self.sockets = [socket(f"0.0.0.0:{port}", "nginx", OWN) for port in ports]


def socket(local, program, process):
    return f'LISTEN 0 511 {local} 0.0.0.0:* users:(("{program}",pid={process},fd=6))\n'


@pytest.fixture
def host(monkeypatch, tmp_path):
    host = Host(tmp_path / "etc/nginx.conf")
    for module in (_listening, _service, _status_cache):
        monkeypatch.setattr(module, "run_command", host)
    monkeypatch.setattr(_host_checks, "check_systemd", lambda: None)
    monkeypatch.setattr(_service, "UNIT_DIRECTORY", str(tmp_path / "units"))
    monkeypatch.setattr(_status_cache, "_program", host.program)
    (tmp_path / "units").mkdir()
    return host


@pytest.fixture
def arguments(tmp_path):
    return {
        "unit_content": "[Service]\n",
        "config_content": CONFIG,
        "config_directory": str(tmp_path / "etc"),
        "listen": ["80"],
        "cache_directory": str(tmp_path / "var/cache"),
        "runtime_directory": str(tmp_path / "run/cache"),
        "start_timeout_seconds": 0,
    }


def test_check_run_check_run(host, arguments, run_module, tmp_path):
    foreseen = run_module("status_cache_service", check_mode=True, **arguments)
    assert foreseen["changed"]
    assert [path.name for path in tmp_path.iterdir()] == ["units"]
    first = run_module("status_cache_service", **arguments)
    assert first["steps"] == foreseen["steps"] == ["install nginx", "configure", "restart"]
    assert first["diff"] == foreseen["diff"]
    assert (host.active, host.enabled) == (True, True)
    assert host.commands == ["stop nginx.service", "test", "restart"]
    for check_mode in (True, False):
        again = run_module("status_cache_service", check_mode=check_mode, **arguments)
        assert (again["changed"], again["steps"], again["diff"]) == (False, [], [])
    assert os.listdir(tmp_path / "etc") == ["nginx.conf"]


def test_running_cache_is_reloaded_unless_its_unit_changes(host, arguments, run_module):
    run_module("status_cache_service", **arguments)
    arguments["config_content"] = "listen 80; listen 81;\n"
    arguments["listen"] = ["80", "81"]
    assert run_module("status_cache_service", **arguments)["steps"] == ["configure", "reload"]
    arguments["unit_content"] = "[Service]\nNice=5\n"
    assert run_module("status_cache_service", **arguments)["steps"] == ["configure", "restart"]


def test_missing_package_is_told_and_changes_nothing(host, arguments, run_module, tmp_path):
    host.index = False
    said = run_module("status_cache_service", **arguments)["msg"]
    assert "apt-get can't install it: Unable to locate package nginx. Remedy: install the" in said
    assert os.listdir(tmp_path / "etc") == []
    assert host.commands == []


def test_run_that_was_cut_off_while_it_installed_stops_the_packages_server(
    host, arguments, run_module, tmp_path
):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/.installing").touch()
    host.installed = True
    assert run_module("status_cache_service", **arguments)["steps"][0] == "install nginx"
    assert host.commands[0] == "stop nginx.service"


def test_taken_port_is_told_before_anything_is_changed(host, arguments, run_module, tmp_path):
    host.installed = True
    host.sockets = [socket("*:80", "apache2", 812)]
    said = run_module("status_cache_service", **arguments)["msg"]
    assert (
        "port 80 of this host is taken: apache2 (process 812) listens on *:80. Remedy: stop" in said
    )
    assert not (tmp_path / "etc").exists()


def test_bad_configuration_is_told_before_anything_is_changed(
    host, arguments, run_module, tmp_path
):
    run_module("status_cache_service", **arguments)
    host.refused = 'host not found in upstream "va9"'
    changed = {**arguments, "config_content": "listen 80; va9\n"}
    for check_mode in (True, False):
        said = run_module("status_cache_service", check_mode=check_mode, **changed)["msg"]
        assert (
            'refuses its configuration: host not found in upstream "va9" in nginx.conf:1.' in said
        )
        assert "Remedy: correct the variable" in said
    assert (tmp_path / "etc/nginx.conf").read_text() == CONFIG
    assert not run_module("status_cache_service", **arguments)["changed"]


def test_cache_that_gets_no_port_is_told_and_started_again_by_the_next_run(
    host, arguments, run_module
):
    host.mute = True
    said = run_module("status_cache_service", **arguments)["msg"]
    assert "doesn't listen on 0.0.0.0:80" in said
    assert "it says: bind() failed. Remedy" in said
    host.mute = False
    assert run_module("status_cache_service", **arguments)["steps"] == ["restart"]
    assert not run_module("status_cache_service", **arguments)["changed"]


def test_absent_leaves_nothing_but_nginx(host, arguments, run_module, tmp_path):
    run_module("status_cache_service", **arguments)
    (tmp_path / "var/private/cache").mkdir(parents=True)
    (tmp_path / "var/cache").symlink_to("private/cache")
    absent = {**arguments, "state": "absent"}
    assert run_module("status_cache_service", check_mode=True, **absent)["changed"]
    assert run_module("status_cache_service", **absent)["steps"] == [
        "remove service",
        "remove files",
    ]
    assert not run_module("status_cache_service", **absent)["changed"]
    assert (host.active, host.installed) == (False, True)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []


@pytest.mark.parametrize(
    ("wanted", "there", "taken"),
    [
        ("80", ANY, True),
        ("80", "*", True),
        ("80", "127.0.0.53", True),
        ("80", "::", False),
        ("192.0.2.1:80", "192.0.2.1", True),
        ("192.0.2.1:80", "192.0.2.2", False),
        ("192.0.2.1:80", ANY, True),
        ("[::]:80", "::1", True),
        ("[::]:80", ANY, False),
        ("[2001:db8::1]:80", "*", True),
    ],
)
def test_sockets_that_keep_each_other_out(wanted, there, taken):
    assert Address.parse(wanted).port == 80
    assert Address.parse(wanted).is_taken_by(there) is taken


def test_address_without_a_port_is_refused(host, arguments, run_module):
    arguments["listen"] = ["localhost"]
    assert "has no port in it" in run_module("status_cache_service", **arguments)["msg"]


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs iproute2")
def test_listeners_of_this_host_are_read():
    with sockets.create_server(("127.0.0.1", 0)) as server:
        found = [one for one in _listening.listeners() if one.port == server.getsockname()[1]]
    assert [one.host for one in found] == ["127.0.0.1"]
    assert os.getpid() in found[0].programs


@pytest.mark.skipif(_status_cache._program() is None, reason="needs nginx")
def test_nginx_itself_is_asked_and_leaves_nothing(run_module, arguments, monkeypatch, tmp_path):
    monkeypatch.setattr(_host_checks, "check_systemd", lambda: None)
    monkeypatch.setattr(_service, "UNIT_DIRECTORY", str(tmp_path / "units"))
    monkeypatch.setattr(_status_cache, "listeners", list)
    arguments["config_content"] = (
        f"pid {arguments['runtime_directory']}/pid;\nevents {{}}\nhttp {{\n"
        f"proxy_temp_path {arguments['runtime_directory']}/proxy;\n"
        f"proxy_cache_path {arguments['cache_directory']} keys_zone=a:1m;\nserver {{ lissen 80; }}\n}}\n"
    )
    said = run_module("status_cache_service", check_mode=True, **arguments)["msg"]
    assert 'configuration: unknown directive "lissen" in nginx.conf:6. Remedy' in said
    arguments["config_content"] = arguments["config_content"].replace("lissen 80", "listen 81")
    assert run_module("status_cache_service", check_mode=True, **arguments)["changed"]
    assert list(tmp_path.iterdir()) == []
