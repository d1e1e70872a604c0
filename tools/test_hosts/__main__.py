"""The command line: ``python -m tools.test_hosts VERB``."""

from __future__ import annotations

import argparse
import sys

from tools.test_hosts import lab
from tools.test_hosts.errors import LabError
from tools.test_hosts.inventory_reader import read_inventories
from tools.test_hosts.places import Places
from tools.test_hosts.recipe import RELEASE
from tools.test_hosts.requirements import check_requirements

_FULL_DISK = "put a memory disk of SIZE (16m) over a directory of a running host"


def main() -> int:
    """Do what the arguments say; return the exit status."""
    arguments = _parser().parse_args()
    try:
        check_requirements()
        _perform(arguments, Places.from_environment())
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _perform(arguments: argparse.Namespace, places: Places) -> None:
    match arguments.verb:
        case "up":
            wanted = read_inventories(arguments.inventory)
            wanted = wanted.with_releases(arguments.release, dict(arguments.host_release))
            lab.up(wanted, places, asks_sudo_password=arguments.sudo_password)
            _say_how_to_use(arguments.inventory, places)
        case "down":
            lab.down(places)
        case "status":
            for row in lab.status(places):
                print("{:<12} {:<12} {:<16} {}".format(*row))
        case "reset" | "kill" | "start":
            getattr(lab, arguments.verb)(arguments.host, places)
        case "cut":
            lab.cut((arguments.zone, arguments.other), places)
        case "heal":
            lab.heal(places)
        case "limit-disk":
            lab.limit_disk(arguments.host, arguments.directory, arguments.size, places)
        case "run":
            lab.run_with_network(arguments.at, arguments.command, places)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.test_hosts", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    add = verbs.add_parser("up", help="make and start the hosts of inventories")
    add.add_argument("-i", "--inventory", action="append", required=True, metavar="PATH")
    add.add_argument("--release", default=RELEASE, help="Debian release of the hosts (%(default)s)")
    add.add_argument(
        "--host-release",
        metavar="HOST=RELEASE",
        type=_host_release,
        action="append",
        default=[],
        help="Debian release of one host, where it is another one (trixie)",
    )
    add.add_argument("--sudo-password", action="store_true", help="let sudo ask for a password")
    verbs.add_parser("down", help="remove everything but the cached base tree")
    verbs.add_parser("status", help="list the hosts")
    add = verbs.add_parser(
        "reset", help="give hosts an empty disk and boot them (all, if none is named)"
    )
    add.add_argument("host", nargs="*")
    for verb, text in (("kill", "cut the power of hosts"), ("start", "boot hosts")):
        add = verbs.add_parser(verb, help=text)
        add.add_argument("host", nargs="+")
    add = verbs.add_parser("cut", help="let the router drop everything between two zones")
    add.add_argument("zone")
    add.add_argument("other")
    verbs.add_parser("heal", help="take every cut back")
    add = verbs.add_parser("limit-disk", help=_FULL_DISK)
    for name in ("host", "directory", "size"):
        add.add_argument(name)
    add = verbs.add_parser("run", help="run a command with the controller's network, or a host's")
    add.add_argument("--at", metavar="HOST", help="with this host's network")
    add.add_argument("command", nargs="+")
    return parser


def _host_release(written: str) -> tuple[str, str]:
    host, equals, release = written.partition("=")
    if not (host and equals and release):
        raise argparse.ArgumentTypeError(f"{written} isn't HOST=RELEASE")
    return host, release


def _say_how_to_use(inventories: list[str], places: Places) -> None:
    first = inventories[-1]
    print(f"\nansible-playbook -i {first} -i {places.inventory} playbooks/site.yml")
    print(f"ssh -F {places.ssh_configuration} HOST")


if __name__ == "__main__":
    sys.exit(main())
