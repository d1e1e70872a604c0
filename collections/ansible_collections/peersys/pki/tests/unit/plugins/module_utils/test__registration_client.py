# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an RA answers, over real TLS: what is told, and what is worth another try."""

from __future__ import annotations

import http.server
import json
import shutil
import ssl
import subprocess
import threading

import pytest
from ansible_collections.peersys.pki.plugins.module_utils._registration_client import (
    RegistrationClient,
    RequestFailed,
)

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="certificates need openssl")


TOKEN = "secret"


@pytest.fixture(scope="module")
def identity(tmp_path_factory):
    """The RA's key and self-signed certificate in one file."""
    path = tmp_path_factory.mktemp("ra") / "ra.pem"
    made = subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=ra", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-days", "1", "-keyout", str(path)),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    path.write_text(path.read_text() + made.stdout)
    return path, made.stdout


@pytest.fixture
def ra(identity):
    """An RA that gives one answer; yields its address and what it was asked."""
    path, _certificate = identity

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.server.asked.append((self.command, self.path, dict(self.headers)))
            status, headers, body = self.server.answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.asked, server.answer = [], (200, {}, b"{}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(ra, identity):
    found = RegistrationClient(
        f"https://127.0.0.1:{ra.server_port}/base/",
        token=TOKEN,
        trust_anchors=[identity[1]],
        timeout_seconds=5,
    )
    yield found
    found.close()


def problem(status, **fields):
    headers = {"Retry-After": str(fields.pop("retry"))} if "retry" in fields else {}
    return status, headers, json.dumps(fields).encode()


def test_answer_is_decoded_and_the_token_is_a_header(client, ra):
    ra.answer = (200, {}, b'{"status": "good"}')
    assert client.get("/v1/x") == {"status": "good"}
    ((_method, path, headers),) = ra.asked
    assert path == "/base/v1/x"
    assert headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("status", "fields", "retry_seconds"),
    [
        (403, {"detail": "no"}, None),
        (422, {"detail": "no"}, None),
        (429, {"detail": "no", "retry": 7}, 7.0),
        (503, {"detail": "no", "retry": 3}, 3.0),
        (503, {"detail": "no"}, 1.0),
        (504, {"detail": "no"}, 1.0),
        (500, {"detail": "no"}, None),
    ],
)
def test_refusal_says_whether_another_try_is_any_use(client, ra, status, fields, retry_seconds):
    ra.answer = problem(status, **fields)
    with pytest.raises(RequestFailed, match=f"GET /v1/x: {status} no") as failed:
        client.get("/v1/x")
    assert failed.value.status == status
    assert failed.value.retry_seconds == retry_seconds


def test_refusal_names_field_and_remedy_once(client, ra):
    ra.answer = problem(422, detail="is no CSR", field="csr", remedy="Send PEM")
    with pytest.raises(RequestFailed) as failed:
        client.get("/v1/x")
    assert str(failed.value) == "GET /v1/x: 422 is no CSR [field: csr]. Send PEM"


def test_answer_that_is_no_json_is_worth_another_try(client, ra):
    ra.answer = (200, {}, b"<html>")
    with pytest.raises(RequestFailed) as failed:
        client.get("/v1/x")
    assert failed.value.retry_seconds is not None


@pytest.mark.parametrize("url", ["http://ra1:8443", "ra1:8443", "https://", ""])
def test_address_that_is_none_is_refused(url, identity):
    with pytest.raises(RequestFailed, match="Write https://host:port"):
        RegistrationClient(url, token=TOKEN, trust_anchors=[identity[1]], timeout_seconds=1)


def test_trust_anchor_that_is_none_is_refused():
    with pytest.raises(RequestFailed, match=r"^trust_anchors: "):
        RegistrationClient("https://ra", token=TOKEN, trust_anchors=["PEM"], timeout_seconds=1)
