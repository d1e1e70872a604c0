# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import sys

import pytest

LISTEN = """
import signal, socket, sys, time
if "deaf" in sys.argv: signal.signal(signal.SIGTERM, signal.SIG_IGN)
listener = socket.socket(socket.AF_UNIX); listener.bind(sys.argv[1]); listener.listen()
time.sleep(60)
"""


@pytest.fixture
def arguments(tmp_path, run_module):
    config = tmp_path / "node.yaml"
    config.write_text("one")
    given = {
        "command": [sys.executable, "-c", LISTEN, str(tmp_path / "run.sock")],
        "pid_file": str(tmp_path / "node.pid"),
        "log_file": str(tmp_path / "node.log"),
        "start_files": [str(config)],
        "directories": [str(tmp_path / "state")],
        "ready_socket": str(tmp_path / "run.sock"),
    }
    yield given
    run_module("node_process", state="stopped", pid_file=given["pid_file"], stop_timeout_seconds=5)


def test_started_once_and_left_alone(arguments, run_module, tmp_path):
    first = run_module("node_process", **arguments)
    again = run_module("node_process", **arguments)
    assert (first["changed"], again["changed"]) == (True, False)
    assert first["pid"] == again["pid"]
    assert stat.S_IMODE(os.stat(tmp_path / "state").st_mode) == 0o700
    assert stat.S_IMODE(os.stat(tmp_path / "node.log").st_mode) == 0o600


def test_changed_start_file_restarts(arguments, run_module, tmp_path):
    first = run_module("node_process", **arguments)
    (tmp_path / "node.yaml").write_text("two")
    (tmp_path / "run.sock").unlink()
    again = run_module("node_process", **arguments)
    assert again["changed"]
    assert again["pid"] != first["pid"]


def test_check_mode_starts_and_stops_nothing(arguments, run_module, tmp_path):
    assert run_module("node_process", check_mode=True, **arguments)["changed"]
    assert not (tmp_path / "node.pid").exists()
    pid = run_module("node_process", **arguments)["pid"]
    stop = {"state": "stopped", "pid_file": arguments["pid_file"]}
    assert run_module("node_process", check_mode=True, **stop)["changed"]
    os.kill(pid, 0)


def test_stopped_once(arguments, run_module, tmp_path):
    run_module("node_process", **arguments)
    stop = {"state": "stopped", "pid_file": arguments["pid_file"]}
    assert run_module("node_process", **stop)["changed"]
    assert not run_module("node_process", **stop)["changed"]
    assert not (tmp_path / "node.pid").exists()


def test_process_that_ignores_sigterm_is_killed(arguments, run_module):
    command = [*arguments["command"], "deaf"]
    run_module("node_process", **{**arguments, "command": command})
    stop = {"state": "stopped", "pid_file": arguments["pid_file"], "stop_timeout_seconds": 0.2}
    assert run_module("node_process", **stop)["pid"] is None


def test_agent_that_ends_at_once_fails_with_the_end_of_its_log(arguments, run_module):
    command = [sys.executable, "-c", "print('no store'); raise SystemExit(3)"]
    result = run_module("node_process", **{**arguments, "command": command})
    assert result["failed"]
    assert "status 3" in result["msg"]
    assert "no store" in result["msg"]


def test_number_of_another_process_is_not_taken_for_ours(arguments, run_module, tmp_path):
    (tmp_path / "node.pid").write_text(f"{os.getpid()} 1\nx\n")
    stop = {"state": "stopped", "pid_file": arguments["pid_file"]}
    assert not run_module("node_process", **stop)["changed"]
