# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
import yaml

FILES = {"host_vars/ca1/vault.yml": ["node_passphrase"], "group_vars/store/vault.yml": ["a", "b"]}


@pytest.fixture
def make(run_module, tmp_path):
    """Make the files below the test's directory."""
    return lambda files=FILES, **more: run_module(
        "secret_files", directory=str(tmp_path), files=files, **more
    )


def test_files_are_made_once_and_only_for_their_owner(make, tmp_path):
    first, second = make(), make()
    assert (first["changed"], first["written"]) == (True, list(FILES))
    assert (second["changed"], second["kept"]) == (False, list(FILES))
    for name in FILES:
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
        assert [path.name for path in (tmp_path / name).parent.iterdir()] == ["vault.yml"]


def test_each_secret_is_a_long_text_of_its_own(make, tmp_path):
    make()
    made = [
        value for name in FILES for value in yaml.safe_load((tmp_path / name).read_text()).values()
    ]
    assert len(set(made)) == 3
    assert {(type(value), len(value)) for value in made} == {(str, 64)}


def test_no_secret_is_returned(make, tmp_path):
    told = json.dumps(make())
    for name in FILES:
        for value in yaml.safe_load((tmp_path / name).read_text()).values():
            assert value not in told


def test_dry_run_makes_nothing(make, tmp_path):
    assert make(check_mode=True)["written"] == list(FILES)
    assert list(tmp_path.iterdir()) == []


def test_encrypted_file_stays_as_it_is(make, tmp_path):
    path = tmp_path / "vault.yml"
    path.write_text("$ANSIBLE_VAULT;1.1;AES256\n00\n")
    assert make({"vault.yml": ["a"]})["kept"] == ["vault.yml"]
    assert path.read_text().endswith("00\n")


def test_file_that_lacks_a_variable_is_named_before_any_is_made(make, tmp_path):
    (tmp_path / "own.yml").write_text("a: 1\n")
    told = make({"own.yml": ["a", "b"], "new.yml": ["c"]})
    assert told["msg"] == f"{tmp_path}/own.yml is there without b: add it there"
    assert not (tmp_path / "new.yml").exists()
