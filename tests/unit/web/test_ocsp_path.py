"""OCSP requests in GET paths, as clients write them."""

from __future__ import annotations

import base64
import urllib.parse

import pytest

from node_agent.web.ocsp_path import is_ocsp_path, request_from_path

# Chosen so that its base64 has "+", "/", "//" and padding: the cases that clients get wrong.
BASE64 = b"MEE+//+/AA=="
DER = base64.b64decode(BASE64)


def test_example_has_every_troublesome_character() -> None:
    assert b"+" in BASE64
    assert b"//" in BASE64
    assert BASE64.endswith(b"=")
    assert DER.startswith(b"\x30")


@pytest.mark.parametrize(
    "text",
    [
        BASE64,
        urllib.parse.quote(BASE64, safe="").encode(),
        urllib.parse.quote(BASE64, safe="/").encode(),
        urllib.parse.quote(BASE64, safe="+").encode(),
        BASE64.rstrip(b"="),
        BASE64.replace(b"+", b" "),
        BASE64.replace(b"+", b"%20"),
        BASE64.replace(b"+", b"-").replace(b"/", b"_"),
        BASE64.replace(b"/", b"%2f").replace(b"+", b"%2b"),
        BASE64[:8] + b"%0D%0A" + BASE64[8:],
        b"/" + BASE64,
        b"//" + BASE64,
        b"%2F" + BASE64,
    ],
)
@pytest.mark.parametrize("prefix", [b"/", b"/ocsp/"])
def test_path_is_decoded_however_it_was_escaped(prefix: bytes, text: bytes) -> None:
    assert request_from_path(prefix + text) == DER


def test_plain_path_below_the_root_is_recognized() -> None:
    assert is_ocsp_path(b"/" + BASE64)
    assert is_ocsp_path(b"//" + BASE64)
    assert is_ocsp_path(b"/ocsp/" + BASE64)


@pytest.mark.parametrize(
    "path", [b"/", b"/ocsp/", b"/ocsp/%", b"/M", b"/M*AA", b"/ocsp/=====", b"/ocsp/M\xffAA"]
)
def test_what_is_no_base64_is_none(path: bytes) -> None:
    assert request_from_path(path) is None


@pytest.mark.parametrize("path", [b"/health", b"/crl/a.crl", b"/ca/a.cer", b"/favicon.ico"])
def test_other_paths_are_not_taken_for_ocsp(path: bytes) -> None:
    assert not is_ocsp_path(path)
