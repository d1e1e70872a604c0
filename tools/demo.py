"""Bring the local topology up or down, and say in the end what stands there.

``up`` runs the playbooks that a real deployment runs (site, then verify) on the inventory
``local``; the summary only reads what they left. Everything is below one directory: ``.local``, or
``$PEERSYS_LOCAL_ROOT``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCAL = Path(os.environ.get("PEERSYS_LOCAL_ROOT") or ROOT / ".local").absolute()
INVENTORY = "inventories/local"
AUTHORITY = "issuing"
EXTENSIONS = "subjectAltName,extendedKeyUsage,authorityInfoAccess,crlDistributionPoints"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RECAP = re.compile(r"\S+\s+: ok=\d+\s+changed=(?P<changed>\d+)\s+unreachable=\d+\s+failed=\d+")


def main() -> int:
    """Run ``up`` or ``down``."""
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    if verb == "up":
        return _up()
    if verb == "down":
        return _down()
    sys.exit(f"usage: {Path(sys.argv[0]).name} up|down")


def _up() -> int:
    start = time.monotonic()
    LOCAL.mkdir(mode=0o700, parents=True, exist_ok=True)
    changed = _play("site")
    _play("verify")
    _heading("The topology")
    sys.stdout.flush()
    topology = [_tool("peersys"), "topology", str(LOCAL)]
    status = subprocess.run(topology, check=False).returncode
    _summarize()
    _show_urls(topology)
    seconds = time.monotonic() - start
    _heading("Done")
    if changed:
        print(f"{changed} tasks changed something; {seconds:.0f} s altogether.")
    else:
        print(f"Nothing changed: every node already was as {INVENTORY} says. {seconds:.0f} s.")
        print("Only the trial above enrolled, checked and revoked a certificate of its own again.")
    _next_steps()
    return status


def _down() -> int:
    if not LOCAL.exists():
        print(f"Nothing to do: {LOCAL} doesn't exist.")
        return 0
    _play("decommission")
    # What the inventory and Ansible made: passphrases, the trial's token, the report, caches.
    for name in ("secrets", "ansible"):
        shutil.rmtree(LOCAL / name, ignore_errors=True)
    (LOCAL / "verification.json").unlink(missing_ok=True)
    try:
        LOCAL.rmdir()
    except OSError:
        left = ", ".join(sorted(path.name for path in LOCAL.iterdir()))
        sys.exit(f"{_shown(LOCAL)} isn't empty: the demo didn't make {left}, so it stays")
    print(f"Every process of the demo is stopped and {_shown(LOCAL)} is gone.")
    print("The environment in .venv stays for the next time; 'make clean' removes it.")
    return 0


def _play(name: str) -> int:
    """Run one playbook with its output going through; return how many tasks changed something."""
    command = [_tool("ansible-playbook"), "-i", INVENTORY, f"playbooks/{name}.yml"]
    _heading(" ".join(["ansible-playbook", *command[1:]]))
    sys.stdout.flush()
    changed = 0
    with subprocess.Popen(
        command, cwd=ROOT, env=_environment(), stdout=subprocess.PIPE, text=True
    ) as play:
        assert play.stdout is not None
        for line in play.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            if recap := _RECAP.match(_COLOUR.sub("", line)):
                changed += int(recap["changed"])
    if play.returncode:
        print(f"\nThe playbook {name} failed; the message above says what to correct.")
        print("The next 'make demo' goes on from there.")
        sys.exit(play.returncode)
    return changed


def _environment() -> dict[str, str]:
    """Let Ansible keep its files below ``LOCAL``, so that they go when the demo goes."""
    own = LOCAL / "ansible"
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "PEERSYS_LOCAL_ROOT": str(LOCAL),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_HOME": str(own),
        "ANSIBLE_LOCAL_TEMP": str(own / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(own / "tmp"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    environment.pop("PYTHONPATH", None)
    if sys.stdout.isatty():
        environment["ANSIBLE_FORCE_COLOR"] = "1"
    return environment


def _tool(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _summarize() -> None:
    path = LOCAL / "verification.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}; the playbook verify should have written it")
    _heading("The certificate that was enrolled over the RA")
    for serial in report["serials"]:
        _show_certificate(serial)
    _heading("What OpenSSL says of it")
    for step in report["steps"]:
        taken = f"{step['milliseconds']:.0f} ms"
        print(f"  {step['node']:<5} {step['step']:<38} {taken:>8}  {step['detail']}")


def _show_certificate(serial: str) -> None:
    arguments = ["--socket", str(_ca_socket()), "--json", "certificate", "show", AUTHORITY, serial]
    shown = subprocess.run(
        [_tool("peersys"), *arguments], check=True, capture_output=True, text=True
    )
    certificate = json.loads(shown.stdout)
    fields = ["-noout", "-subject", "-issuer", "-serial", "-dates", "-ext", EXTENSIONS]
    printed = subprocess.run(
        ["openssl", "x509", *fields],
        input=certificate["certificate"],
        check=True,
        capture_output=True,
        text=True,
    )
    print("".join(f"  {line}\n" for line in printed.stdout.splitlines() if line), end="")
    print(f"  status at the CA: {certificate['status']} ({certificate['reason']})")


def _show_urls(topology: list[str]) -> None:
    """Say where a browser or curl finds something."""
    shown = subprocess.run([*topology, "--json"], capture_output=True, text=True, check=False)
    _heading("URLs")
    for node in json.loads(shown.stdout)["nodes"]:
        name = str(node["identity"]).rpartition("/")[2]
        if rest := node["urls"].get("rest"):
            print(f"  {name}   REST    {rest}, described by {rest}/openapi.json")
        if status := node["urls"].get("status"):
            print(f"  {name}   OCSP    {status}/ocsp")
            print(f"  {name}   CRL     {status}/crl/{AUTHORITY}.crl")
            print(f"  {name}   CA      {status}/ca/{AUTHORITY}.cer")


def _ca_socket() -> Path:
    return LOCAL / "ca1/run/admin.sock"


def _next_steps() -> None:
    _heading("Next")
    socket = f"--socket {_shown(_ca_socket())}"
    print(f"  .venv/bin/peersys topology {_shown(LOCAL)}")
    print(f"  .venv/bin/peersys {socket} status --watch")
    print("  docs/tutorial/first-pki.md       enrol one of your own with curl and openssl")
    print("  make demo-down                   stop it all and remove every file")


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def _heading(text: str) -> None:
    print(f"\n== {text} ".ljust(100, "="))


if __name__ == "__main__":
    sys.exit(main())
