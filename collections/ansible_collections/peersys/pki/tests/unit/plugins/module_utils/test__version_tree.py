# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile

import pytest
from ansible_collections.peersys.pki.plugins.module_utils import _version_tree
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError
from ansible_collections.peersys.pki.plugins.module_utils._version_tree import Archive, VersionTree
from ansible_collections.peersys.pki.plugins.plugin_utils._release_archive import write_archive

ENTRY_POINTS = "[console_scripts]\npeersys = sample.cli:main\n"
MAIN = "def main():\n    print('version {}')\n    return 0\n"


@pytest.fixture
def tree(tmp_path):
    return VersionTree(str(tmp_path / "opt"))


@pytest.fixture
def archive_of(tmp_path):
    def make(version, *, with_bytecode=True):
        packages = tmp_path / f"packages-{version}"
        for path, text in (
            ("sample/__init__.py", ""),
            ("sample/cli.py", MAIN.format(version)),
            (f"peersys-{version}.dist-info/entry_points.txt", ENTRY_POINTS),
        ):
            (packages / path).parent.mkdir(parents=True, exist_ok=True)
            (packages / path).write_text(text)
        path = tmp_path / f"{version}.tar.gz"
        return Archive(
            str(path), *vars_of(write_archive(packages, path, with_bytecode=with_bytecode))
        )

    return make


def vars_of(written):
    return written.sha256, written.unpacked_bytes


def install(tree, archive_of, version):
    tree.install(version, archive_of(version), sys.executable)
    tree.switch(version)


def said_by(tmp_path):
    program = tmp_path / "opt" / "bin" / "peersys"
    return subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip()


def test_installed_version_runs_with_its_own_packages(tree, archive_of, tmp_path):
    assert tree.current() is None
    install(tree, archive_of, "1")
    assert (tree.current(), tree.has("1"), tree.half_made()) == ("1", True, [])
    assert said_by(tmp_path) == "version 1"


def test_bytecode_made_elsewhere_is_used(tree, archive_of, tmp_path):
    install(tree, archive_of, "1")
    library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/sample"
    cache = tmp_path / "opt/versions/1" / library / "__pycache__"
    stored = {path.name: path.stat().st_mtime for path in cache.iterdir()}
    assert stored
    assert set(stored.values()) != {0}
    said_by(tmp_path)
    assert {path.name: path.stat().st_mtime for path in cache.iterdir()} == stored


def test_bytecode_that_the_archive_lacks_is_made(tree, archive_of, tmp_path):
    tree.install("1", archive_of("1", with_bytecode=False), sys.executable)
    names = {path.name for path in (tmp_path / "opt/versions/1").rglob("sample/__pycache__/*.pyc")}
    tag = sys.implementation.cache_tag
    assert names == {f"__init__.{tag}.pyc", f"cli.{tag}.pyc"}


def test_switch_keeps_one_version_to_go_back_to(tree, archive_of, tmp_path):
    for version in ("1", "2", "3"):
        install(tree, archive_of, version)
        tree.prune()
    assert said_by(tmp_path) == "version 3"
    assert sorted(os.listdir(tmp_path / "opt/versions")) == ["2", "3"]
    tree.switch("2")
    tree.prune()
    assert said_by(tmp_path) == "version 2"
    assert sorted(os.listdir(tmp_path / "opt/versions")) == ["2", "3"]


def test_version_that_lost_a_file_is_half_made_and_replaced(tree, archive_of, tmp_path):
    install(tree, archive_of, "1")
    (tmp_path / "opt/versions/1/pyvenv.cfg").write_text("")
    assert not tree.has("1")
    assert tree.half_made() == ["1"]
    install(tree, archive_of, "1")
    assert tree.has("1")


def test_what_an_ended_run_left_is_half_made_and_pruned(tree, archive_of, tmp_path):
    install(tree, archive_of, "1")
    (tmp_path / "opt/versions/.making-2/site-packages").mkdir(parents=True)
    assert tree.half_made() == [".making-2"]
    tree.prune()
    assert tree.half_made() == []


def test_altered_archive_is_refused_and_leaves_nothing(tree, archive_of, tmp_path):
    archive = archive_of("1")._replace(sha256="0" * 64)
    with pytest.raises(HostError, match="another SHA-256"):
        tree.install("1", archive, sys.executable)
    assert os.listdir(tmp_path / "opt/versions") == []


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../../outside"])
def test_archive_that_reaches_outside_is_refused(tree, archive_of, name, tmp_path):
    path = tmp_path / "hostile.tar"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    digest = _version_tree.hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(HostError, match="outside"):
        tree.install("1", Archive(str(path), digest, 1), sys.executable)
    assert not (tmp_path / "opt/outside").exists()


def test_full_disk_is_foreseen(tree, archive_of):
    archive = archive_of("1")._replace(unpacked_bytes=1 << 60)
    with pytest.raises(HostError, match=r"no space is left .* MB are needed.*Remedy: free"):
        tree.install("1", archive, sys.executable)


def test_removed_tree_leaves_nothing(tree, archive_of, tmp_path):
    install(tree, archive_of, "1")
    assert tree.exists()
    tree.remove()
    assert not (tmp_path / "opt").exists()
    assert not tree.exists()
