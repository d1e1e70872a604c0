"""Where the CRLs of a CA are: one list, or parts that certificates are divided among.

A CA has one list at ``http://host/crl/issuing.crl``. Divided into N shards, certificates are issued
with ``http://host/crl/issuing/1.crl`` … ``N.crl`` as their distribution point, and the first list
goes on for those that name it: issued before, or without a part. Each list then carries a critical
issuing distribution point with the very URLs that its certificates name (RFC 5280 section 5.2.5),
so that nobody takes one for the whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MOST_SHARDS", "SUFFIX", "delta_urls", "full_urls", "issuing_urls"]

SUFFIX: Final = ".crl"

MOST_SHARDS: Final = 256
"""Each is a list of its own to sign before the last one ends."""


def full_urls(urls: Sequence[str], shard: int) -> tuple[str, ...]:
    """Return where the full list of a shard is; ``urls`` are the CA's own."""
    return tuple(urls) if shard == 0 else tuple(f"{_stem(url)}/{shard}{SUFFIX}" for url in urls)


def delta_urls(urls: Sequence[str], shard: int) -> tuple[str, ...]:
    """Return where the delta list of a shard is; nothing for URLs that don't end in ``.crl``."""
    if not all(url.endswith(SUFFIX) for url in urls):
        return ()
    return tuple(f"{_stem(url)}-delta{SUFFIX}" for url in full_urls(urls, shard))


def issuing_urls(urls: Sequence[str], shard: int, *, shards: int) -> tuple[str, ...]:
    """Return the issuing distribution point of a shard's lists; none where there is one list."""
    return full_urls(urls, shard) if shards else ()


def _stem(url: str) -> str:
    return url.removesuffix(SUFFIX)
