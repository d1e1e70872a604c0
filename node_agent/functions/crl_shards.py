"""What a division of a CA's CRL must keep to: certificates name their part, for as long as they
live.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from node_agent.errors import ConfigError
from node_agent.pki.crl_points import MOST_SHARDS, SUFFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.objects import CertificationAuthoritySpec

__all__ = ["check_shards", "check_shards_kept", "shard_named_in"]


def check_shards(spec: CertificationAuthoritySpec, where: str) -> None:
    """Raise ConfigError for a number of shards that this CA can't have."""
    shards = spec.crl.shards
    if not 0 <= shards <= MOST_SHARDS:
        raise ConfigError(f"must be from 0 to {MOST_SHARDS}", where=where)
    if not shards:
        return
    if spec.kind == "management":
        raise ConfigError(
            "peer links check against one list: a management CA's can't be divided",
            where=where,
            remedy="leave it out",
        )
    if not spec.crl_urls or not all(url.endswith(SUFFIX) for url in spec.crl_urls):
        raise ConfigError(
            "a divided CRL needs crl_urls, each ending in .crl",
            where=where,
            remedy=f"write http://host/crl/{spec.name}.crl",
        )


def check_shards_kept(
    before: CertificationAuthoritySpec, wanted: CertificationAuthoritySpec, where: str
) -> None:
    """Raise ConfigError for a change after which issued certificates would name lists that are no
    longer made, or say of themselves that they are others.
    """
    if wanted.crl.shards < before.crl.shards:
        raise ConfigError(
            f"is {before.crl.shards} and can't be lowered: certificates name their shard",
            where=f"{where}.crl.shards",
            remedy="raise it, or leave it as it is",
        )
    gone = set(before.crl_urls) - set(wanted.crl_urls)
    if before.crl.shards and gone:
        raise ConfigError(
            f"lacks {min(gone)}, which certificates name: with shards, lists must name it too",
            where=f"{where}.crl_urls",
            remedy="keep it, and add others beside it",
        )


def shard_named_in(certificate: x509.Certificate, urls: Sequence[str]) -> int:
    """Return which shard a certificate names as its distribution point; 0 for none of them.

    ``urls`` are the CA's ``crl_urls``.
    """
    try:
        points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    except x509.ExtensionNotFound:
        return 0
    for point in points:
        for name in point.full_name or ():
            for url in urls:
                shard = str(name.value).removeprefix(url.removesuffix(SUFFIX) + "/")
                number = shard.removesuffix(SUFFIX)
                if shard.endswith(SUFFIX) and number.isdecimal() and int(number) <= MOST_SHARDS:
                    return int(number)
    return 0
