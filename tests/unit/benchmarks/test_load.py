"""The load generator's contract with wrk, and what it does with lost requests."""

from __future__ import annotations

import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from benchmarks.load import HttpRequest, LoadFailed, LoadPlan, run_load
from benchmarks.profile import summarize_samples
from benchmarks.programs import PROGRAMS, missing_programs, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_wrk = pytest.mark.skipif(
    shutil.which("wrk") is None, reason=f"wrk is missing: {PROGRAMS['wrk'].install}"
)


class Recorder(BaseHTTPRequestHandler):
    """Answers 200 to what it knows and 500 to anything else, and keeps the bodies."""

    protocol_version = "HTTP/1.1"
    bodies: set[bytes]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.add(body)  # type: ignore[attr-defined]
        self.send_response(500 if body == b"bad" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    found = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    found.daemon_threads = True
    found.bodies = set()  # type: ignore[attr-defined]
    thread = threading.Thread(target=found.serve_forever)
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


def plan(server: ThreadingHTTPServer, directory: Path, *bodies: bytes) -> LoadPlan:
    return LoadPlan(
        url=f"http://127.0.0.1:{server.server_port}",
        requests=[HttpRequest(method="POST", path="/", body=body) for body in bodies],
        directory=directory,
        name="test",
        connections=2,
        seconds=1,
    )


@needs_wrk
def test_every_request_is_sent_byte_for_byte(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    bodies = (b"one", b"two\r\n\x00binary", b"\nthree\n")
    reading = run_load(plan(server, tmp_path, *bodies))
    assert reading.value > 0
    assert reading.detail["p50_ms"] <= reading.detail["p99_ms"]
    assert server.bodies == set(bodies)  # type: ignore[attr-defined]


@needs_wrk
def test_a_single_request_is_repeated(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    assert run_load(plan(server, tmp_path, b"one")).value > 0
    assert server.bodies == {b"one"}  # type: ignore[attr-defined]


@needs_wrk
def test_an_error_status_spoils_the_reading(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="refused"):
        run_load(plan(server, tmp_path, b"good", b"bad"))


def test_encoding_adds_host_and_length() -> None:
    request = HttpRequest(method="POST", path="/x", headers=(("A", "b"),), body=b"12")
    assert request.encode("h:1") == (
        b"POST /x HTTP/1.1\r\nHost: h:1\r\nA: b\r\nContent-Length: 2\r\n\r\n12"
    )


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.programs.find_program", lambda name: None)
    assert [program.name for program in missing_programs(("nginx",))] == ["nginx"]
    with pytest.raises(FileNotFoundError, match="apt-get install nginx"):
        require_program("nginx")


def test_samples_become_shares_of_own_and_total_time() -> None:
    text = summarize_samples("main;run (a.py:1);sign (b.py:7) 3\nmain;run (a.py:9) 1\n")
    lines = [line.strip() for line in text.splitlines()]
    assert "4 samples" in lines
    assert "75.0%  sign (b.py:7)" in lines[lines.index("-- own time") :]
    assert "100.0%  run (a.py)" in lines[lines.index("-- total time") :]
