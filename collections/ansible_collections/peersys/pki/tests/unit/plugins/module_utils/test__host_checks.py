# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys
import time

import pytest
from ansible_collections.peersys.pki.plugins.module_utils import _host_checks as checks
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError


def test_target_is_that_of_the_python_asked():
    target = checks.target_of(sys.executable)
    assert target["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert set(target) == {"python", "machine", "glibc"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            '{"implementation": "CPython", "version": [3, 9], "machine": "x86_64", "libc": "glibc 2.31"}',
            "needs CPython 3.11",
        ),
        (
            '{"implementation": "PyPy", "version": [3, 11], "machine": "x86_64", "libc": "glibc 2.36"}',
            "PyPy",
        ),
        (
            '{"implementation": "CPython", "version": [3, 11], "machine": "riscv64", "libc": "glibc 2.36"}',
            "no wheels for riscv64",
        ),
        (
            '{"implementation": "CPython", "version": [3, 12], "machine": "x86_64", "libc": null}',
            "no GNU C library",
        ),
        ("Traceback", "can't be run"),
    ],
)
def test_host_that_cannot_run_the_agent_is_refused(answer, said, monkeypatch):
    monkeypatch.setattr(checks, "run_command", lambda *command: answer)
    with pytest.raises(HostError, match=said) as refused:
        checks.target_of("python3")
    assert "Remedy: " in str(refused.value)


def test_missing_python_is_refused():
    with pytest.raises(HostError, match="no program python9"):
        checks.target_of("python9")


@pytest.mark.parametrize(("offset", "said"), [(86400, "ahead of"), (-86400, "behind")])
def test_clock_off_by_a_day_is_refused(offset, said):
    with pytest.raises(HostError, match=f"8(640[0-9]|639[0-9]) s {said}"):
        checks.check_clock(time.time() - offset, 300)


def test_clock_within_tolerance_passes():
    assert checks.check_clock(time.time() - 200, 300) is None


def test_address_of_another_host_is_refused():
    with pytest.raises(HostError, match=r"doesn't have the address 203\.0\.113\.77"):
        checks.check_addresses(["127.0.0.1", "ra1.example.org", "203.0.113.77"])


def test_own_addresses_and_names_pass():
    assert checks.check_addresses(["127.0.0.1", "localhost"]) is None


def test_unknown_group_is_refused_and_none_is_fine():
    checks.check_group("")
    with pytest.raises(HostError, match="no group nobody-has-this"):
        checks.check_group("nobody-has-this")
