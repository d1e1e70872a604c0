# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.peersys.pki.plugins.module_utils._claim import Claim
from ansible_collections.peersys.pki.plugins.module_utils._host import HostError


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "peersys" / "claim.json")


def test_claim_is_made_once_and_its_owner_comes_back(path):
    claim = Claim(path, "pki.example.org", "ra1")
    claim.check()
    assert not claim.is_made()
    claim.make()
    Claim(path, "pki.example.org", "ra1").check()
    assert claim.is_made()


@pytest.mark.parametrize("other", [("other.example.org", "ra1"), ("pki.example.org", "ra2")])
def test_another_owner_is_refused_with_both_names_and_a_remedy(path, other):
    Claim(path, "pki.example.org", "ra1").make()
    with pytest.raises(HostError) as refused:
        Claim(path, *other).check()
    said = str(refused.value)
    assert "node ra1 of pki.example.org" in said
    assert f"node {other[1]} of {other[0]}" in said
    assert "Remedy: " in said
    assert "decommission.yml" in said


def test_claim_cut_short_by_a_crash_claims_nothing(path, tmp_path):
    (tmp_path / "peersys").mkdir()
    (tmp_path / "peersys" / "claim.json").write_text('{"nod')
    claim = Claim(path, "pki.example.org", "ra1")
    claim.check()
    assert not claim.is_made()


def test_removed_claim_leaves_nothing(path, tmp_path):
    claim = Claim(path, "pki.example.org", "ra1")
    claim.make()
    claim.remove()
    claim.remove()
    assert list(tmp_path.iterdir()) == []
