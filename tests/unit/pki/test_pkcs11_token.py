"""Keys in SoftHSM2: made there, used by workers only, and what happens when it misbehaves."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from node_agent.errors import Conflict, TokenClosed, TokenError, TokenLost, Unavailable
from node_agent.pki import keys, pkcs11_encoding, signing_tasks
from node_agent.pki.pkcs11_encoding import PKCS11_KEY_KINDS
from node_agent.pki.pkcs11_token import Pkcs11Access, Pkcs11Token
from node_agent.pki.signing import SigningPool
from tests.support.csrs import NOW
from tests.support.event_loop import run
from tests.support.judges import require_module
from tests.support.softhsm import PIN, make_softhsm

pkcs11 = require_module("pkcs11", "python-pkcs11")
pytestmark = pytest.mark.usefixtures("logs")
MODULUS_3072 = b"\xc0" + bytes(382) + b"\x01"


@pytest.fixture(scope="module")
def hsm(tmp_path_factory):
    made = make_softhsm(tmp_path_factory.mktemp("softhsm"))
    made.add_token("peersys")
    made.add_token("another")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", made.environment["SOFTHSM2_CONF"])
        yield made


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def access(hsm, **changes):
    options = {
        "module": hsm.module,
        "label": "peersys",
        "serial": None,
        "slot": None,
        "keeps_workers": True,
        "read_pin": lambda: PIN,
        "monotonic": Clock(),
    }
    return Pkcs11Access("hsm", **{**options, **changes})


def token_of(one, records=(), *, node="ca1"):
    return Pkcs11Token("hsm", one, activation="automatic", records=records, node=node)


def pids(pool):
    return [worker.process.pid for lane in pool._lanes.values() for worker in lane.idle]


def read_process(pid):
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]


async def failure_of(coroutine, kind=TokenError):
    with pytest.raises(kind) as caught:
        await coroutine
    return str(caught.value)


def test_key_of_every_kind_is_made_and_signs_in_the_token(hsm):
    async def scenario():
        token = token_of(access(hsm))
        async with SigningPool(1) as pool:
            for kind in PKCS11_KEY_KINDS:
                record = await pool.generate(token, f"ca-{kind}", kind, created_at=NOW)
                assert (record.key_kind, record.node, len(record.private_part)) == (kind, "ca1", 16)
                key = token.key(record.label)
                signature = await pool.sign(key, b"message")
                assert keys.verify(key.spki, signature, b"message")
                digest = keys.start_digest(kind, key.spki)
                if digest is not None:
                    digest.update(b"long")
                    signature = await pool.sign(key, digest.finalize(), is_digest=True)
                    assert keys.verify(key.spki, signature, b"long")
            assert len(pids(pool)) == 1
            with pytest.raises(Conflict):
                await pool.generate(token, "ca-ec-p256", "ec-p256", created_at=NOW)

    run(scenario(), timeout_seconds=50)


def test_keys_are_found_again_by_their_records(hsm):
    async def scenario():
        first = token_of(access(hsm))
        async with SigningPool(1) as pool:
            record = await pool.generate(first, "ca", "ec-p256", created_at=NOW)
        again = token_of(access(hsm), [record])
        async with SigningPool(1) as pool:
            signature = await pool.sign(again.key("ca"), b"message")
        assert keys.verify(record.public_der, signature, b"message")

    run(scenario(), timeout_seconds=40)


def test_key_can_not_leave_the_token(hsm):
    from pkcs11 import Attribute

    async def scenario():
        token = token_of(access(hsm))
        async with SigningPool(1) as pool:
            record = await pool.generate(token, "ca", "ec-p256", created_at=NOW)
        for use in (token.private_key, token.open, lambda label: token.key(label).sign(b"")):
            with pytest.raises(TokenError, match="can't leave crypto token 'hsm'"):
                use("ca")
        return record

    record = run(scenario(), timeout_seconds=40)
    library = pkcs11.lib(hsm.module)
    (found,) = [
        slot.get_token()
        for slot in library.get_slots(token_present=True)
        if slot.get_token().label == "peersys"
    ]
    with found.open(user_pin=PIN) as session:
        objects = list(session.get_objects({Attribute.ID: record.private_part}))
        (private,) = [one for one in objects if isinstance(one, pkcs11.PrivateKey)]
        assert private[Attribute.SENSITIVE]
        assert private[Attribute.NEVER_EXTRACTABLE]
        assert private[Attribute.PRIVATE]
        with pytest.raises(pkcs11.AttributeSensitive):
            private[Attribute.VALUE]
    library.finalize()


def test_pin_is_in_no_argument_environment_log_or_text(hsm, logs):
    async def scenario():
        one = access(hsm)
        async with SigningPool(1) as pool:
            await pool.open(one)
            (pid,) = pids(pool)
            shown = read_process(pid)
        return [*shown, repr(one).encode(), repr(one.open_task()).encode()]

    shown = run(scenario(), timeout_seconds=40)
    assert PIN.encode() not in b"".join(shown)
    assert PIN not in str(logs)


def test_refused_pin_is_tried_once_however_many_need_it(hsm):
    async def scenario():
        tries = []

        def read_pin():
            tries.append(1)
            return "wrong-pin" if len(tries) == 1 else PIN

        clock = Clock()
        one = access(hsm, read_pin=read_pin, monotonic=clock)
        async with SigningPool(3) as pool:
            found = await asyncio.gather(
                *(pool.open(one) for _ in range(6)), return_exceptions=True
            )
            assert {type(error) for error in found} == {TokenClosed}
            assert "peersys crypto-token open hsm" in str(found[0])
            clock.now += 1000
            assert "refuses its PIN" in await failure_of(pool.open(one), TokenClosed)
            assert (one.state, len(tries)) == ("closed", 1)
            one.order()
            await pool.open(one)
            assert (one.state, one.last_error, len(tries)) == ("open", None, 2)

    run(scenario(), timeout_seconds=50)


def test_refused_pin_closes_the_token_for_workers_that_have_it_open(hsm):
    async def scenario():
        pins = iter([PIN, "wrong-pin"])
        one = access(hsm, read_pin=lambda: next(pins))
        async with SigningPool(2) as pool:
            key = token_of(one, [await made(pool, one)]).key("ca")
            os.kill(pids(pool)[0], signal.SIGKILL)
            await failure_of(pool.sign(key, b"message"), TokenClosed)
            await failure_of(pool.sign(key, b"message"), TokenClosed)

    async def made(pool, one):
        return await pool.generate(token_of(one), "ca", "ec-p256", created_at=NOW)

    run(scenario(), timeout_seconds=50)


def test_lost_session_is_opened_again(hsm, logs):
    async def scenario():
        one = access(hsm)
        token = token_of(one)
        async with SigningPool(1) as pool:
            await pool.generate(token, "ca", "ec-p256", created_at=NOW)
            key = token.key("ca")
            (first,) = pids(pool)
            away = hsm.directory / "away"
            hsm.tokens.rename(away)
            said = await failure_of(pool.sign(key, b"message"))
            assert "crypto token 'hsm'" in said
            assert one.state == "failed"
            away.rename(hsm.tokens)
            one.order()
            assert keys.verify(key.spki, await pool.sign(key, b"again"), b"again")
            assert (one.state, pids(pool) != [first]) == ("open", True)

    run(scenario(), timeout_seconds=50)


def test_token_that_is_away_is_asked_once_in_a_while(hsm):
    async def scenario():
        clock = Clock()
        one = access(hsm, label="nobody", monotonic=clock)
        async with SigningPool(1) as pool:
            said = await failure_of(pool.open(one))
            assert "no tokens of" in said
            assert "'peersys'" in said
            starts = pool._lanes[one.lane].free._value
            assert await failure_of(pool.open(one)) == said
            assert starts == 1
            clock.now += 10
            assert await failure_of(pool.open(one)) == said

    run(scenario(), timeout_seconds=40)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"module": "/nonexistent/module.so"}, "/nonexistent/module.so"),
        ({"serial": "0000"}, "no tokens of"),
        ({"label": None, "slot": 99}, "no tokens of"),
        ({"label": None}, "tokens of"),
    ],
)
def test_token_that_is_not_there_is_named(hsm, changes, said):
    async def scenario():
        async with SigningPool(1) as pool:
            text = await failure_of(pool.open(access(hsm, **changes)))
        assert "crypto token 'hsm'" in text
        assert said in text

    run(scenario(), timeout_seconds=40)


def test_key_that_is_gone_is_named(hsm):
    async def scenario():
        one = access(hsm)
        token = token_of(one)
        async with SigningPool(1) as pool:
            record = await pool.generate(token, "ca", "ec-p256", created_at=NOW)
            await pool.discard(token, record)
            assert not token.has("ca")
            key = token_of(one, [record]).key("ca")
            assert record.private_part.hex() in await failure_of(pool.sign(key, b"message"))

    run(scenario(), timeout_seconds=40)


def test_key_that_was_replaced_signs_nothing(hsm):
    import dataclasses

    async def scenario():
        one = access(hsm)
        token = token_of(one)
        async with SigningPool(1) as pool:
            first = await pool.generate(token, "one", "ec-p256", created_at=NOW)
            second = await pool.generate(token, "two", "ec-p256", created_at=NOW)
            mixed = dataclasses.replace(first, private_part=second.private_part)
            key = token_of(one, [mixed]).key("one")
            assert "another key" in await failure_of(pool.sign(key, b"message"))

    run(scenario(), timeout_seconds=40)


def test_kind_that_the_module_does_not_know_is_refused(hsm):
    async def scenario():
        token = token_of(access(hsm))
        async with SigningPool(1) as pool:
            said = await failure_of(pool.generate(token, "pq", "ml-dsa-44", created_at=NOW))
        assert "ml-dsa-44" in said

    run(scenario(), timeout_seconds=40)


def test_offline_token_is_open_for_one_operation_only(hsm):
    async def scenario():
        token = token_of(access(hsm, keeps_workers=False))
        async with SigningPool(1) as pool:
            await pool.generate(token, "root", "ec-p256", created_at=NOW)
            assert pids(pool) == []
            assert await pool.sign(token.key("root"), b"message")
            assert pids(pool) == []

    run(scenario(), timeout_seconds=40)


def test_token_that_nobody_uses_any_more_is_logged_out(hsm):
    async def scenario():
        old, new = access(hsm), access(hsm)
        async with SigningPool(1) as pool:
            await pool.open(old)
            (pid,) = pids(pool)
            await pool.open(new)
            await pool.retire([new])
            assert len(pids(pool)) == 1
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    run(scenario(), timeout_seconds=40)


def test_token_that_hangs_is_unavailable_and_named(hsm):
    async def scenario():
        one = access(hsm)
        async with SigningPool(1) as pool:
            await pool.open(one)
            key = token_of(one, [await pool.generate(token_of(one), "ca", "ec-p256", created_at=0)])
            os.kill(pids(pool)[0], signal.SIGSTOP)
            signing = pool.sign(key.key("ca"), b"message", timeout_seconds=0.2)
            assert "crypto token 'hsm'" in await failure_of(signing, Unavailable)
            assert one.state == "failed"
            assert await pool.sign(key.key("ca"), b"message")

    run(scenario(), timeout_seconds=40)


# What SoftHSM2 never does.


class StandIn:
    """A module's token with these flags; counts logins."""

    label, serial = "peersys", b"0001"

    def __init__(self, flags=0, error=None):
        self.flags, self._error, self.logins = flags, error, 0
        self.slot = self

    slot_id = 7

    def get_slots(self, *, token_present):
        return [self]

    def get_token(self):
        return self

    def open(self, *, rw, user_pin):
        self.logins += 1
        if self._error is not None:
            raise self._error
        return self

    def generate_keypair(self, *arguments, **options):
        raise pkcs11.DeviceMemory


def opened(stand_in, monkeypatch, *, is_ordered=False):
    from node_agent.pki import pkcs11_session

    monkeypatch.setattr(pkcs11_session.pkcs11, "lib", lambda module: stand_in)
    task = signing_tasks.OpenPkcs11Task(
        token="pkcs11/hsm/1",
        token_name="hsm",
        module="/module.so",
        label="peersys",
        serial="0001",
        slot=7,
        pin=PIN,
        is_ordered=is_ordered,
    )
    return pkcs11_session.Pkcs11Keys(task)


def test_last_try_of_a_pin_is_used_on_order_only(monkeypatch):
    stand_in = StandIn(pkcs11.TokenFlag.USER_PIN_FINAL_TRY)
    with pytest.raises(TokenClosed, match="would lock at the next wrong PIN"):
        opened(stand_in, monkeypatch)
    assert stand_in.logins == 0
    opened(stand_in, monkeypatch, is_ordered=True)
    assert stand_in.logins == 1


def test_locked_pin_is_not_even_tried(monkeypatch):
    stand_in = StandIn(pkcs11.TokenFlag.USER_PIN_LOCKED)
    with pytest.raises(TokenClosed, match="locked"):
        opened(stand_in, monkeypatch, is_ordered=True)
    assert stand_in.logins == 0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (pkcs11.PinLocked, TokenClosed),
        (pkcs11.PinExpired, TokenClosed),
        (pkcs11.PinLenRange, TokenClosed),
        (pkcs11.UserPinNotInitialized, TokenClosed),
        (pkcs11.TokenNotPresent, TokenLost),
        (pkcs11.SessionCount, TokenError),
        (pkcs11.TokenWriteProtected, TokenError),
    ],
)
def test_refusal_of_a_module_names_token_and_cause(error, kind, monkeypatch):
    with pytest.raises(TokenError, match="crypto token 'hsm'") as caught:
        opened(StandIn(error=error()), monkeypatch)
    assert type(caught.value) is kind


def test_full_token_is_named_with_a_remedy(monkeypatch):
    keys_there = opened(StandIn(), monkeypatch)
    task = signing_tasks.GenerateTask("pkcs11/hsm/1", "rsa-2048", "ca", b"")
    with pytest.raises(TokenError, match=r"crypto token 'hsm' is full: remove"):
        keys_there.generate(task)


@pytest.mark.parametrize("raw", [b"", b"abc"])
def test_signature_of_an_impossible_length_is_refused(raw):
    with pytest.raises(TokenError, match="impossible length"):
        pkcs11_encoding.ecdsa_signature(raw)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: pkcs11_encoding.ec_spki("ec-p256", b"\x04" + bytes(64)), "no ec-p256 key"),
        (lambda: pkcs11_encoding.ec_spki("ed25519", b"short"), "no ed25519 key"),
        (lambda: pkcs11_encoding.rsa_spki("rsa-2048", b"\x01", b"\x01"), "no RSA key"),
        (lambda: pkcs11_encoding.rsa_spki("rsa-2048", MODULUS_3072, b"\x01\x00\x01"), "rsa-3072"),
    ],
)
def test_public_key_of_another_kind_is_refused(make, said):
    with pytest.raises(TokenError, match=said):
        make()
