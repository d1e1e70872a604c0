# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading

import pytest
from ansible_collections.peersys.pki.plugins.module_utils._client import AdminClient, is_listening
from ansible_collections.peersys.pki.plugins.module_utils._errors import (
    AgentBroken,
    AgentRefused,
    AgentUnreachable,
)


def client(path, *, timeout=5.0, start=0.0):
    return AdminClient(str(path), timeout_seconds=timeout, start_timeout_seconds=start)


@pytest.fixture
def raw_agent(tmp_path):
    """A listener that sends fixed bytes to whoever connects, then closes."""
    path = tmp_path / "raw.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def answer(payload):
        def serve():
            connection, _address = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(payload)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return path

    yield answer
    listener.close()


def test_names_are_quoted_and_flags_are_json_words(admin_socket, backend):
    with pytest.raises(AgentRefused):
        client(admin_socket).get("objects", "peer_roles", "a/../b", dry_run=True, limit=None)
    assert backend.asked == [("GET", "objects/peer_roles/a/../b", {"dry_run": "true"}, None)]


def test_path_longer_than_a_socket_address_works(tmp_path, backend, serve):
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    path = str(deep / "admin.sock")
    with serve(path, backend):
        assert client(path).get("status")["health"] == "ok"
        assert is_listening(path)
    assert not is_listening(path)


def test_agent_that_is_just_starting_is_waited_for(tmp_path, backend, serve):
    path = str(tmp_path / "admin.sock")
    answers = []
    asking = threading.Thread(target=lambda: answers.append(client(path, start=20.0).get("status")))
    asking.start()
    with serve(path, backend):
        asking.join(20)
    assert answers[0]["health"] == "ok"


def test_missing_socket_says_so_and_what_to_do(tmp_path):
    with pytest.raises(AgentUnreachable, match=r"doesn't exist .* Start the agent"):
        client(tmp_path / "none").get("status")


def test_stale_socket_has_no_listener(tmp_path):
    path = tmp_path / "admin.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    with pytest.raises(AgentUnreachable, match="has no listener"):
        client(path).get("status")


def test_answer_cut_short_is_told_from_none_sent(raw_agent):
    path = raw_agent(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{")
    with pytest.raises(AgentUnreachable) as raised:
        client(path).get("status")
    assert raised.value.sent


def test_agent_that_never_answers_ends_with_the_timeout(tmp_path):
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(AgentUnreachable, match="gave no whole answer"):
            client(path, timeout=0.1).get("status")


def test_answer_that_is_no_json_is_refused(raw_agent):
    path = raw_agent(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    with pytest.raises(AgentBroken, match="not JSON"):
        client(path).get("status")


@pytest.mark.parametrize("payload", [b"null", b"[]", b"{}"])
def test_problem_without_words_still_has_a_message(raw_agent, payload):
    head = f"HTTP/1.1 500 X\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
    with pytest.raises(AgentRefused, match="node: refused with status 500"):
        client(raw_agent(head + payload)).get("status")


@pytest.mark.parametrize(
    ("detail", "message"),
    [
        ("peer_roles/cas: no rules", "peer_roles/cas: no rules. Add one"),
        ("peer_roles.cas.rules: none. Add one", "peer_roles.cas.rules: none. Add one"),
        ("peer_roles/cas-2: no rules", "peer_roles cas: peer_roles/cas-2: no rules. Add one"),
        ("no rules", "peer_roles cas: no rules. Add one"),
    ],
)
def test_message_names_object_and_remedy_once(detail, message):
    refused = AgentRefused("peer_roles cas", 422, {"detail": detail, "remedy": "Add one"})
    assert str(refused) == message
