"""Weak RSA keys, made weak on purpose with the mathematics of each attack."""

from __future__ import annotations

import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from node_agent.pki import weak_keys
from node_agent.pki.keys import KEY_KINDS
from tests.support.csrs import key_of_kind


def is_prime(number, rounds=12):
    if any(number % prime == 0 for prime in weak_keys._primes_below(2000)):
        return False
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for _ in range(rounds):
        value = pow(random.randrange(2, number - 1), odd, number)
        if value in (1, number - 1):
            continue
        for _ in range(twos - 1):
            value = value * value % number
            if value == number - 1:
                break
        else:
            return False
    return True


def next_prime(number):
    number |= 1
    while not is_prime(number):
        number += 2
    return number


def public(modulus, exponent=65537):
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


def roca_prime(bits):
    """A prime as Infineon's library made them: k * M + 65537 ** a mod M."""
    product = math.prod(weak_keys._primes_below(168))
    while True:
        candidate = random.getrandbits(bits - product.bit_length()) * product + pow(
            65537, random.getrandbits(64), product
        )
        if candidate.bit_length() >= bits - 2 and is_prime(candidate):
            return candidate


@pytest.mark.parametrize("kind", KEY_KINDS)
def test_sound_keys_pass(kind):
    assert weak_keys.weakness(key_of_kind(kind).public_key()) == ""


def test_roca_structure_is_found():
    modulus = roca_prime(512) * roca_prime(512)
    assert weak_keys.has_roca_fingerprint(modulus)
    assert "ROCA" in weak_keys.weakness(public(modulus))


def test_close_primes_are_found():
    first = next_prime(random.getrandbits(512) | 1 << 511)
    second = next_prime(first + 2**250)
    assert weak_keys.has_close_primes(first * second)
    assert "close" in weak_keys.weakness(public(first * second))


def test_square_modulus_is_found():
    prime = next_prime(random.getrandbits(512) | 1 << 511)
    assert weak_keys.has_close_primes(prime * prime)


@pytest.mark.parametrize("factor", [3, 751, 16381])
def test_small_factor_is_found(factor):
    modulus = factor * key_of_kind("rsa-2048").public_key().public_numbers().n
    assert "small factor" in weak_keys.weakness(public(modulus))


@pytest.mark.parametrize("exponent", [3, 17, 65535, (1 << 32) + 1, (1 << 255) + 1])
def test_unusual_exponent_is_found(exponent):
    modulus = key_of_kind("rsa-2048").public_key().public_numbers().n
    assert "exponent" in weak_keys.weakness(public(modulus, exponent))


def test_prime_sieve_knows_its_primes():
    assert weak_keys._primes_below(30) == [2, 3, 5, 7, 11, 13, 17, 19, 23, 29]
    assert len(weak_keys._primes_below(1 << 14)) == 1900
