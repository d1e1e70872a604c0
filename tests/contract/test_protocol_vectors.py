"""The published protocol and the code say the same, byte for byte."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from node_agent.errors import RemoteProtocolError
from node_agent.peers import envelope
from node_agent.peers.codec import ENCODER
from node_agent.peers.signature import sign, verify
from node_agent.wire import Code, ConnectionState, Status, events, frames
from node_agent.wire.frames import decode_frame, encode_frame
from tests.support.frames import REQUEST_ID, Pair

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reference/protocol.md").read_text(encoding="utf-8")


def block(kind: str) -> str:
    """Return the one fenced block of that kind."""
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return str(found)


def value(written: Any) -> Any:
    """Return a vector's field; ``hex:`` marks binary."""
    if isinstance(written, str) and written.startswith("hex:"):
        return bytes.fromhex(written.removeprefix("hex:"))
    return written


FRAMES: list[dict[str, Any]] = json.loads(block("json frames"))
REFUSED: list[str] = json.loads(block("json refused"))


def rows(header: str) -> list[list[str]]:
    """Return the cells of the table below ``header``."""
    lines = PAGE.split(header)[1].splitlines()[2:]
    table = []
    for line in lines:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split("|")])
    return table


def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_states", ROOT / "tools/draw_states.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("vector", FRAMES, ids=lambda vector: vector["frame"])
def test_frame_vector_holds_in_both_directions(vector: dict[str, Any]) -> None:
    kind = getattr(frames, vector["frame"])
    frame = kind(*map(value, vector["fields"]))
    raw = bytes.fromhex(vector["hex"])
    assert encode_frame(frame) == raw
    assert decode_frame(raw[4:]) == frame


def test_every_frame_has_a_vector() -> None:
    kinds = {name for name in frames.__all__ if isinstance(getattr(frames, name), type)}
    assert {vector["frame"] for vector in FRAMES} == kinds


@pytest.mark.parametrize("raw", REFUSED)
def test_refused_vector_is_refused(raw: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_frame(bytes.fromhex(raw))


def test_frame_table_lists_every_frame_with_its_number_and_fields() -> None:
    for number, name, fields in rows("| number | frame | fields in order |"):
        kind = getattr(frames, name)
        assert kind.__struct_config__.tag == int(number)
        named = [word for word in kind.__struct_fields__ if word in fields]
        assert named == list(kind.__struct_fields__), f"{name}: fields out of order or missing"
    assert len(rows("| number | frame | fields in order |")) == len(FRAMES)


def test_code_table_is_the_code() -> None:
    table = {int(number): name for number, name, _ in rows("| code | name | meaning |")}
    assert table == {code.value: code.name for code in Code}


def test_status_table_is_the_code() -> None:
    table = {int(number): name for number, name, _ in rows("| status | name | meaning |")}
    assert table == {status.value: status.name for status in Status}


def test_state_tables_are_drawn_from_the_code() -> None:
    assert drawing().drawn(PAGE) == PAGE, "run `make docs`"


def test_conversation_is_what_two_cores_say() -> None:
    assert recorded_conversation() == [line for line in block("conversation").splitlines() if line]


def recorded_conversation() -> list[str]:
    """Hold the conversation of the page between two cores and return what was said."""
    pair = Pair()
    said: list[str] = []

    def carry() -> None:
        while True:
            up, down = pair.dialler.data_to_send(), pair.listener.data_to_send()
            if not up and not down:
                return
            for mark, data, receiver in ((">", up, pair.listener), ("<", down, pair.dialler)):
                if data:
                    said.append(f"{mark} {data.hex()}")
                    receiver.receive_data(data, pair.now)

    pair.dialler.start(pair.now)
    pair.listener.start(pair.now)
    carry()
    up = pair.open(b"hello")
    carry()
    down = pair.listener.open_stream(
        "signer.certify", b"csr", request_id=REQUEST_ID[::-1], deadline_seconds=1
    )
    carry()
    pair.dialler.send_answer(down, Status.DENIED, b"no")
    carry()
    pair.listener.send_answer(up, Status.OK, b"ok")
    carry()
    pair.dialler.go_away("done")
    carry()
    assert pair.dialler.state is pair.listener.state is ConnectionState.CLOSED
    endings = [e for e in pair.listener.next_events() if isinstance(e, events.ConnectionEnded)]
    assert [ending.code for ending in endings] == [Code.NONE]
    return said


def signed_vector() -> dict[str, Any]:
    """Make the signed messages of the page. Ed25519 signatures are deterministic."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    body = ENCODER.encode(
        envelope.RequestBody(
            1, "ra.enroll", REQUEST_ID, "ca/issuing", 1_750_000_000, 1_750_000_030, "alice", b"csr"
        )
    )
    answer = ENCODER.encode(
        envelope.AnswerBody(1, hashlib.sha256(body).digest(), Status.OK, b"certificate")
    )
    return {
        "private_key_ed25519": bytes(range(32)).hex(),
        "request_body": body.hex(),
        "request_signature": sign(key, b"peersys/1 request\x00" + body).hex(),
        "answer_body": answer.hex(),
        "answer_signature": sign(key, b"peersys/1 answer\x00" + answer).hex(),
    }


def test_signed_vector_is_what_the_code_signs() -> None:
    written = json.loads(block("json signed"))
    assert signed_vector() == written
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(written["private_key_ed25519"]))
    for kind in ("request", "answer"):
        body, signature = (
            bytes.fromhex(written[f"{kind}_{part}"]) for part in ("body", "signature")
        )
        label = f"peersys/1 {kind}\x00".encode()
        assert verify(key.public_key(), signature, label + body)
        assert not verify(key.public_key(), signature, label + body + b"\0")


def test_labels_and_bounds_on_the_page_are_those_of_the_code() -> None:
    assert envelope._REQUEST_LABEL == b"peersys/1 request\x00"
    assert envelope._ANSWER_LABEL == b"peersys/1 answer\x00"
    assert f"lifetime above {envelope.MAX_LIFETIME_SECONDS} s" in PAGE
    assert f"off by more than {envelope.CLOCK_SKEW_SECONDS} s" in PAGE
    assert f"At most\n{envelope.MAX_VIAS} nodes may stand between" in PAGE
