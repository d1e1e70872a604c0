# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible_collections.peersys.pki.plugins.action import firewall, node, node_service
from ansible_collections.peersys.pki.plugins.plugin_utils._wheelhouse import (
    Release,
    WheelhouseError,
)

TARGET = {"python": "3.11", "machine": "x86_64", "glibc": "2.36"}
RELEASE = Release("1-abc", "/house/1.tar.gz", "feed", 10)
VARIABLES = {
    "inventory_hostname": "ra1",
    "ansible_host": "198.51.100.11",
    "ansible_delegated_vars": {"ca1": {"ansible_host": "198.51.100.1"}, "ca2": {}},
}
STARTED = {"name": "ra1", "source": "/src", "wheelhouse": "/house"}


class Host:
    """Answers to module calls, in order; an exception is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.in_background = []

    def __call__(self, module_name, module_args, task_vars, wrap_async):
        self.asked.append((module_name, module_args))
        self.in_background.append(wrap_async)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class House:
    """A wheelhouse that makes its only release when it is asked for one."""

    made = False

    def __init__(self, directory, source):
        pass

    def known(self):
        return {"cp311-x86_64-glibc2.36": RELEASE} if House.made else {}

    def release(self, target, announce):
        if target.machine != "x86_64":
            raise WheelhouseError("no wheels. Remedy: none")
        House.made = True
        return RELEASE


@pytest.fixture(autouse=True)
def house(monkeypatch):
    monkeypatch.setattr(House, "made", False)
    monkeypatch.setattr(node_service, "Wheelhouse", House)
    monkeypatch.setattr(node_service, "AgentSource", mock.Mock())


@pytest.fixture
def act(monkeypatch):
    def run(plugin, host, *, delegate_to=None, async_val=0, check_mode=False, **arguments):
        task = mock.Mock(
            args=arguments,
            action="peersys.pki.peer_role",
            delegate_to=delegate_to,
            async_val=async_val,
            check_mode=check_mode,
        )
        connection = mock.Mock(has_native_async=False)
        connection._shell.tmpdir = None
        action = plugin.ActionModule(task, connection, mock.Mock(), None, None, None)
        monkeypatch.setattr(action, "_execute_module", host)
        monkeypatch.setattr(action, "bring_file", lambda path, variables: "/there/archive")
        return action.run(task_vars=VARIABLES), connection

    return run


def test_host_that_has_the_release_is_asked_once(act, monkeypatch):
    monkeypatch.setattr(House, "made", True)
    host = Host({"changed": False})
    assert act(node_service, host, **STARTED)[0] == {"changed": False}
    (((name, told)),) = host.asked
    assert name == "peersys.pki.node_service"
    assert told["release"]["versions"] == {"cp311-x86_64-glibc2.36": "1-abc"}
    assert told["release"]["controller_seconds"] > 0
    assert "archive" not in told["release"]


def test_host_that_lacks_the_release_gets_it(act):
    host = Host({"changed": False, "archive_wanted": TARGET}, {"changed": True})
    assert act(node_service, host, **STARTED)[0] == {"changed": True}
    told = host.asked[1][1]["release"]
    assert (told["archive"], told["sha256"]) == ("/there/archive", "feed")
    assert told["versions"] == {"cp311-x86_64-glibc2.36": "1-abc"}


def test_release_that_cannot_be_made_ends_the_task_with_its_remedy(act):
    host = Host({"archive_wanted": {**TARGET, "machine": "riscv64"}})
    with pytest.raises(AnsibleActionFail, match="Remedy: "):
        act(node_service, host, **STARTED)


@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_stopping_needs_no_release(act, state):
    host = Host({"changed": True})
    act(node_service, host, state=state, name="ra1")
    assert "release" not in host.asked[0][1]


@pytest.mark.parametrize(
    ("raised", "expected", "said"),
    [
        (
            AnsibleConnectionFailure("Connection timed out\nmore"),
            AnsibleConnectionFailure,
            r"ra1 can't be reached at 198.51.100.11: Connection timed out\. Remedy: ",
        ),
        (
            AnsibleError("Incorrect sudo password"),
            AnsibleActionFail,
            r"ra1: Incorrect sudo password\. Remedy: .*--ask-become-pass",
        ),
        (
            AnsibleError("Missing sudo password"),
            AnsibleActionFail,
            r"ra1: Missing sudo password\. Remedy: ",
        ),
        (
            AnsibleError("mkdir: No space left on device"),
            AnsibleActionFail,
            r"ra1: no space is left on the host's disk.*Remedy: ",
        ),
        (AnsibleError("something else"), AnsibleError, "something else"),
    ],
)
def test_what_ansible_says_gets_host_and_remedy(act, raised, expected, said):
    with pytest.raises(expected, match=said):
        act(firewall, Host(raised), rules=[])


@pytest.mark.parametrize(
    ("delegate_to", "said"),
    [
        (None, "ra1 can't be reached at 198.51.100.11: timed out. Remedy: "),
        ("ca1", "ca1 can't be reached at 198.51.100.1: timed out. Remedy: "),
        ("ca2", "ca2 can't be reached at ca2: timed out. Remedy: "),
    ],
)
def test_host_that_is_named_is_the_one_that_the_task_goes_to(act, delegate_to, said):
    with pytest.raises(AnsibleConnectionFailure) as caught:
        act(node, Host(AnsibleConnectionFailure("timed out")), delegate_to=delegate_to)
    assert said in str(caught.value)


@pytest.mark.parametrize("check_mode", [True, False])
def test_module_without_an_action_of_its_own_runs_as_it_is(act, check_mode):
    host = Host({"changed": True, "diff": [1]})
    result, _connection = act(node, host, check_mode=check_mode, name="cas", state="absent")
    assert result == {"changed": True, "diff": [1]}
    assert host.asked == [("peersys.pki.peer_role", {"name": "cas", "state": "absent"})]
    assert host.in_background == [False]


def test_module_runs_in_the_background_where_the_task_says_so(act):
    host = Host({"started": True})
    assert act(node, host, async_val=60)[0] == {"started": True}
    assert host.in_background == [True]


def test_action_of_several_steps_refuses_the_background(act):
    with pytest.raises(AnsibleActionFail, match="does not support async"):
        act(firewall, Host(), async_val=60)


def test_disk_too_full_for_the_module_itself_is_explained(act):
    host = Host(
        {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "No space left on device"}
    )
    assert "Remedy: free some space" in act(firewall, host)[0]["msg"]


def test_unchanged_firewall_is_asked_once(act):
    host = Host({"changed": False, "on_trial": False})
    result, connection = act(firewall, host)
    assert result == {"changed": False}
    connection.reset.assert_not_called()


def test_changed_firewall_is_confirmed_over_a_new_connection(act):
    host = Host({"changed": True, "on_trial": True}, {"changed": True, "on_trial": False})
    result, connection = act(firewall, host, rules=[])
    assert result == {"changed": True}
    connection.reset.assert_called_once_with()
    assert host.asked[1][1] == {"rules": [], "confirm": True}


def test_firewall_that_shuts_the_controller_out_is_told(act):
    host = Host({"changed": True, "on_trial": True}, AnsibleConnectionFailure("timed out"))
    with pytest.raises(
        AnsibleActionFail, match=r"ra1: .*goes back.*within 9 s.*firewall_ssh_ports"
    ):
        act(firewall, host, trial_seconds=9)


def test_refused_confirmation_is_the_result(act):
    host = Host({"changed": True, "on_trial": True}, {"failed": True, "msg": "too early"})
    assert act(firewall, host)[0]["failed"]
