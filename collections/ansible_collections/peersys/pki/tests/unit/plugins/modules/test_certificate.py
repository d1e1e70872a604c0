# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's certificate when things go wrong. That it works is shown with real agents."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess

import pytest
from ansible_collections.peersys.pki.plugins.module_utils._registration_client import (
    RequestFailed,
    WaitsForApproval,
)
from ansible_collections.peersys.pki.plugins.modules import certificate

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="the module needs openssl")


class Authority:
    """An RA with a CA behind it: signs each CSR with a key of its own, once per request id."""

    def __init__(self, directory):
        self.directory = directory
        self.days = 30
        self.failures = []
        self.lose_answer = False
        self.issued = {}
        self.status = {}
        self.asked = []
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", "/CN=CA", "-days", "99", "-keyout", "ca.key", "-out", "ca.pem"),
        )

    def client(self, params):
        return self

    def close(self):
        pass

    def get(self, path):
        serial = path.rsplit("/", 1)[1]
        self._fail()
        if serial not in self.status:
            raise RequestFailed("404 no such certificate", status=404)
        return {"status": self.status[serial], "profile": "tls"}

    def post(self, path, body):
        self.asked.append((path, dict(body)))
        self._fail()
        if path.endswith("/revocation"):
            self.status[path.split("/")[-2]] = "revoked"
            return {}
        answer = self.issued.setdefault(body["request_id"], self._sign(body["csr"]))
        if self.lose_answer:
            raise RequestFailed("connection lost")
        return answer

    def request_ids(self):
        return [body["request_id"] for path, body in self.asked if path == "/v1/certificates"]

    def _fail(self):
        if self.failures:
            raise self.failures.pop(0)

    def _sign(self, csr):
        text = self._openssl(
            *("x509", "-req", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", str(self.days)),
            *("-copy_extensions", "copyall"),
            text=csr,
        )
        shown = self._openssl("x509", "-noout", "-serial", text=text)
        self.status[shown.split("=")[1].strip().lower().lstrip("0")] = "good"
        return {"certificate": text, "chain": ""}

    def _openssl(self, *arguments, text=""):
        return subprocess.run(
            ["openssl", *arguments],
            cwd=self.directory,
            input=text,
            capture_output=True,
            text=True,
            check=True,
        ).stdout


@pytest.fixture
def authority(tmp_path, monkeypatch):
    directory = tmp_path / "ca"
    directory.mkdir()
    found = Authority(directory)
    monkeypatch.setattr(certificate, "client_from", found.client)
    return found


@pytest.fixture
def keep(run_module, authority, tmp_path):
    def run(**arguments):
        asked = {
            "url": "https://ra1:8443",
            "token": "not to be seen",
            "trust_anchors": ["PEM"],
            "authority": "issuing",
            "profile": "tls",
            "dns_names": ["web.example.org"],
            "key_path": str(tmp_path / "web.key"),
            "certificate_path": str(tmp_path / "web.pem"),
            "timeout_seconds": 0,
            **arguments,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        return run_module("certificate", **given)

    return run


def test_second_run_keeps_the_certificate(keep, authority, tmp_path):
    made = keep()
    assert made["why"] == "there is no certificate"
    assert made["diff"][0]["after"] == "dns web.example.org\nvalid\n"
    assert stat.S_IMODE((tmp_path / "web.key").stat().st_mode) == 0o600
    again = keep()
    assert not again["changed"]
    assert again["serial"] == made["serial"]
    assert len(authority.issued) == 1


def test_check_mode_asks_for_nothing_and_writes_nothing(keep, authority, tmp_path):
    assert keep(check_mode=True)["changed"]
    assert authority.asked == []
    assert not list(tmp_path.glob("web.*"))


def test_lost_answer_is_asked_for_again_with_the_same_id_and_key(keep, authority, tmp_path):
    authority.lose_answer = True
    assert keep()["msg"] == "connection lost"
    pending = json.loads((tmp_path / "web.key.request").read_text())
    assert stat.S_IMODE((tmp_path / "web.key.request").stat().st_mode) == 0o600
    authority.lose_answer = False
    made = keep()
    assert made["why"] == "an earlier request has no answer yet"
    assert len(authority.issued) == 1
    assert len(set(authority.request_ids())) == 1
    assert (tmp_path / "web.key").read_text() == pending["key"]
    assert not (tmp_path / "web.key.request").exists()


def test_unavailable_ca_is_asked_again_within_the_time(keep, authority):
    authority.failures = [RequestFailed("no CA", status=503, retry_seconds=0.01)]
    assert keep(timeout_seconds=20)["changed"]
    assert len(set(authority.request_ids())) == 1


def test_request_that_waits_for_approval_is_kept_and_asked_again(keep, authority, tmp_path):
    waiting = {"approval": "9f2c", "approvals_given": 1, "approvals_needed": 2}
    authority.failures = [WaitsForApproval(waiting, retry_seconds=30) for turn in range(2)]
    first, again, approved = keep(), keep(), keep()
    assert (first["changed"], first["waiting"]) == (False, waiting)
    assert (again["changed"], again["waiting"]) == (False, waiting)
    assert first["serial"] is None
    assert approved["changed"]
    assert approved["waiting"] is None
    assert len(set(authority.request_ids())) == 1
    assert (tmp_path / "web.pem").exists()


def test_refused_request_is_forgotten(keep, authority, tmp_path):
    authority.failures = [RequestFailed("lint failed", status=422)]
    assert keep()["failed"]
    assert not list(tmp_path.glob("web.*"))
    keep()
    assert len(set(authority.request_ids())) == 2


def test_other_names_make_another_request(keep, authority):
    authority.lose_answer = True
    keep()
    authority.lose_answer = False
    made = keep(dns_names=["other.example.org"])
    assert made["changed"]
    assert len(set(authority.request_ids())) == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"dns_names": ["other.example.org"]}, "its names differ"),
        ({"common_name": "web"}, "its names differ"),
        ({"renew_before_days": 31}, "it is near its end"),
        ({"profile": "other"}, "its profile is tls"),
    ],
)
def test_what_differs_is_enrolled_anew_with_a_new_key(keep, tmp_path, arguments, why):
    first = keep()
    key = (tmp_path / "web.key").read_text()
    second = keep(**arguments)
    assert second["why"] == why
    assert second["serial"] != first["serial"]
    assert (tmp_path / "web.key").read_text() != key


def test_foreign_key_is_replaced(keep, tmp_path):
    keep()
    (tmp_path / "web.key").write_text("something else")
    assert keep()["why"] == "the key isn't the certificate's"


def test_unreadable_certificate_is_replaced(keep, tmp_path):
    (tmp_path / "web.pem").write_text("something else")
    assert keep()["why"] == "there is no certificate"


def test_revoked_or_unknown_certificate_is_replaced(keep, authority):
    first = keep()
    authority.status[first["serial"]] = "revoked"
    second = keep()
    assert second["why"] == "it is revoked"
    del authority.status[second["serial"]]
    assert keep()["why"] == "it isn't of the CA issuing"


def test_fresh_certificate_stays_when_the_ra_is_away(keep, authority):
    keep()
    authority.failures = [RequestFailed("no route", retry_seconds=1.0)]
    result = keep()
    assert not result["changed"]
    assert "no route" in str(result["warnings"])


def test_missing_right_to_ask_is_told(keep, authority):
    keep()
    authority.failures = [RequestFailed("403 denied", status=403)]
    assert keep()["msg"] == "403 denied"
    authority.failures = [RequestFailed("403 denied", status=403)]
    assert not keep(check_status=False)["changed"]


def test_absent_revokes_and_removes(keep, authority, tmp_path):
    serial = keep()["serial"]
    assert keep(state="absent", check_mode=True)["changed"]
    assert authority.status[serial] == "good"
    assert keep(state="absent")["changed"]
    assert authority.status[serial] == "revoked"
    assert not list(tmp_path.glob("web.*"))
    assert not keep(state="absent")["changed"]


def test_neither_key_nor_token_is_in_any_result(keep):
    for arguments in ({}, {"check_mode": True}, {"dns_names": ["x.example.org"]}):
        result = str(keep(**arguments))
        assert "PRIVATE" not in result
        assert "not to be seen" not in result


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"dns_names": ["a b"]}, "dns_names"),
        ({"dns_names": ["a\nIP.1 = 10.0.0.1"]}, "dns_names"),
        ({"dns_names": ["a,DNS:b"]}, "dns_names"),
        ({"ip_addresses": ["10.0.0.0/8"]}, "ip_addresses"),
        ({"common_name": "a\nb"}, "common_name"),
        ({"common_name": "a" * 65}, "common_name"),
        ({"dns_names": []}, "dns_names"),
        ({"key_mode": "rw"}, "key_mode"),
        ({"profile": None}, "profile"),
    ],
)
def test_bad_input_is_refused_by_name_before_anything_is_asked(keep, authority, arguments, option):
    result = keep(**arguments)
    assert result["failed"]
    assert re.search(rf"(^|: ){option}(:|$)", result["msg"])
    assert authority.asked == []


def test_name_can_not_configure_openssl(keep, authority):
    made = keep(common_name='$ENV::HOME "#\\')
    assert made["changed"]
    assert not keep(common_name='$ENV::HOME "#\\')["changed"]
