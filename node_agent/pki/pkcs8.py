"""Private keys at rest: PKCS #8 EncryptedPrivateKeyInfo under PBES2, scrypt and AES-256-CBC.

``cryptography`` writes PBKDF2 with 2,048 rounds, which a stolen database would not survive, so the
envelope is written here (RFC 8018 section 6.2, RFC 7914 section 7). All keys of a token share one
scrypt salt: the derivation, deliberately slow, runs once per process and not once per key, and
ten thousand keys open in the time of their AES decryption. Each key has its own IV.

CBC carries no authentication: whoever opens a key compares its public half with what is recorded.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import padding, serialization
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from node_agent.errors import TokenError
from node_agent.pki import der

if TYPE_CHECKING:
    from node_agent.pki.keys import PrivateKey

__all__ = ["KeyEncryption", "ScryptCost"]

_PBES2 = der.oid("1.2.840.113549.1.5.13")
_SCRYPT = der.oid("1.3.6.1.4.1.11591.4.11")
_AES256_CBC = der.oid("2.16.840.1.101.3.4.1.42")
_AES_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """scrypt parameters. The default takes 64 MiB and about 0.3 s, the OWASP recommendation."""

    n: int = 2**16
    r: int = 8
    p: int = 2

    def is_acceptable(self) -> bool:
        """Tell whether a stored record may ask for this: a planted one must not eat the memory."""
        return 2 <= self.n <= 2**20 and 1 <= self.r <= 16 and 1 <= self.p <= 16


class KeyEncryption:
    """Encrypts and decrypts private keys with one passphrase; remembers what it derived."""

    def __init__(self, passphrase: bytes, *, cost: ScryptCost | None = None) -> None:
        self._passphrase = passphrase
        self._cost = cost or ScryptCost()
        self._salt = b""
        self._derived: dict[tuple[bytes, ScryptCost], bytes] = {}

    def encrypt(self, private_key: PrivateKey) -> bytes:
        """Return the key as EncryptedPrivateKeyInfo DER."""
        plain = private_key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        self._salt = self._salt or os.urandom(16)
        iv = os.urandom(16)
        padder = padding.PKCS7(128).padder()
        encryptor = self._cipher(self._salt, self._cost, iv).encryptor()
        content = encryptor.update(padder.update(plain) + padder.finalize()) + encryptor.finalize()
        return _envelope(self._salt, self._cost, iv, content)

    def decrypt(self, encrypted: bytes) -> PrivateKey:
        """Return the private key. Raises TokenError for a wrong passphrase or another form."""
        try:
            salt, cost, iv, content = _open_envelope(encrypted)
        except der.DerError as error:
            raise TokenError(f"a stored key is not readable: {error}") from error
        if not cost.is_acceptable():
            raise TokenError("a stored key asks for scrypt parameters beyond all reason")
        try:
            decryptor = self._cipher(salt, cost, iv).decryptor()
            unpadder = padding.PKCS7(128).unpadder()
            plain = unpadder.update(decryptor.update(content) + decryptor.finalize())
            key = serialization.load_der_private_key(plain + unpadder.finalize(), None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            # No cause attached: its text could quote decrypted octets.
            raise TokenError(
                "the passphrase does not open the key; give the passphrase that it was made with"
            ) from None
        # New keys join the salt of the stored ones, so that a process derives once.
        self._salt = self._salt or (salt if cost == self._cost else b"")
        return key  # type: ignore[return-value]  # of a kind that was sealed here

    def _cipher(self, salt: bytes, cost: ScryptCost, iv: bytes) -> Cipher[modes.CBC]:
        key = self._derived.get((salt, cost))
        if key is None:
            kdf = Scrypt(salt=salt, length=_AES_KEY_BYTES, n=cost.n, r=cost.r, p=cost.p)
            key = self._derived[(salt, cost)] = kdf.derive(self._passphrase)
        return Cipher(algorithms.AES256(key), modes.CBC(iv))

    def __repr__(self) -> str:
        return "KeyEncryption(…)"


def _envelope(salt: bytes, cost: ScryptCost, iv: bytes, content: bytes) -> bytes:
    numbers = (der.integer(value) for value in (cost.n, cost.r, cost.p, _AES_KEY_BYTES))
    kdf = der.sequence(_SCRYPT, der.sequence(der.octet_string(salt), *numbers))
    scheme = der.sequence(_AES256_CBC, der.octet_string(iv))
    algorithm = der.sequence(_PBES2, der.sequence(kdf, scheme))
    return der.sequence(algorithm, der.octet_string(content))


def _open_envelope(encrypted: bytes) -> tuple[bytes, ScryptCost, bytes, bytes]:
    """Return salt, cost, IV and ciphertext of exactly the form that ``_envelope`` writes."""
    algorithm, content = _two_fields(der.read_all(encrypted, der.SEQUENCE))
    kdf, scheme = _two_fields(_two_fields(algorithm)[1])
    scrypt = [part for _, part, _ in der.children(_two_fields(kdf)[1])]
    iv = _two_fields(scheme)[1]
    if len(scrypt) != 5:
        raise der.DerError("unexpected scrypt parameters")
    salt, numbers = scrypt[0], [der.decode_integer(part) for part in scrypt[1:4]]
    cost = ScryptCost(*numbers)
    if _envelope(salt, cost, iv, content) != encrypted:
        raise der.DerError("not the form that this token writes")
    return salt, cost, iv, content


def _two_fields(content: bytes) -> tuple[bytes, bytes]:
    parts = [part for _, part, _ in der.children(content)]
    if len(parts) != 2:
        raise der.DerError("unexpected number of fields")
    return parts[0], parts[1]
