# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a trial fails. That it succeeds is shown with real agents (the playbook verify)."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import threading

import pytest
from ansible_collections.peersys.pki.plugins.module_utils import _trial

TOKEN = "not to be seen"

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="the trial needs openssl")


@pytest.fixture(scope="module")
def anchor(tmp_path_factory):
    """A self-signed certificate, of which the key is thrown away."""
    directory = tmp_path_factory.mktemp("anchor")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-subj", "/CN=anchor", "-days", "1"),
            *("-keyout", directory / "key.pem", "-out", directory / "anchor.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return (directory / "anchor.pem").read_text()


@pytest.fixture
def try_ra(run_module, anchor):
    def run(url):
        return run_module(
            "trial_certificate",
            registration_authority="ra1",
            url=url,
            token=TOKEN,
            trust_anchors=[anchor],
            authority="issuing",
            profile="tls_server",
            root=anchor,
            timeout_seconds=5,
        )

    return run


def test_unreachable_ra_is_named(try_ra):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        result = try_ra(f"https://127.0.0.1:{closed.getsockname()[1]}")
    assert result["failed"]
    assert result["msg"].startswith("ra1: enrolled: POST /v1/certificates: ")
    assert result["steps"] == []


def test_ra_without_tls_is_refused(try_ra):
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        result = try_ra(f"https://127.0.0.1:{server.server_port}")
        thread.join()
    assert result["failed"]
    assert "SSL" in result["msg"]


def test_token_is_not_in_the_result(try_ra):
    result = try_ra("https://127.0.0.1:1")
    assert TOKEN not in str(result)


def test_cache_is_given_the_seconds_by_which_it_may_be_late(monkeypatch):
    monkeypatch.setattr(_trial, "client_from", lambda _params: socket.socket())
    for name in ("_enrol", "_check_chain", "_revoke"):
        monkeypatch.setattr(_trial, name, lambda *asked: None)
    waited = []
    monkeypatch.setattr(_trial, "_check_status", lambda *asked: waited.append(asked[1:]))
    va, cache = {"name": "va", "cached_seconds": 0.0}, {"name": "cache", "cached_seconds": 2.0}
    params = {
        "validation_authorities": [va, cache],
        "timeout_seconds": 20.0,
        "revocation_seconds": 1.0,
    }
    _trial.run_trial(_trial.Trial(params, "openssl", ""))
    assert waited[2:] == [(va, "revoked", 1.0), (cache, "revoked", 3.0)]
