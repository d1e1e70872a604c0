"""What a specification of a crypto token must say."""

from __future__ import annotations

from typing import Any

import pytest

from node_agent.errors import ConfigError
from node_agent.functions.plan import Step, check_objects
from node_agent.functions.token_rules import check_crypto_token
from node_agent.objects import CryptoTokenSpec

GOOD = {"kind": "pkcs11", "module": "/m.so", "token_label": "t", "pin_file": "/pin"}


def check(**fields: Any) -> None:
    check_crypto_token(CryptoTokenSpec(name="hsm", **fields), "crypto_tokens.hsm")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"token_label": None, "slot": 0},
        {"token_label": None, "token_serial": "1"},
        {"pin_file": None, "pin_credential": "pkcs11_pin"},
    ],
)
def test_a_token_that_can_be_found_and_opened_is_accepted(changes: dict[str, Any]) -> None:
    check(**{**GOOD, **changes})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"module": None}, "module"),
        ({"module": "m.so"}, "absolute path"),
        ({"token_label": None}, "several tokens"),
        ({"pin_file": None}, "exactly one"),
        ({"pin_credential": "x"}, "exactly one"),
        ({"pin_file": "pin"}, "pin_file"),
        ({"pin_file": None, "pin_credential": "../pin"}, "pin_credential"),
        ({"kind": "soft"}, "pkcs11"),
    ],
)
def test_a_token_that_can_not_be_found_or_opened_is_refused(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        check(**{**GOOD, **changes})


def test_the_kind_of_a_token_is_for_good() -> None:
    soft, hard = CryptoTokenSpec(name="hsm"), CryptoTokenSpec(name="hsm", **GOOD)
    with pytest.raises(ConfigError, match=r"crypto_tokens.hsm.kind"):
        check_objects({}, [Step("update", "crypto_tokens", "hsm", soft, hard)])
