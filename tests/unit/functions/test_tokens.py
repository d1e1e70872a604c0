"""The passphrase: from a file that only its owner reads, never a default."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from node_agent.errors import NotFound, TokenError
from node_agent.functions.tokens import Tokens, read_passphrase, read_pin
from node_agent.objects import CryptoTokenSpec

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from node_agent.store.records import KeyRecord

PASSPHRASE = b"correct horse battery staple"


def write(path: Path, content: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_the_final_newline_is_not_part_of_the_passphrase(tmp_path: Path) -> None:
    assert read_passphrase(write(tmp_path / "p", PASSPHRASE + b"\n")) == PASSPHRASE


def test_no_passphrase_is_an_error_with_a_remedy() -> None:
    with pytest.raises(TokenError, match="passphrase_file"):
        read_passphrase(None)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="absent"):
        read_passphrase(tmp_path / "absent")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(TokenError, match="chmod 600"):
        read_passphrase(write(tmp_path / "p", PASSPHRASE, mode))


def test_credential_may_show_the_mask_of_its_access_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_passphrase(write(tmp_path / "p", PASSPHRASE, 0o440)) == PASSPHRASE
    with pytest.raises(TokenError, match="open to others"):
        read_passphrase(write(tmp_path / "q", PASSPHRASE, 0o444))


def test_a_short_passphrase_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenError, match="openssl rand"):
        read_passphrase(write(tmp_path / "p", b"short"))


def test_another_passphrase_does_not_open_the_keys() -> None:
    tokens = Tokens(PASSPHRASE, ())
    tokens.configure([CryptoTokenSpec(name="default")])
    record = tokens.shared("default").generate("key", "ec-p256", created_at=0)
    other = Tokens(b"another passphrase that is long", [record])
    other.configure([CryptoTokenSpec(name="default")])
    with pytest.raises(TokenError):
        other.verify()


def test_keys_survive_a_change_of_activation() -> None:
    tokens = Tokens(PASSPHRASE, ())
    tokens.configure([CryptoTokenSpec(name="root")])
    tokens.shared("root").generate("key", "ec-p256", created_at=0)
    tokens.configure([CryptoTokenSpec(name="root", activation="on_demand")])
    assert tokens.shared("root").activation == "on_demand"
    assert tokens.shared("root").key("key").sign(b"data")


def test_a_token_that_is_not_specified_is_unknown() -> None:
    tokens = Tokens(PASSPHRASE, ())
    tokens.configure([CryptoTokenSpec(name="a"), CryptoTokenSpec(name="b")])
    tokens.configure([CryptoTokenSpec(name="a")])
    with pytest.raises(NotFound):
        tokens.shared("b")


SHARED = b"a passphrase that nodes share"


def tokens_of(
    node: str, records: Iterable[KeyRecord] = (), *, shared: bytes | None = SHARED
) -> Tokens:
    """Return the tokens of ``node``, whose own passphrase is made of its name."""
    own = node.encode().ljust(20, b".")
    tokens = Tokens(own, records, node=node, shared_passphrase=shared)
    tokens.configure([CryptoTokenSpec(name="default")])
    return tokens


def test_what_is_shared_opens_at_each_node_and_what_is_its_own_at_one() -> None:
    one = tokens_of("ca1")
    own = one.own("default").generate("authenticator-peer", "ec-p256", created_at=0)
    common = one.shared("default").generate("authority-issuing", "ec-p256", created_at=0)
    assert (own.node, common.node) == ("ca1", "")
    assert one.labels("default") == ["authenticator-peer", "authority-issuing"]
    tokens_of("ca1", [own, common]).verify()
    tokens_of("ca2", [common]).verify()
    with pytest.raises(TokenError, match="shared passphrase opens none of the keys of token"):
        tokens_of("ca2", [common], shared=b"another shared passphrase").verify()
    with pytest.raises(TokenError, match="shared_passphrase_file"):
        tokens_of("ca2", [common], shared=None).verify()


def test_a_node_that_was_alone_shares_by_sharing_its_passphrase() -> None:
    alone = tokens_of("ca1", shared=None)
    common = alone.shared("default").generate("authority-issuing", "ec-p256", created_at=0)
    tokens_of("ca2", [common], shared=b"ca1".ljust(20, b".")).verify()


def test_keys_of_another_node_are_taken_in_and_tried_until_they_open() -> None:
    common = tokens_of("ca1").shared("default").generate("key", "ec-p256", created_at=0)
    two = tokens_of("ca2")
    two.learn([common, common])
    two.verify_new()
    assert two.shared("default").labels == ["key"]
    wrong = tokens_of("ca3", shared=b"another shared passphrase")
    wrong.learn([common])
    for _ in range(2):
        with pytest.raises(TokenError):
            wrong.verify_new()


HARD = CryptoTokenSpec(
    name="hsm", kind="pkcs11", module="/m.so", token_label="t", pin_file="/nonexistent/pin"
)


def hard(path: Path, **changes: object) -> CryptoTokenSpec:
    return msgspec.structs.replace(HARD, pin_file=str(path), **changes)


def test_a_module_that_the_node_does_not_allow_is_named(tmp_path: Path) -> None:
    tokens = Tokens(PASSPHRASE, (), node="ca1", modules=["/other.so"])
    access = tokens.stage(hard(write(tmp_path / "pin", b"1234\n")))
    assert access is not None
    with pytest.raises(TokenError, match=r"/m\.so isn't among pkcs11_modules"):
        access.open_task()


def test_own_and_shared_keys_of_a_token_have_one_pin(tmp_path: Path) -> None:
    spec = hard(write(tmp_path / "pin", b"1234\n"))
    tokens = Tokens(PASSPHRASE, (), node="ca1", modules=["/m.so"])
    tokens.configure([spec])
    assert tokens.own("hsm").access is tokens.shared("hsm").access is tokens.access("hsm")
    assert "1234" not in repr(tokens.own("hsm").access.open_task())
    before = tokens.access("hsm")
    tokens.configure([spec])
    assert tokens.access("hsm") is before
    tokens.configure([msgspec.structs.replace(spec, token_label="u")])
    assert tokens.access("hsm") is not before


def test_a_plan_that_failed_leaves_no_token(tmp_path: Path) -> None:
    tokens = Tokens(PASSPHRASE, (), node="ca1", modules=["/m.so"])
    tokens.configure([CryptoTokenSpec(name="default")])
    first = tokens.stage(hard(tmp_path / "pin"))
    tokens.unstage()
    with pytest.raises(NotFound):
        tokens.own("hsm")
    assert tokens.stage(hard(tmp_path / "pin")) is not first


@pytest.mark.parametrize(("content", "mode"), [(b"\xff\xfe", 0o600), (b"1234", 0o644)])
def test_a_pin_that_can_not_be_used_is_not_told(tmp_path: Path, content: bytes, mode: int) -> None:
    with pytest.raises(TokenError, match="crypto token 'hsm'") as caught:
        read_pin(hard(write(tmp_path / "pin", content, mode)))
    assert "1234" not in str(caught.value)


def test_a_pin_may_be_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = msgspec.structs.replace(HARD, pin_file=None, pin_credential="pkcs11_pin")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(TokenError, match="passed no credential pkcs11_pin"):
        read_pin(spec)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    write(tmp_path / "pkcs11_pin", b"2468\n", 0o440)
    assert read_pin(spec) == "2468"
