from __future__ import annotations

import configparser
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools import collection_tests

if TYPE_CHECKING:
    import pytest


def test_bootstrap_script_has_the_name_that_ansible_test_looks_for() -> None:
    assert re.fullmatch(r"get_pip_\d+(_\d+)+\.py", collection_tests._bootstrap_name())


def test_pip_settings_of_the_caller_are_kept_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection_tests, "HOME", tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@packages.example.org/simple")
    collection_tests._write_pip_settings()
    path = tmp_path / ".config/pip/pip.conf"
    settings = configparser.RawConfigParser()
    settings.read(path)
    assert settings["global"]["index-url"] == "https://user:secret@packages.example.org/simple"
    assert path.stat().st_mode & 0o777 == 0o600


def test_artifact_is_named_as_galaxy_names_it() -> None:
    assert re.fullmatch(r"peersys-pki-\d+\.\d+\.\d+\.tar\.gz", collection_tests._artifact_name())


def test_programs_of_the_environment_come_first_and_no_setting_comes_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", "/etc/ansible/ansible.cfg")
    monkeypatch.setenv("HOME", "/home/somebody")
    environment = collection_tests._environment(Path("/home/tests"))
    assert environment["PATH"].split(":")[0] == str(Path(sys.executable).parent)
    assert environment["HOME"] == "/home/tests"
    assert "ANSIBLE_CONFIG" not in environment


def test_shares_hold_every_target_once_and_each_some_of_those_that_take_longest() -> None:
    shares = [collection_tests._shared_targets(number, 2) for number in (1, 2)]
    targets = {
        path.name for path in (collection_tests.COLLECTION / collection_tests.TARGETS).iterdir()
    }
    assert sorted(shares[0] + shares[1]) == sorted(targets - {"setup_agent", "setup_pki"})
    assert [share[0] for share in shares] == ["certificate", "peer_info"]


def test_artifact_with_what_tests_left_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert collection_tests._complain_of_strays(tmp_path) == 0
    (tmp_path / "plugins/modules/__pycache__").mkdir(parents=True)
    assert collection_tests._complain_of_strays(tmp_path) == 1
    assert "plugins/modules/__pycache__" in capsys.readouterr().err
