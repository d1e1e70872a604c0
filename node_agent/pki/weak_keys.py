"""Public keys whose private half is easily found.

Kept to checks that need no network and no list: the modulus must be free of small factors, of
close primes (Fermat, CVE-2022-26320) and of the structure of Infineon's library (ROCA,
CVE-2017-15361); the exponent must be usual. ``docs/why/issuing.md`` says why there is no list of
known bad keys.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import rsa

if TYPE_CHECKING:
    from node_agent.pki.keys import PublicKey

__all__ = ["weakness"]

_SMALL_PRIME_LIMIT = 1 << 14
# ROCA primes are k * M + (65537 ** a mod M) with M the product of the primes to at least 167; a
# random modulus has such residues for all of them with a chance of about 2 ** -155.
_ROCA_PRIME_LIMIT = 168
_ROCA_GENERATOR = 65537
# A hundred steps find primes whose difference is below about 2 ** (bits / 4) * 20: every faulty
# generator known so far, and no sound one in the age of the universe.
_FERMAT_STEPS = 100
_SMALLEST_EXPONENT = 65537
_LARGEST_EXPONENT = (1 << 32) - 1
_SQUARES_MOD_256 = frozenset(value * value % 256 for value in range(256))


def weakness(public_key: PublicKey) -> str:
    """Return why the key must not be certified, or an empty string.

    EC, Ed25519 and ML-DSA keys were validated when they were decoded (a point off its curve
    doesn't load), and their groups have no cofactor that matters for signatures.
    """
    if not isinstance(public_key, rsa.RSAPublicKey):
        return ""
    numbers = public_key.public_numbers()
    if not _SMALLEST_EXPONENT <= numbers.e <= _LARGEST_EXPONENT or numbers.e % 2 == 0:
        return f"its public exponent is not an odd number of at least {_SMALLEST_EXPONENT}"
    if math.gcd(numbers.n, _product_of_small_primes()) != 1:
        return "its modulus has a small factor"
    if has_roca_fingerprint(numbers.n):
        return "its modulus has the structure of CVE-2017-15361 (ROCA)"
    if has_close_primes(numbers.n):
        return "its primes are too close to each other (CVE-2022-26320)"
    return ""


def _primes_below(limit: int) -> list[int]:
    sieve = bytearray([1]) * limit
    sieve[0:2] = b"\x00\x00"
    for candidate in range(2, math.isqrt(limit) + 1):
        if sieve[candidate]:
            sieve[candidate * candidate :: candidate] = bytes(
                len(range(candidate * candidate, limit, candidate))
            )
    return [number for number in range(limit) if sieve[number]]


@functools.cache
def _product_of_small_primes() -> int:
    return math.prod(_primes_below(_SMALL_PRIME_LIMIT))


@functools.cache
def _roca_residues() -> tuple[tuple[int, frozenset[int]], ...]:
    """For each odd prime, the residues that powers of the generator reach."""
    table = []
    for prime in _primes_below(_ROCA_PRIME_LIMIT)[1:]:
        reached, value = set(), 1
        while value not in reached:
            reached.add(value)
            value = value * _ROCA_GENERATOR % prime
        table.append((prime, frozenset(reached)))
    return tuple(table)


def has_roca_fingerprint(modulus: int) -> bool:
    """Tell whether every small residue of ``modulus`` is a power of 65537."""
    return all(modulus % prime in reached for prime, reached in _roca_residues())


def has_close_primes(modulus: int) -> bool:
    """Tell whether Fermat's method factors ``modulus`` within a hundred steps."""
    middle = math.isqrt(modulus)
    if middle * middle == modulus:
        return True
    middle += 1
    rest = middle * middle - modulus
    for _ in range(_FERMAT_STEPS):
        if rest % 256 in _SQUARES_MOD_256 and math.isqrt(rest) ** 2 == rest:
            return True
        rest += 2 * middle + 1
        middle += 1
    return False
