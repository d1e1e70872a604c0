"""The signing pool: slow signatures elsewhere, secrets on the pipe only, dead workers replaced."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
from pathlib import Path

import pytest
import uvloop

from node_agent.errors import ConfigError, Conflict, TokenError, Unavailable
from node_agent.pki import keys, signing_tasks, signing_worker, soft_keys
from node_agent.pki.issue import prepare
from node_agent.pki.issuer import Issuer
from node_agent.pki.signing import SigningPool
from node_agent.pki.soft_token import SoftToken
from tests.support.cheap_scrypt import FAST
from tests.support.csrs import NOW, key_of_kind, parsed_csr, profile, root_ca
from tests.support.event_loop import run

pytestmark = pytest.mark.usefixtures("logs")
PASSPHRASE = b"a passphrase that must not leak"


def token_with(kind, *, activation="automatic"):
    token = SoftToken("default", PASSPHRASE, activation=activation, cost=FAST)
    token.generate("ca", kind, created_at=NOW)
    return token


def pids(pool):
    return [worker.process.pid for lane in pool._lanes.values() for worker in lane.idle]


def read_process(pid):
    names = ("cmdline", "environ", "limits")
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in names]


@pytest.mark.parametrize("kind", ["rsa-2048", "ml-dsa-65", "ec-p256", "ed25519"])
def test_signature_of_the_pool_verifies(kind):
    async def scenario():
        key = token_with(kind).key("ca")
        async with SigningPool(1) as pool:
            signature = await pool.sign(key, b"message")
            assert keys.verify(key.spki, signature, b"message")
            assert bool(pids(pool)) is not keys.is_cheap(kind)

    run(scenario(), timeout_seconds=40)


@pytest.mark.parametrize("kind", ["rsa-2048", "ml-dsa-44", "ec-p384"])
def test_digest_is_signed_like_its_message(kind):
    async def scenario():
        key = token_with(kind).key("ca")
        digest = keys.start_digest(kind, key.spki)
        digest.update(b"message")
        async with SigningPool(1) as pool:
            signature = await pool.sign(key, digest.finalize(), is_digest=True)
        assert keys.verify(key.spki, signature, b"message")

    run(scenario(), timeout_seconds=40)


def test_key_outside_a_token_signs_inline():
    async def scenario():
        key = keys.LocalKey.of(key_of_kind("rsa-2048"))
        async with SigningPool(1) as pool:
            assert keys.verify(key.spki, await pool.sign(key, b"message"), b"message")
            assert pids(pool) == []

    run(scenario())


def test_certificate_signed_by_the_pool_is_complete():
    from cryptography import x509

    async def scenario():
        token = token_with("rsa-2048")
        key = token.key("ca")
        from node_agent.pki import authorities
        from node_agent.pki.names import parse_name

        prepared = authorities.prepare_issuing_ca(
            root_ca(), key.spki, parse_name("CN=RSA CA"), now=NOW, validity_days=100
        )
        from node_agent.pki.issue import sign

        issuer = Issuer.load(key, [sign(prepared).der])
        request = prepare(issuer, profile().admit(parsed_csr()), now=NOW)
        async with SigningPool(1) as pool:
            issued = request.complete(await pool.sign(issuer.key, request.der))
        parent = x509.load_der_x509_certificate(issuer.certificate)
        certificate = x509.load_der_x509_certificate(issued.der)
        certificate.verify_directly_issued_by(parent)
        assert certificate.serial_number == issued.serial

    run(scenario(), timeout_seconds=40)


def test_passphrase_is_not_in_the_workers_arguments_or_environment():
    async def scenario():
        key = token_with("rsa-2048").key("ca")
        async with SigningPool(1) as pool:
            await pool.sign(key, b"message")
            (pid,) = pids(pool)
            return read_process(pid)

    arguments, environment, limits = run(scenario(), timeout_seconds=40)
    assert b"signing_worker" in arguments
    assert PASSPHRASE not in arguments + environment
    (core,) = [line.split() for line in limits.splitlines() if line.startswith(b"Max core")]
    assert core[4:6] == [b"0", b"0"]


def test_loop_keeps_running_while_a_worker_makes_a_key():
    async def scenario():
        token = token_with("ec-p256")
        async with SigningPool(1) as pool:
            making = asyncio.ensure_future(pool.generate(token, "slow", "rsa-3072", created_at=NOW))
            turns = 0
            while not making.done():
                turns += 1
                await asyncio.sleep(0.001)
            record = await making
        assert turns > 10
        assert record.key_kind == "rsa-3072"
        assert keys.verify(record.public_der, token.key("slow").sign(b"x"), b"x")
        assert len(token._encryption._derived) == 1

    run(scenario(), timeout_seconds=60)


def test_first_key_of_a_token_may_be_made_by_the_pool():
    async def scenario():
        token = SoftToken("default", PASSPHRASE, cost=FAST)
        async with SigningPool(1) as pool:
            record = await pool.generate(token, "ca", "ml-dsa-44", created_at=NOW)
            cheap = await pool.generate(token, "other", "ec-p256", created_at=NOW)
            with pytest.raises(Conflict):
                await pool.generate(token, "ca", "ml-dsa-44", created_at=NOW)
        assert token.record("ca") == record
        assert token.record("other") == cheap

    run(scenario(), timeout_seconds=40)


def test_wrong_passphrase_is_a_token_error():
    async def scenario():
        record = token_with("rsa-2048").record("ca")
        wrong = SoftToken("default", b"wrong", records=[record], cost=FAST)
        async with SigningPool(1) as pool:
            with pytest.raises(TokenError, match="passphrase"):
                await pool.sign(wrong.key("ca"), b"message")
            with pytest.raises(TokenError, match="passphrase"):
                await pool.generate(wrong, "new", "rsa-2048", created_at=NOW)
            right = SoftToken("default", PASSPHRASE, records=[record], cost=FAST)
            assert await pool.sign(right.key("ca"), b"message")

    run(scenario(), timeout_seconds=40)


def test_unknown_key_kind_fails_like_anywhere_else():
    async def scenario():
        async with SigningPool(1) as pool:
            with pytest.raises(ConfigError, match="key kind"):
                await pool.generate(token_with("ec-p256"), "new", "dsa", created_at=NOW)

    run(scenario(), timeout_seconds=40)


def test_dead_worker_is_replaced(logs):
    async def scenario():
        key = token_with("rsa-2048").key("ca")
        async with SigningPool(1) as pool:
            await pool.sign(key, b"message")
            (first,) = pids(pool)
            os.kill(first, signal.SIGKILL)
            assert keys.verify(key.spki, await pool.sign(key, b"again"), b"again")
            assert pids(pool) != [first]

    run(scenario(), timeout_seconds=40)
    assert "signing_worker_died" in [entry["event"] for entry in logs]


def test_worker_that_died_idle_is_replaced_under_uvloop(logs):
    async def scenario():
        key = token_with("rsa-2048").key("ca")
        async with SigningPool(1) as pool:
            await pool.sign(key, b"message")
            (worker,) = pool._lanes[""].idle
            worker.process.kill()
            await worker.process.wait()
            with contextlib.suppress(OSError):
                await worker.process.stdin.wait_closed()
            assert keys.verify(key.spki, await pool.sign(key, b"again"), b"again")

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(scenario(), 40))
    assert "signing_worker_died" in [entry["event"] for entry in logs]


def test_worker_killed_at_work_is_replaced_and_the_signature_still_made():
    async def scenario():
        key = token_with("rsa-4096").key("ca")
        async with SigningPool(2) as pool:
            await pool.sign(key, b"warm")
            (victim,) = pids(pool)
            tasks = [asyncio.ensure_future(pool.sign(key, b"%d" % n)) for n in range(20)]
            await asyncio.sleep(0)
            os.kill(victim, signal.SIGKILL)
            for number, signature in enumerate(await asyncio.gather(*tasks)):
                assert keys.verify(key.spki, signature, b"%d" % number)
            assert len(pids(pool)) <= 2

    run(scenario(), timeout_seconds=60)


def test_cancelled_task_does_not_leave_its_answer_to_the_next():
    async def scenario():
        key = token_with("rsa-2048").key("ca")
        async with SigningPool(1) as pool:
            await pool.sign(key, b"warm")
            for _ in range(3):
                doomed = asyncio.ensure_future(pool.sign(key, b"doomed"))
                await asyncio.sleep(0)
                doomed.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await doomed
                assert keys.verify(key.spki, await pool.sign(key, b"next"), b"next")

    run(scenario(), timeout_seconds=60)


def test_deadline_is_unavailable_and_the_pool_survives_it():
    async def scenario():
        key = token_with("rsa-2048").key("ca")
        async with SigningPool(1) as pool:
            with pytest.raises(Unavailable, match="in time"):
                await pool.sign(key, b"message", timeout_seconds=0.01)
            assert await pool.sign(key, b"message")

    run(scenario(), timeout_seconds=40)


def test_closed_pool_starts_nothing():
    async def scenario():
        key = token_with("rsa-2048").key("ca")
        pool = SigningPool(1)
        async with pool:
            await pool.sign(key, b"message")
            (pid,) = pids(pool)
        with pytest.raises(Unavailable):
            await pool.sign(key, b"message")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(scenario(), timeout_seconds=40)


def test_worker_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr("node_agent.pki.signing._STOP_SECONDS", 0.05)

    async def scenario():
        key = token_with("rsa-2048").key("ca")
        async with SigningPool(1) as pool:
            await pool.sign(key, b"message")
            (pid,) = pids(pool)
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(scenario(), timeout_seconds=40)


def test_task_that_outlives_the_pool_leaves_no_worker():
    async def scenario():
        key = token_with("rsa-2048").key("ca")
        pool = SigningPool(1)
        await pool.sign(key, b"message")
        (pid,) = pids(pool)
        late = asyncio.ensure_future(pool.sign(key, b"late"))
        await asyncio.sleep(0)
        await pool.close()
        assert keys.verify(key.spki, await late, b"late")
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)

    run(scenario(), timeout_seconds=40)


@pytest.mark.parametrize(
    ("program", "said"), [("/bin/false", "don't stay up"), ("/nowhere", "no signing worker starts")]
)
def test_workers_that_cannot_live_are_unavailable(program, said, monkeypatch):
    monkeypatch.setattr("node_agent.pki.signing.sys.executable", program)

    async def scenario():
        async with SigningPool(1) as pool:
            with pytest.raises(Unavailable, match=said):
                await pool.sign(token_with("ml-dsa-44").key("ca"), b"message")

    run(scenario(), timeout_seconds=40)


def test_worker_that_talks_nonsense_is_replaced(tmp_path, monkeypatch):
    program = tmp_path / "nonsense"
    program.write_text("#!/bin/sh\nprintf '\\377\\377\\377\\377'\ncat >/dev/null\n")
    program.chmod(0o755)
    monkeypatch.setattr("node_agent.pki.signing.sys.executable", str(program))

    async def scenario():
        async with SigningPool(1) as pool:
            with pytest.raises(Unavailable, match="don't stay up"):
                await pool.sign(token_with("ml-dsa-44").key("ca"), b"message")

    run(scenario(), timeout_seconds=40)


def test_pool_without_workers_is_refused():
    with pytest.raises(ConfigError):
        SigningPool(0)


# The worker's own loop, in this process.


def serve(*tasks):
    sink = io.BytesIO()
    source = b"".join(signing_tasks.encode_frame(task) for task in tasks)
    signing_worker.serve(io.BytesIO(source), sink)
    answers, at, data = [], 0, sink.getvalue()
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        answers.append(signing_tasks.decode_answer(data[at + 4 : at + 4 + size]))
        at += 4 + size
    return answers


OPEN = signing_tasks.OpenSoftTask("default", PASSPHRASE, (FAST.n, FAST.r, FAST.p))


def sign_task(private_part, *, keep=True):
    return signing_tasks.SignTask(
        token="default",
        kind="ec-p256",
        private_part=private_part,
        public_der=b"",
        data=b"data",
        is_digest=False,
        keep=keep,
    )


@pytest.mark.parametrize("keep", [True, False])
def test_worker_keeps_only_keys_that_it_may_keep(keep):
    record = token_with("ec-p256").record("ca")
    opened = soft_keys.SoftKeys(OPEN)
    assert opened.sign(sign_task(record.private_part, keep=keep))
    assert bool(opened._open) is keep


def test_worker_reports_failures_and_goes_on():
    bad = sign_task(b"\x30\x00")
    unlocked, failed, made = serve(
        OPEN, bad, signing_tasks.GenerateTask("default", "ec-p256", "new", b"")
    )
    assert unlocked == signing_tasks.Answer()
    assert failed.fault == "token"
    assert len(made.parts) == 2


@pytest.mark.parametrize("tail", [b"\x00", b"\x00\x00\x00\x05ab", b"\xff\xff\xff\xff"])
def test_worker_ends_when_its_input_does(tail):
    sink = io.BytesIO()
    signing_worker.serve(io.BytesIO(tail), sink)
    assert sink.getvalue() == b""
