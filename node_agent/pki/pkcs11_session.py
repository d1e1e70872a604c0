"""A PKCS #11 token as a signing worker sees it: one session of its own, logged in once.

Loaded only in worker processes. The module is code of others in C: what it breaks is a worker, and
a session that is lost is got back by starting another one. Nothing here tries a PIN twice.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, TokenFlag

from node_agent.errors import TokenClosed, TokenError, TokenLost
from node_agent.pki.keys import RSA_BITS, start_digest, verify, verify_digest
from node_agent.pki.pkcs11_encoding import (
    PKCS11_KEY_KINDS,
    curve_parameters,
    digest_info,
    ec_spki,
    ecdsa_signature,
    rsa_spki,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node_agent.pki.signing_tasks import (
        DiscardTask,
        GenerateTask,
        OpenPkcs11Task,
        SignTask,
    )

__all__ = ["Pkcs11Keys"]

# How many octets a key's CKA_ID has: random, so that no two nodes or stores choose the same.
_ID_OCTETS = 16
_PROOF = b"a key that was just made signs this"

_PIN_REFUSED = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinExpired)
_LOST = (
    pkcs11.DeviceError,
    pkcs11.DeviceRemoved,
    pkcs11.FunctionFailed,
    pkcs11.GeneralError,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
    pkcs11.OperationActive,
    pkcs11.SessionClosed,
    pkcs11.SessionHandleInvalid,
    pkcs11.TokenNotPresent,
    pkcs11.UserNotLoggedIn,
)
_UNKNOWN_KIND = (
    pkcs11.AttributeTypeInvalid,
    pkcs11.AttributeValueInvalid,
    pkcs11.DomainParamsInvalid,
    pkcs11.FunctionNotSupported,
    pkcs11.KeySizeRange,
    pkcs11.MechanismInvalid,
    pkcs11.MechanismParamInvalid,
    pkcs11.TemplateInconsistent,
)


class Pkcs11Keys:
    """Implements ``signing_worker.OpenedToken``. Raises TokenClosed when the PIN is refused,
    TokenError when module or token aren't there.
    """

    def __init__(self, task: OpenPkcs11Task) -> None:
        self._name = task.token_name
        with self._translated("can't be opened"):
            self._session = _log_in(task)
        self._found: dict[bytes, Any] = {}

    def sign(self, task: SignTask) -> bytes:
        """Return the signature, checked with the key's recorded public half.

        Raises TokenLost when the session is gone, TokenError.
        """
        with self._translated("can't sign"):
            signature = self._signature(self._private(task.private_part), task)
        check = verify_digest if task.is_digest else verify
        if not check(task.public_der, signature, task.data):
            raise TokenError(
                f"crypto token {self._name!r} signs with another key than the recorded one; "
                "see whether its objects were replaced"
            )
        return signature

    def generate(self, task: GenerateTask) -> tuple[bytes, bytes]:
        """Return CKA_ID and public half of a new key that never leaves the token.

        Raises TokenLost, TokenError.
        """
        if task.kind not in PKCS11_KEY_KINDS:
            raise TokenError(f"crypto token {self._name!r} is never asked for {task.kind} keys")
        identifier = secrets.token_bytes(_ID_OCTETS)
        with self._translated(f"can't make a key of kind {task.kind}"):
            public, private = self._make(task.kind, task.label, identifier)
        try:
            spki = self._proven(task.kind, public, private)
        except BaseException:
            self.discard_objects(identifier)
            raise
        return identifier, spki

    def discard(self, task: DiscardTask) -> None:
        """Destroy a key that nothing uses. Raises TokenLost, TokenError."""
        self._found.pop(task.private_part, None)
        with self._translated("can't remove a key"):
            self.discard_objects(task.private_part)

    def discard_objects(self, identifier: bytes) -> None:
        """Destroy both halves of a key."""
        for found in list(self._session.get_objects({Attribute.ID: identifier})):
            found.destroy()

    def close(self) -> None:
        """Log out. The token may be gone already."""
        with contextlib.suppress(pkcs11.PKCS11Error):
            self._session.close()

    def _make(self, kind: str, label: str, identifier: bytes) -> tuple[Any, Any]:
        options = {
            "id": identifier,
            "label": label,
            "store": True,
            "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
            "private_template": {
                Attribute.PRIVATE: True,
                Attribute.SENSITIVE: True,
                Attribute.EXTRACTABLE: False,
            },
        }
        made: tuple[Any, Any]
        if kind in RSA_BITS:
            made = self._session.generate_keypair(KeyType.RSA, RSA_BITS[kind], **options)
            return made
        key_type = KeyType.EC_EDWARDS if kind == "ed25519" else KeyType.EC
        curve = self._session.create_domain_parameters(
            key_type, {Attribute.EC_PARAMS: curve_parameters(kind)}, local=True
        )
        if kind == "ed25519":
            options["mechanism"] = Mechanism.EC_EDWARDS_KEY_PAIR_GEN
        made = curve.generate_keypair(**options)
        return made

    def _proven(self, kind: str, public: Any, private: Any) -> bytes:
        """Return the public half of a key that was seen to sign and that can't be taken out."""
        with self._translated("can't show the key that it made"):
            if private[Attribute.EXTRACTABLE] or not private[Attribute.SENSITIVE]:
                raise TokenError(
                    f"crypto token {self._name!r} makes keys that could be taken out of it; "
                    "see how the token is set up"
                )
            spki = _spki(kind, public)
            signature = self._raw_signature(private, kind, _digested(kind, spki, _PROOF))
        if not verify(spki, signature, _PROOF):
            raise TokenError(f"crypto token {self._name!r} makes {kind} keys that don't sign")
        return spki

    def _private(self, identifier: bytes) -> Any:
        key = self._found.get(identifier)
        if key is None:
            wanted = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: identifier}
            matching = list(self._session.get_objects(wanted))
            if len(matching) != 1:
                # Lost, because some modules show an old session no object that is newer.
                raise TokenLost(
                    f"crypto token {self._name!r} has {len(matching) or 'no'} private keys with "
                    f"id {identifier.hex()}; restore the token from its backup, or make the "
                    "object that used the key anew"
                )
            key = self._found[identifier] = matching[0]
        return key

    def _signature(self, key: Any, task: SignTask) -> bytes:
        data = task.data
        if not task.is_digest:
            data = _digested(task.kind, task.public_der, data)
        return self._raw_signature(key, task.kind, data)

    def _raw_signature(self, key: Any, kind: str, data: bytes) -> bytes:
        """Return the signature of a digest, or with Ed25519 of a message."""
        if kind == "ed25519":
            return bytes(key.sign(data, mechanism=Mechanism.EDDSA))
        if kind in RSA_BITS:
            return bytes(key.sign(digest_info(kind, data), mechanism=Mechanism.RSA_PKCS))
        return ecdsa_signature(key.sign(data, mechanism=Mechanism.ECDSA))

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Turn the module's errors into ours, which name the token and what to do."""
        token = f"crypto token {self._name!r}"
        try:
            yield
        except _PIN_REFUSED as error:
            raise TokenClosed(
                f"{token} refuses its PIN ({type(error).__name__}). It is not tried again, for "
                "tokens lock after a few wrong ones: put the right PIN in its file, then run "
                f"`peersys crypto-token open {self._name}`"
            ) from error
        except (pkcs11.PinLocked, pkcs11.UserPinNotInitialized) as error:
            raise TokenClosed(
                f"{token} has a locked or no user PIN ({type(error).__name__}). Set one with the "
                f"token's own tool, then run `peersys crypto-token open {self._name}`"
            ) from error
        except pkcs11.DeviceMemory as error:
            raise TokenError(
                f"{token} is full: remove what it doesn't need with the token's own tool"
            ) from error
        except pkcs11.TokenWriteProtected as error:
            raise TokenError(f"{token} {what}: it is write-protected") from error
        except _LOST as error:
            raise TokenLost(
                f"{token} {what}: its session is lost ({type(error).__name__}); see that the "
                "token is there and that its module reaches it"
            ) from error
        except _UNKNOWN_KIND as error:
            raise TokenError(
                f"{token} {what}: its module doesn't know how ({type(error).__name__}); choose "
                "another key_kind"
            ) from error
        except pkcs11.PKCS11Error as error:
            said = f"{type(error).__name__} {error}".strip()
            raise TokenError(f"{token} {what}: {said}") from error


def _log_in(task: OpenPkcs11Task) -> Any:
    library = pkcs11.lib(task.module)
    found = _find_token(library, task)
    again = f"then run `peersys crypto-token open {task.token_name}`"
    if found.flags & TokenFlag.USER_PIN_LOCKED:
        raise TokenClosed(
            f"crypto token {task.token_name!r} has its user PIN locked. Unlock it with the "
            f"token's own tool, {again}"
        )
    if found.flags & TokenFlag.USER_PIN_FINAL_TRY and not task.is_ordered:
        raise TokenClosed(
            f"crypto token {task.token_name!r} would lock at the next wrong PIN, so it isn't "
            f"tried. Make sure of the PIN, {again}"
        )
    return found.open(rw=True, user_pin=task.pin)


def _find_token(library: Any, task: OpenPkcs11Task) -> Any:
    tokens = [slot.get_token() for slot in library.get_slots(token_present=True)]
    matching = [
        token
        for token in tokens
        if task.label in (None, token.label)
        and task.serial in (None, token.serial.decode("ascii", "replace").strip("\0 "))
        and task.slot in (None, token.slot.slot_id)
    ]
    if len(matching) == 1:
        return matching[0]
    there = ", ".join(
        f"{token.label!r} (serial {token.serial.decode('ascii', 'replace')})"
        for token in tokens
        if token.flags & TokenFlag.TOKEN_INITIALIZED
    )
    raise TokenError(
        f"crypto token {task.token_name!r}: {len(matching) or 'no'} tokens of {task.module} have "
        f"that token_label, token_serial and slot; there are: {there or 'none'}"
    )


def _digested(kind: str, spki: bytes, data: bytes) -> bytes:
    """Return what the token is given of a message: its digest, or with Ed25519 all of it."""
    digest = start_digest(kind, spki)
    if digest is None:
        return data
    digest.update(data)
    return digest.finalize()


def _spki(kind: str, public: Any) -> bytes:
    if kind in RSA_BITS:
        return rsa_spki(kind, public[Attribute.MODULUS], public[Attribute.PUBLIC_EXPONENT])
    return ec_spki(kind, public[Attribute.EC_POINT])
