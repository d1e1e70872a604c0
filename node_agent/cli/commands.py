"""Every command of ``peersys``, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from node_agent.cli.command import Command, Group

if TYPE_CHECKING:
    import argparse

__all__ = ["COMMANDS"]


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="the node's start-up file"
    )


def _watch(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--watch",
        type=float,
        nargs="?",
        const=2.0,
        metavar="SECONDS",
        help="show it again every SECONDS (default 2) until interrupted",
    )


def _topology(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "places",
        nargs="+",
        type=Path,
        metavar="SOCKET",
        help="an admin socket, or a directory below which admin sockets are looked for",
    )


def _show_node(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spec",
        action="store_true",
        help="print only the specification, in the form that 'node apply' reads",
    )


def _apply(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="specification in YAML or JSON; - is stdin")
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would change and change nothing"
    )


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the object")


def _peer(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="node name, connector name or node identity")


def _isolate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the node's name or identity")
    parser.add_argument(
        "--since",
        default="24h",
        metavar="TIME",
        help="report what it asked for since TIME: 90m, 24h, 7d (ago) or ISO 8601; default 24h",
    )
    parser.add_argument(
        "--reason",
        choices=REASONS,
        default="keyCompromise",
        metavar="REASON",
        help="why its authenticator is revoked (default keyCompromise)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be done, and do nothing"
    )


def _recover(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be read back, and do nothing"
    )
    parser.add_argument(
        "--position",
        type=int,
        default=0,
        metavar="NUMBER",
        help="have the change log go on above NUMBER in any case",
    )
    parser.add_argument(
        "--crl-number",
        action="append",
        default=[],
        metavar="CA=NUMBER",
        dest="crl_numbers",
        help="number a CA's CRLs above NUMBER in any case; can be given several times",
    )


def _verify_publisher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the publisher")
    parser.add_argument("--repair", action="store_true", help="put right what differs")
    parser.add_argument(
        "--recompute",
        action="store_true",
        help="trust no digest that was made before, on either side (takes longer)",
    )


def _crl(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    _output(parser, "write to FILE instead of standard output")
    parser.add_argument("--delta", action="store_true", help="the newest delta CRL")
    parser.add_argument(
        "--shard", type=int, metavar="NUMBER", help="that part of a CRL that is divided"
    )
    parser.add_argument(
        "--der", action="store_true", help="write DER instead of PEM", dest="as_der"
    )


def _authority_certificate(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    _output(parser, "write to FILE instead of standard output")
    parser.add_argument(
        "--chain", action="store_true", help="with the CAs above it, without the root"
    )


def _output(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--output", type=Path, metavar="FILE", help=what)


def _certificates(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--authority", metavar="CA", help="only certificates of this CA")
    parser.add_argument("--name", metavar="TEXT", help="part of a subject or alternative name")
    parser.add_argument(
        "--status", choices=("good", "on_hold", "revoked"), help="only certificates in this state"
    )
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most N (default 50)")


def _page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit", type=int, default=100, metavar="N", help="at most N (default 100)"
    )
    parser.add_argument("--after", metavar="NAME", help="only names above NAME")


def _certificate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("authority", metavar="CA", help="name of the CA that issued it")
    parser.add_argument("serial", metavar="SERIAL", help="hexadecimal")


REASONS = (
    "unspecified",
    "keyCompromise",
    "cACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
    "removeFromCRL",
    "privilegeWithdrawn",
    "aACompromise",
)
"""RFC 5280 section 5.3.1. certificateHold can be undone, by removeFromCRL; nothing else can."""


def _revoke(parser: argparse.ArgumentParser) -> None:
    _certificate(parser)
    parser.add_argument(
        "--reason",
        choices=REASONS,
        default="unspecified",
        metavar="REASON",
        help="one of the reasons above (default unspecified)",
    )


def _approvals(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--authority", metavar="CA", help="only requests to this CA")
    parser.add_argument("--ended", action="store_true", help="also what doesn't wait any more")
    parser.add_argument(
        "--limit", type=int, default=100, metavar="N", help="at most N (default 100)"
    )


def _approval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("approval", metavar="APPROVAL", help="64 hexadecimal digits")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "identity",
        metavar="IDENTITY",
        help="spiffe://… of a node, or its name, or requester:NAME for a requester of this RA",
    )
    parser.add_argument("operation", metavar="OPERATION", help="for example ra.enroll")
    parser.add_argument(
        "--via",
        action="append",
        default=[],
        metavar="IDENTITY",
        help="a node that the request passed; once for each, the one linked with this node last",
    )
    parser.add_argument("--authority", metavar="CA", help="the CA that it would ask")
    parser.add_argument("--profile", metavar="PROFILE", help="the profile that it would ask for")
    parser.add_argument("--protocol", default="rest", metavar="PROTOCOL", help="default rest")
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        dest="names",
        metavar="NAME",
        help="a name that it would ask for, once for each: dns:, ip:, email:, uri: or, for a "
        "common name, cn: and the name; a bare name is dns:",
    )


def _token(parser: argparse.ArgumentParser) -> None:
    _output(parser, "write the token to FILE (made with mode 0600) instead of printing it")


def _audit_list(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most N (default 50)")
    parser.add_argument("--after", type=int, metavar="SEQUENCE", help="only entries behind this")
    parser.add_argument("--denied", action="store_true", help="only what was denied")
    parser.add_argument("--peer", metavar="NODE", help="only what this node asked or passed on")


def _audit_export(parser: argparse.ArgumentParser) -> None:
    _output(parser, "write to FILE instead of standard output")
    parser.add_argument(
        "--after", type=int, default=0, metavar="SEQUENCE", help="start behind this"
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="only what happened since TIME: 90m, 24h, 7d (ago) or ISO 8601",
    )
    parser.add_argument("--until", metavar="TIME", help="only what happened until TIME")


def _shell(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="your shell")


_AGENT = (
    Command(
        name="run",
        summary="run the agent of a node until it is stopped",
        description="Runs in the foreground and logs to standard error. SIGTERM drains the links "
        "and stops. Under systemd it reports readiness.",
        handler="agent:run",
        arguments=_config,
        examples=("peersys run --config /etc/peersys/node.yaml",),
        local=True,
    ),
    Command(
        name="check-config",
        summary="check a start-up file without starting anything",
        handler="agent:check_config",
        arguments=_config,
        examples=("peersys check-config --config /etc/peersys/node.yaml",),
        local=True,
    ),
    Command(
        name="status",
        summary="show health, links, publishers, signers and CAs of the node",
        description="Exits with 1 unless the node's health is ok, so that it serves as a check.",
        handler="status:show",
        arguments=_watch,
        examples=("peersys status", "peersys status --watch 5", "peersys status --json"),
    ),
    Command(
        name="recover",
        summary="bring a store that was restored from an old copy up to what VAs have seen",
        description="A CA whose VAs know more than its store signs nothing until this was run. "
        "Reads certificates and revocations back from them, and has the change log and CRL "
        "numbers go on above theirs.",
        handler="recovery:recover",
        arguments=_recover,
        examples=(
            "peersys recover --dry-run",
            "peersys recover",
            "peersys recover --position 5000 --crl-number issuing=120",
        ),
    ),
    Command(
        name="topology",
        summary="show several nodes as one tree: who dials whom, and how each link does",
        description="Asks each node's admin socket. Exits with 1 when a node doesn't answer, "
        "isn't healthy, or a link is down.",
        handler="topology:show",
        arguments=_topology,
        examples=(
            "peersys topology .local",
            "peersys topology /run/peersys-ca1/admin.sock /run/peersys-ra1/admin.sock",
        ),
        local=True,
    ),
    Command(
        name="completion",
        summary="print the tab completion script of a shell",
        handler="completion:show",
        arguments=_shell,
        examples=('eval "$(peersys completion bash)"',),
        local=True,
    ),
)

_NODE = Group(
    name="node",
    summary="what the node is made of",
    commands=(
        Command(
            name="show",
            summary="show every object of the node with its state",
            handler="node:show",
            arguments=_show_node,
            examples=("peersys node show", "peersys node show --spec > node-objects.yaml"),
        ),
        Command(
            name="apply",
            summary="make the node's objects as a file says, in one transaction",
            description="Prints the difference. Objects that the file doesn't name stay, unless "
            "it says 'purge: true'. What the node can't do is refused as a whole.",
            handler="node:apply",
            arguments=_apply,
            examples=(
                "peersys node apply node-objects.yaml --dry-run",
                "peersys node apply node-objects.yaml",
            ),
        ),
    ),
)

_PEER = Group(
    name="peer",
    summary="links to other nodes",
    commands=(
        Command(
            name="list",
            summary="list peers with the state of their links",
            handler="peers:show_all",
            examples=("peersys peer list",),
        ),
        Command(
            name="ping",
            summary="measure the round trip over each live link to a peer",
            description="Exits with 1 when no link to the peer is up.",
            handler="peers:ping",
            arguments=_peer,
            examples=("peersys peer ping ra1",),
        ),
        Command(
            name="isolate",
            summary="take a node that was taken over out of the PKI, and say what it asked for",
            description="Denies it everything by a role of its own (isolated-NAME), which ends its "
            "links within a second; revokes its authenticator where this node has the Management "
            "CA; disables connectors and removes publishers to it; then lists what it asked for or "
            "passed on. Run it on every node that is linked with it, on the Management CA's node "
            "first. Exits with 1 when a link is still up. Delete the role to give the node back.",
            handler="isolation:isolate",
            arguments=_isolate,
            examples=("peersys peer isolate ra1 --since 7d", "peersys peer isolate ra1 --dry-run"),
        ),
    ),
)

_PUBLISHER = Group(
    name="publisher",
    summary="what goes to which VA",
    commands=(
        Command(
            name="verify",
            summary="compare a publisher's peer with this node, and repair it",
            description="Exits with 1 when something differs and was not repaired.",
            handler="publishers:verify",
            arguments=_verify_publisher,
            examples=("peersys publisher verify va1", "peersys publisher verify va1 --repair"),
        ),
    ),
)

_CRYPTO_TOKEN = Group(
    name="crypto-token",
    summary="where the node's keys live",
    commands=(
        Command(
            name="list",
            summary="list the node's crypto tokens with their state",
            handler="crypto_tokens:show_all",
        ),
        Command(
            name="open",
            summary="have a PKCS #11 token opened now",
            description="A token whose PIN was refused isn't tried again before this is run.",
            handler="crypto_tokens:open_one",
            arguments=_name,
        ),
    ),
)

_CA = Group(
    name="ca",
    summary="certification authorities of the node",
    commands=(
        Command(
            name="list",
            summary="list the node's CAs by name",
            handler="authorities:show_all",
            arguments=_page,
            examples=("peersys ca list", "peersys ca list --after issuing"),
        ),
        Command(
            name="show",
            summary="show one CA, its certificate and its CRL",
            handler="authorities:show",
            arguments=_name,
            examples=("peersys ca show issuing",),
        ),
        Command(
            name="certificate",
            summary="export the certificate of a CA as PEM",
            handler="authorities:export_certificate",
            arguments=_authority_certificate,
            examples=(
                "peersys ca certificate root --output root.pem",
                "peersys ca certificate issuing --chain --output chain.pem",
            ),
        ),
        Command(
            name="crl",
            summary="export the newest CRL of a CA",
            handler="authorities:export_crl",
            arguments=_crl,
            examples=("peersys ca crl issuing --output issuing.crl.pem",),
        ),
    ),
)

_CERTIFICATE = Group(
    name="certificate",
    summary="certificates that the node issued",
    commands=(
        Command(
            name="list",
            summary="search certificates, newest first",
            handler="certificates:show_all",
            arguments=_certificates,
            examples=("peersys certificate list --authority issuing --name example.org",),
        ),
        Command(
            name="show",
            summary="show one certificate",
            handler="certificates:show",
            arguments=_certificate,
        ),
        Command(
            name="revoke",
            summary="revoke a certificate, put it on hold, or release it from hold",
            description="Reasons: " + ", ".join(REASONS) + ". certificateHold can be undone with "
            "removeFromCRL; every other reason is final.",
            handler="certificates:revoke",
            arguments=_revoke,
            examples=("peersys certificate revoke management 3F2A… --reason keyCompromise",),
        ),
    ),
)

_APPROVAL = Group(
    name="approval",
    summary="requests that people have to approve",
    commands=(
        Command(
            name="list",
            summary="list requests that wait for approval, oldest first",
            description="Approving goes through an RA's REST interface: nobody approves here.",
            handler="approvals:show_all",
            arguments=_approvals,
            examples=("peersys approval list --authority issuing", "peersys approval list --ended"),
        ),
        Command(
            name="show",
            summary="show one request: its CSR, and who approved it through which nodes",
            handler="approvals:show",
            arguments=_approval,
        ),
    ),
)

_ROLE = Group(
    name="role",
    summary="what peers may do",
    commands=(
        Command(name="list", summary="list peer roles", handler="access:show_roles"),
        Command(name="show", summary="show one role", handler="access:show_role", arguments=_name),
        Command(
            name="explain",
            summary="ask the decision point whether an identity may do an operation, and why",
            description="Nothing is done and nothing enters the audit log. Exits with 1 when the "
            "answer is no.",
            handler="access:explain",
            arguments=_explain,
            examples=(
                "peersys role explain ra1 ra.enroll --authority issuing --profile tls-server",
                "peersys role explain tenant-ra1 ra.search --authority tenant-ca --via proxy1",
                "peersys role explain requester:alice ra.enroll --authority issuing "
                "--profile tls-server --name www.example.org",
            ),
        ),
    ),
)

_ISSUER = Group(
    name="issuer",
    summary="whose certificates prove the nodes of other trust domains",
    commands=(
        Command(
            name="list",
            summary="list peer issuers: tenants' own Management CAs",
            handler="access:show_issuers",
        ),
    ),
)

_REQUESTER = Group(
    name="requester",
    summary="who may ask at this RA",
    commands=(Command(name="list", summary="list requesters", handler="access:show_requesters"),),
)

_TOKEN = Group(
    name="token",
    summary="API tokens for requesters",
    commands=(
        Command(
            name="new",
            summary="make a random API token and print it once, with the hash the RA keeps",
            description="The RA keeps only the hash (token_sha256 of the requester). Nothing "
            "stores the token itself.",
            handler="tokens:new",
            arguments=_token,
            examples=("peersys token new", "peersys token new --output web-team.token"),
            local=True,
        ),
    ),
)

_AUDIT = Group(
    name="audit",
    summary="the node's hash-chained log of decisions and changes",
    commands=(
        Command(
            name="list",
            summary="show the newest entries",
            handler="audit:show_all",
            arguments=_audit_list,
            examples=("peersys audit list --denied",),
        ),
        Command(
            name="verify",
            summary="check the hash chain from its first entry to its last",
            description="Exits with 1 and names the first bad entry when the chain is broken.",
            handler="audit:verify",
        ),
        Command(
            name="export",
            summary="write all entries as JSON lines",
            handler="audit:export",
            arguments=_audit_export,
            examples=("peersys audit export --output audit.jsonl",),
        ),
    ),
)

COMMANDS: tuple[Command | Group, ...] = (
    *_AGENT,
    _NODE,
    _PEER,
    _PUBLISHER,
    _CRYPTO_TOKEN,
    _CA,
    _CERTIFICATE,
    _APPROVAL,
    _ROLE,
    _ISSUER,
    _REQUESTER,
    _TOKEN,
    _AUDIT,
)
