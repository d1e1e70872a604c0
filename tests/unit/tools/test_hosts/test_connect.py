"""The program that opens SSH's connections from inside a namespace."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from tools.test_hosts import connect

PROGRAM = [sys.executable, "-IS", str(Path(connect.__file__))]


def test_ssh_is_handed_the_connected_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            port = str(server.getsockname()[1])
            subprocess.run([*PROGRAM, "127.0.0.1", port], stdout=theirs, check=True)
            accepted, _ = server.accept()
            _, (descriptor, *_), _, _ = socket.recv_fds(ours, 1, 1)
            with accepted, socket.socket(fileno=descriptor) as handed:
                accepted.sendall(b"SSH-2.0\r\n")
                assert handed.recv(100) == b"SSH-2.0\r\n"


def test_a_client_that_takes_no_socket_is_relayed_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        with subprocess.Popen(
            [*PROGRAM, "127.0.0.1", port], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as relay:
            assert relay.stdin is not None
            assert relay.stdout is not None
            accepted, _ = server.accept()
            with accepted:
                relay.stdin.write(b"ping")
                relay.stdin.flush()
                assert accepted.recv(100) == b"ping"
                accepted.sendall(b"pong")
                assert relay.stdout.read1(100) == b"pong"
            relay.stdin.close()
            assert relay.wait(10) == 0


def test_who_does_not_answer_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    ended = subprocess.run(
        [*PROGRAM, "127.0.0.1", str(port)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert f"127.0.0.1 port {port}: " in ended.stderr
