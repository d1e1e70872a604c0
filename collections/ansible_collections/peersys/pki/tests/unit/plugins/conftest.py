# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small admin server on a Unix socket, and a way to run a module against it in this process."""

from __future__ import annotations

import contextlib
import copy
import http.server
import importlib
import json
import os
import socketserver
import threading
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from ansible.module_utils.testing import patch_module_args

KINDS = (
    "crypto_tokens",
    "authenticators",
    "certificate_profiles",
    "certification_authorities",
    "peer_issuers",
    "peer_roles",
    "peer_connectors",
    "publishers",
    "signers",
    "requesters",
)


class Problem(Exception):
    """An answer that is a problem document."""

    def __init__(self, status, detail, **more):
        self.status = status
        self.body = {"type": "about:blank", "title": "problem", "detail": detail, **more}
        super().__init__(detail)


class AdminBackend:
    """Objects in memory with the plans of the admin API: enough to be told the truth."""

    def __init__(self):
        self.objects = {kind: {} for kind in KINDS}
        self.peers = []
        self.pings = {}
        self.health = ["ok"]
        self.asked = []
        self.verifications = {}

    def answer(self, method, segments, query, body):
        self.asked.append((method, "/".join(segments), query, body))
        dry_run = query.get("dry_run") == "true"
        match (method, segments):
            case ("GET", ["node"]):
                return {"identity": "spiffe://t/node/n", "version": "1", "objects": self.listed()}
            case ("PUT", ["node"]):
                return self.put_node(body, dry_run)
            case ("GET", ["objects", kind]):
                return self.listed()[kind]
            case ("GET", ["objects", kind, name]):
                return self.view(kind, name)
            case ("PUT", ["objects", kind, name]):
                return self.apply(dry_run, {kind: [body]})
            case ("DELETE", ["objects", kind, name]):
                return self.apply(dry_run, {}, deleted=[(kind, name)])
            case ("POST", ["management-certificates"]):
                if "BEGIN" not in body["csr"]:
                    raise Problem(422, "is no CSR", field="csr", remedy="Send PEM")
                return {
                    "changed": not dry_run,
                    "certificate": "PEM",
                    "trust_anchors": ["CA"],
                    "crl": None,
                    "serial": "2a",
                    "not_after": 1,
                }
            case ("GET", ["peers"]):
                return self.peers
            case ("POST", ["peers", name, "ping"]):
                if name not in self.pings:
                    raise Problem(503, f"no live link with {name}")
                return {"round_trip_ms": self.pings[name]}
            case ("POST", ["publishers", name, "verification"]):
                if name not in self.verifications:
                    raise Problem(503, f"{name} isn't reached now")
                found = self.verifications[name]
                repaired = sum(found.values()) if body["repair"] else 0
                self.verifications[name] = dict.fromkeys(found, 0) if body["repair"] else found
                one = {"authority": "issuing", "entries": 9, **found, "repaired": repaired}
                return {"publisher": name, "authorities": [one]}
            case ("GET", ["health"]):
                return {"status": "ok", "node": "spiffe://t/node/n", "version": "1"}
            case ("GET", ["status"]):
                health = self.health.pop(0) if len(self.health) > 1 else self.health[0]
                return {"health": health, "reasons": [] if health == "ok" else ["link ra1 is down"]}
        raise Problem(404, f"no {method} {segments}")

    def listed(self):
        return {kind: [self.view(kind, name) for name in self.objects[kind]] for kind in KINDS}

    def view(self, kind, name):
        if name not in self.objects[kind]:
            raise Problem(404, f"no {name}")
        spec = copy.deepcopy(self.objects[kind][name])
        state = {}
        if kind == "authenticators":
            certified = bool(spec.get("certificate"))
            state = {
                "csr": f"CSR of {name}",
                "needs_certificate": not certified,
                "certificate": {"serial": "2a"} if certified else None,
            }
        return {"spec": spec, "state": state}

    def put_node(self, body, dry_run):
        wanted = {kind: body.get(kind, []) for kind in KINDS}
        deleted = []
        if body.get("purge"):
            for kind in KINDS:
                names = {spec["name"] for spec in wanted[kind]}
                deleted += [(kind, name) for name in self.objects[kind] if name not in names]
        return self.apply(dry_run, wanted, deleted=deleted)

    def apply(self, dry_run, wanted, deleted=()):
        steps = []
        for kind, specs in wanted.items():
            for spec in specs:
                if spec["name"] == "refused":
                    raise Problem(422, "can't be", field=f"{kind}.name", remedy="Choose another")
                steps += self.step(kind, spec)
        for kind, name in deleted:
            if name in self.objects[kind]:
                steps.append(
                    {
                        "action": "delete",
                        "kind": kind,
                        "name": name,
                        "before": self.objects[kind][name],
                        "after": None,
                    }
                )
        touched = {}
        for step in steps:
            if not dry_run:
                self.commit(step)
            if step["after"]:
                view = {"spec": step["after"]} if dry_run else self.view(step["kind"], step["name"])
                touched.setdefault(step["kind"], {})[step["name"]] = view
        return {"changed": bool(steps), "steps": steps, "objects": touched}

    def step(self, kind, spec):
        before = self.objects[kind].get(spec["name"])
        if kind == "authenticators" and before:
            kept = ("certificate", "trust_anchors", "crls")
            spec = {**{key: before[key] for key in kept if before.get(key)}, **spec}
        if before == spec:
            return []
        action = "update" if before else "create"
        return [
            {"action": action, "kind": kind, "name": spec["name"], "before": before, "after": spec}
        ]

    def commit(self, step):
        if step["after"] is None:
            del self.objects[step["kind"]][step["name"]]
        else:
            self.objects[step["kind"]][step["name"]] = step["after"]


class _Handler(http.server.BaseHTTPRequestHandler):
    def handle_any(self):
        parts = urlsplit(self.path)
        segments = [unquote(part) for part in parts.path.split("/")[2:]]
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        try:
            status, answer = 200, self.server.backend.answer(self.command, segments, query, body)
        except Problem as problem:
            status, answer = problem.status, problem.body
        payload = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_PUT = do_POST = do_DELETE = handle_any

    def address_string(self):
        return "unix"

    def log_message(self, *arguments):
        pass


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextlib.contextmanager
def serving(path, backend):
    """Serve ``backend`` on the Unix socket ``path`` while the block runs."""
    directory = os.open(os.path.dirname(path), os.O_PATH)
    server = _Server(f"/proc/self/fd/{directory}/{os.path.basename(path)}", _Handler)
    server.backend = backend
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        os.close(directory)


@pytest.fixture
def serve():
    """The context manager ``serving``, for tests that start the agent late."""
    return serving


@pytest.fixture
def backend():
    """The agent's memory."""
    return AdminBackend()


@pytest.fixture
def admin_socket(tmp_path, backend):
    """An agent's admin socket with ``backend`` behind it."""
    path = str(tmp_path / "admin.sock")
    with serving(path, backend):
        yield path


@pytest.fixture
def run_module(capsys):
    """Run a module of the collection; returns what it prints as its result."""

    def run(name, /, **arguments):
        check = arguments.pop("check_mode", False)
        parsed = {**arguments, "_ansible_check_mode": check, "_ansible_diff": True}
        module = importlib.import_module(f"ansible_collections.peersys.pki.plugins.modules.{name}")
        with patch_module_args(parsed), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return run
