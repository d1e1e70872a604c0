"""docs/reference/profiles.md names everything that a profile can say."""

from __future__ import annotations

from pathlib import Path

import pytest

from node_agent.objects import CertificateProfileSpec, SanRule, SubjectRule
from node_agent.pki.keys import KEY_KINDS
from node_agent.pki.names import ATTRIBUTES, san_kinds
from node_agent.pki.usages import EXTENDED_KEY_USAGES, KEY_USAGES

PAGE = (Path(__file__).parents[2] / "docs/reference/profiles.md").read_text(encoding="utf-8")
WORDS = [
    *CertificateProfileSpec.__struct_fields__,
    *SubjectRule.__struct_fields__,
    *SanRule.__struct_fields__,
    *ATTRIBUTES,
    *san_kinds(),
    *KEY_KINDS,
    *KEY_USAGES,
    *EXTENDED_KEY_USAGES,
]


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"name", "kind", "attribute"}))
def test_page_names_the_word(word):
    assert f"`{word}`" in PAGE


def test_example_of_the_page_is_a_profile_without_findings():
    import msgspec
    import yaml

    from node_agent.pki.profile import Profile
    from node_agent.pki.sample_lint import lint_profile_sample
    from tests.support.csrs import NOW, issuing_ca

    example = PAGE.split("```yaml\n")[1].split("```")[0]
    (raw,) = yaml.safe_load(example)["certificate_profiles"]
    profile = Profile.from_spec(msgspec.convert(raw, CertificateProfileSpec))
    assert lint_profile_sample(profile, issuing_ca(), now=NOW) == []
