# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat

import pytest


@pytest.fixture
def arguments(tmp_path):
    return {
        "directory": str(tmp_path / "a" / "b"),
        "directory_mode": "0700",
        "files": [{"name": "node.yaml", "content": "name: ca1\n"}],
        "secrets": [{"name": "passphrase", "content": "correct horse"}],
    }


def modes(directory):
    paths = (directory, os.path.join(directory, "node.yaml"), os.path.join(directory, "passphrase"))
    return [stat.S_IMODE(os.stat(path).st_mode) for path in paths]


def test_check_run_check_run(arguments, run_module):
    foreseen = run_module("file_set", check_mode=True, **arguments)
    assert foreseen["changed"]
    assert not os.path.exists(arguments["directory"])
    assert run_module("file_set", **arguments)["written"] == ["node.yaml", "passphrase"]
    assert modes(arguments["directory"]) == [0o700, 0o644, 0o600]
    assert not run_module("file_set", check_mode=True, **arguments)["changed"]
    assert not run_module("file_set", **arguments)["changed"]


def test_only_what_differs_is_written_and_shown(arguments, run_module):
    run_module("file_set", **arguments)
    arguments["files"][0]["content"] = "name: ca2\n"
    result = run_module("file_set", **arguments)
    assert result["written"] == ["node.yaml"]
    (difference,) = result["diff"]
    assert (difference["before"], difference["after"]) == ("name: ca1\n", "name: ca2\n")


def test_wider_mode_is_corrected(arguments, run_module):
    run_module("file_set", **arguments)
    os.chmod(os.path.join(arguments["directory"], "passphrase"), 0o644)
    os.chmod(arguments["directory"], 0o500)
    assert run_module("file_set", **arguments)["written"] == ["passphrase"]
    assert modes(arguments["directory"]) == [0o700, 0o644, 0o600]


def test_secret_is_in_no_result(arguments, run_module):
    first = run_module("file_set", **arguments)
    arguments["secrets"][0]["content"] = "battery staple"
    second = run_module("file_set", **arguments)
    for text in ("correct horse", "battery staple"):
        assert text not in str(first)
        assert text not in str(second)


def test_nothing_is_left_behind_when_a_file_cannot_be_replaced(arguments, run_module):
    os.makedirs(os.path.join(arguments["directory"], "node.yaml", "in the way"))
    result = run_module("file_set", **arguments)
    assert result["failed"]
    assert os.listdir(arguments["directory"]) == ["node.yaml"]


def test_mode_that_is_no_number_is_refused(arguments, run_module):
    assert run_module("file_set", **{**arguments, "directory_mode": "rwx"})["failed"]
