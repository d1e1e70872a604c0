# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib
import zipfile

import pytest
from ansible_collections.peersys.pki.plugins.plugin_utils import _wheelhouse
from ansible_collections.peersys.pki.plugins.plugin_utils._agent_source import (
    AgentSource,
    SourceError,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._wheel_target import (
    Target,
    missing_requirements,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._wheelhouse import (
    Wheelhouse,
    WheelhouseError,
)

PYPROJECT = """\
[project]
name = "peersys"
dependencies = ["needed>=1", "other"]
[tool.setuptools.packages.find]
include = ["sample*"]
"""
OLD = Target("3.11", "x86_64", "2.36")
NEW = Target("3.13", "x86_64", "2.41")


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "source"
    (directory / "sample").mkdir(parents=True)
    (directory / "pyproject.toml").write_text(PYPROJECT)
    (directory / "sample" / "cli.py").write_text("x = 1\n")
    return directory


def write_wheel(directory, name, version="1.0", requires=()):
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}-{version}-py3-none-any.whl"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in ((f"{name}/code.py", "y = 2\n"), ("METADATA", metadata)):
            inner = f"{name}-{version}.dist-info/METADATA" if inner == "METADATA" else inner
            wheel.writestr(zipfile.ZipInfo(inner), text)
    return path


class Pip:
    """An index with three projects; ``older`` is needed by ``needed`` on old Pythons only."""

    def __init__(self):
        self.commands = []
        self.pins = []
        self.requires = {"needed": ['older; python_version < "3.12"'], "other": [], "older": []}

    def __call__(self, command, *arguments):
        self.commands.append(command)
        values = [one for one in arguments if not one.startswith("--")]
        if command == "download":
            self.pins.append([one for one in arguments if one.startswith("--constraint=")])
            for requirement in values[1:]:
                name = requirement.partition(">")[0]
                if name not in self.requires:
                    raise WheelhouseError(f"no {name}")
                write_wheel(pathlib.Path(values[0]), name, requires=self.requires[name])
        elif command == "wheel":
            write_wheel(pathlib.Path(values[0]), "peersys", "0.1.0")
        else:
            for wheel in values[1:]:
                zipfile.ZipFile(wheel).extractall(values[0])


@pytest.fixture
def pip(monkeypatch):
    pip = Pip()
    monkeypatch.setattr(_wheelhouse, "_pip", pip)
    return pip


@pytest.fixture
def house(tmp_path, source):
    return lambda: Wheelhouse(str(tmp_path / "house"), AgentSource(str(source)))


def test_condition_is_read_with_the_targets_python(tmp_path):
    needed = write_wheel(tmp_path, "needed", requires=['older; python_version < "3.12"'])
    assert missing_requirements([needed], ["needed"], OLD) == ["older"]
    assert missing_requirements([needed], ["needed"], NEW) == []


def test_extra_brings_its_own_requirements(tmp_path):
    wheel = write_wheel(tmp_path, "driver", requires=['fast>=2; extra == "binary"'])
    assert missing_requirements([wheel], ["driver"], OLD) == []
    assert missing_requirements([wheel], ["driver[binary]"], OLD) == ["fast>=2"]


def test_target_takes_wheels_of_older_c_libraries_only():
    options = OLD.pip_options()
    assert "--platform=manylinux_2_36_x86_64" in options
    assert "--platform=manylinux2014_x86_64" in options
    assert not [one for one in options if "manylinux_2_37" in one]
    assert "--only-binary=:all:" in options


def test_release_is_made_once(house, pip):
    assert house().known() == {}
    release = house().release(OLD, lambda text: None)
    assert pip.commands == ["download", "download", "wheel", "install"]
    assert house().release(OLD, lambda text: None) == release
    assert house().known() == {OLD.tag: release}
    assert len(pip.commands) == 4


def test_changed_source_is_built_with_the_wheels_that_are_there(house, pip, source):
    first = house().release(OLD, lambda text: None)
    pip.commands.clear()
    (source / "sample" / "cli.py").write_text("x = 2\n")
    assert house().known() == {}
    house().release(OLD, lambda text: None)
    assert pip.commands == ["wheel", "install"]
    assert pathlib.Path(first.archive).exists()


def test_wheels_are_those_that_were_tested(house, pip, source):
    house().release(NEW, lambda text: None)
    pins = source / "constraints.txt"
    pins.write_text("needed==1.0\n")
    house().release(NEW, lambda text: None)
    pins.write_text("needed==2.0\n")
    house().release(NEW, lambda text: None)
    assert pip.pins == [[], [f"--constraint={pins}"], [f"--constraint={pins}"]]


def test_same_wheels_make_the_same_release_elsewhere(house, pip, source, tmp_path):
    here = house().release(OLD, lambda text: None)
    elsewhere = Wheelhouse(str(tmp_path / "other"), AgentSource(str(source)))
    there = elsewhere.release(OLD, lambda text: None)
    assert (here.version, here.sha256) == (there.version, there.sha256)
    assert here.version.startswith("0.1.0-")


def test_each_target_has_its_own_release(house, pip):
    assert house().release(OLD, lambda text: None) != house().release(NEW, lambda text: None)
    assert set(house().known()) == {OLD.tag, NEW.tag}


def test_lost_archive_is_made_again(house, pip):
    release = house().release(OLD, lambda text: None)
    pathlib.Path(release.archive).unlink()
    assert house().known() == {}
    assert house().release(OLD, lambda text: None) == release


def test_failed_download_leaves_no_wheels_that_pass_for_whole(house, pip, tmp_path):
    del pip.requires["older"]
    with pytest.raises(WheelhouseError, match="no older"):
        house().release(OLD, lambda text: None)
    assert list((tmp_path / "house/dependencies").iterdir()) == []


def test_old_releases_are_pruned(house, pip, source, tmp_path):
    for number in range(5):
        (source / "sample" / "cli.py").write_text(f"x = {number}\n")
        house().release(OLD, lambda text: None)
    assert len(list((tmp_path / "house/releases").iterdir())) == 3
    assert house().known()


def test_release_says_what_a_host_must_check(house, pip):
    release = house().release(OLD, lambda text: None)
    description = json.loads((pathlib.Path(release.archive).parent / f"{OLD.tag}.json").read_text())
    assert set(description) == {"version", "archive", "sha256", "unpacked_bytes"}


def test_failing_pip_is_explained_with_a_remedy(monkeypatch):
    with pytest.raises(WheelhouseError, match=r"pip frobnicate failed.*Remedy: "):
        _wheelhouse._pip("frobnicate")


def test_extra_of_the_agent_is_brought_only_when_asked(source):
    project = source / "pyproject.toml"
    text = project.read_text("utf-8")
    project.write_text(f'{text}\n[project.optional-dependencies]\nhsm = ["driver"]\n', "utf-8")
    plain, more = AgentSource(str(source)), AgentSource(str(source), ["hsm"])
    assert more.dependencies == sorted([*plain.dependencies, "driver"])
    assert "driver" not in plain.dependencies
    assert more.digest != plain.digest
    with pytest.raises(SourceError, match=r"no extra 'tpm'. Remedy: give node_extras some of hsm"):
        AgentSource(str(source), ["tpm"])


def test_left_overs_of_python_are_no_source(source):
    before = AgentSource(str(source)).digest
    (source / "sample/__pycache__").mkdir()
    (source / "sample/__pycache__/cli.pyc").write_text("")
    (source / "tests").mkdir()
    (source / "tests/test_x.py").write_text("")
    assert AgentSource(str(source)).digest == before


def test_directory_without_source_is_refused_with_a_remedy(tmp_path):
    with pytest.raises(SourceError, match=r"holds no source.*Remedy: set node_source"):
        AgentSource(str(tmp_path))
