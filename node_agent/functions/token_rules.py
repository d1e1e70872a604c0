"""What a crypto token's specification must say, and which keys its kind can hold."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from node_agent.errors import ConfigError
from node_agent.objects import AuthenticatorSpec, CryptoTokenSpec
from node_agent.pki.pkcs11_encoding import PKCS11_KEY_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from node_agent.objects import CertificationAuthoritySpec, ObjectSpec, SignerSpec

__all__ = ["check_crypto_token", "check_key_fits"]

_PLACE: Final = ("token_label", "token_serial", "slot")
_PIN: Final = ("pin_file", "pin_credential")
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9_.-]{1,255}")


def check_crypto_token(spec: CryptoTokenSpec, where: str) -> None:
    """Raise ConfigError unless the fields are those of the token's kind."""
    given = [name for name in ("module", *_PLACE, *_PIN) if getattr(spec, name) is not None]
    if spec.kind == "soft":
        if given:
            raise ConfigError(
                "is for tokens of kind pkcs11", where=f"{where}.{given[0]}", remedy="leave it out"
            )
        return
    if spec.module is None or not PurePosixPath(spec.module).is_absolute():
        raise ConfigError(
            "must be the absolute path of a PKCS #11 module",
            where=f"{where}.module",
            remedy="write one of those in pkcs11_modules of node.yaml",
        )
    if not set(given) & set(_PLACE):
        raise ConfigError(
            "a module may have several tokens", where=where, remedy=f"give {' or '.join(_PLACE)}"
        )
    if len(set(given) & set(_PIN)) != 1:
        raise ConfigError("needs exactly one of pin_file and pin_credential", where=where)
    if spec.pin_file is not None and not PurePosixPath(spec.pin_file).is_absolute():
        raise ConfigError("must be an absolute path", where=f"{where}.pin_file")
    if spec.pin_credential is not None and not _CREDENTIAL.fullmatch(spec.pin_credential):
        raise ConfigError("is no name of a credential", where=f"{where}.pin_credential")


def check_key_fits(
    tokens: Mapping[str, ObjectSpec],
    spec: AuthenticatorSpec | CertificationAuthoritySpec | SignerSpec,
    where: str,
) -> None:
    """Raise ConfigError when the token that ``spec`` names can't hold its key."""
    token = tokens.get(spec.crypto_token)
    if not isinstance(token, CryptoTokenSpec) or token.kind == "soft":
        return
    if isinstance(spec, AuthenticatorSpec):
        raise ConfigError(
            "TLS needs an authenticator's key in memory, and a pkcs11 token never gives one out",
            where=f"{where}.crypto_token",
            remedy="name a soft token",
        )
    if spec.key_kind not in PKCS11_KEY_KINDS:
        raise ConfigError(
            f"a pkcs11 token has no {spec.key_kind} keys",
            where=f"{where}.key_kind",
            remedy=f"use one of {', '.join(PKCS11_KEY_KINDS)}",
        )
