# Copyright: Contributors to the Peersys project
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change in any release.

"""From a located document to a topology: every shape is checked here, every name later."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.peersys.pki.plugins.module_utils._argspec import ArgumentSpec
from ansible_collections.peersys.pki.plugins.module_utils._specifications import (
    CERTIFICATE_PROFILE,
    CERTIFICATION_AUTHORITY,
    MANAGEMENT_CA,
    PUBLISHER,
    SIGNER,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._located_yaml import (
    Document,
    Path,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_model import (
    FUNCTIONS,
    PORTS,
    Authority,
    Client,
    Endpoint,
    Issuer,
    Link,
    Network,
    Node,
    StatusCache,
    Store,
    Topology,
    Zone,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._topology_tenants import (
    TENANTS,
    tenants_in,
)
from ansible_collections.peersys.pki.plugins.plugin_utils._typed_document import (
    TypedDocument,
    one_of,
)

TOP_KEYS = (
    "plugin",
    "trust_domain",
    "zones",
    "nodes",
    "stores",
    "status_caches",
    "clients",
    "management_ca",
    "authorities",
    "profiles",
    "links",
)
ZONE_KEYS = ("dials", "dialled_by", "networks")
NODE_KEYS = (
    "zone",
    "address",
    "functions",
    "approves",
    "listen",
    "listen_address",
    "server_names",
    "status_url",
    "store",
    "name",
    "variables",
)
STORE_KEYS = ("host", "zone", "address", "port", "database", "variables")
CACHE_KEYS = ("zone", "address", "listen", "validation_authorities", "url", "variables")
CLIENT_KEYS = ("zone", "address", "variables")
AUTHORITY_KEYS = ("node", "activation", *(set(CERTIFICATION_AUTHORITY.options) - {"name"}))
LINK_KEYS = ("from", "to", "authorities", "publish")
PUBLISH = ArgumentSpec(
    {
        "content": PUBLISHER.options["content"],
        "only_revoked": PUBLISHER.options["only_revoked"],
        "unknown_serial": SIGNER.options["unknown_serial"],
    }
)

# The agent's own rules for names (SPIFFE-ID section 2.1; a node's name is also a DNS label).
_TRUST_DOMAIN = re.compile(r"[a-z0-9][a-z0-9._-]{0,254}\Z")
_NODE_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?\Z")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,20}[a-z0-9])?\Z")
_ENDPOINT = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^:\[\]\s]+)):(?P<port>\d{1,5})\Z")
_SHORT_NAME = "Use lower-case letters, digits and inner dashes, and keep it short"
_DATABASE = re.compile(r"[a-z_][a-z0-9_]{0,62}\Z")


def read_topology(document: Document) -> Topology:
    """Return what the document says. Raises TopologyRefused at the first wrong shape."""
    return _Reader(document).topology()


class _Reader(TypedDocument):
    def topology(self) -> Topology:
        top = self.typed((), self.document.value, dict)
        # Those stand in files of their own, which were put in here.
        self.known_keys((), top, (*TOP_KEYS, TENANTS))
        nodes = {
            name: self.node(("nodes", name), name, node)
            for name, node in self.section("nodes", _NODE_NAME).items()
        }
        return Topology(
            trust_domain=self.trust_domain((), top),
            zones=self.zones(),
            nodes=nodes,
            stores={
                name: self.store(("stores", name), name, store)
                for name, store in self.section("stores", _OBJECT_NAME).items()
            },
            caches={
                name: self.cache(("status_caches", name), name, cache, nodes.get(name))
                for name, cache in self.section("status_caches", _NODE_NAME).items()
            },
            clients={
                name: self.client(("clients", name), name, client)
                for name, client in self.section("clients", _NODE_NAME).items()
            },
            management=self.management(top.get("management_ca")),
            authorities={
                name: self.authority(("authorities", name), name, authority)
                for name, authority in self.section("authorities", _OBJECT_NAME).items()
            },
            profiles={
                name: self.specified(("profiles", name), name, profile, CERTIFICATE_PROFILE)
                for name, profile in self.section("profiles", _OBJECT_NAME).items()
            },
            links=tuple(
                self.link(index, link)
                for index, link in enumerate(self.typed(("links",), top.get("links", []), list))
            ),
            tenants=tenants_in(self.document),
            issuers=self.issuers(),
        )

    def issuers(self) -> dict[str, Issuer]:
        if TENANTS not in self.document.value:
            return {}
        # What reads certificates is slow to load, which every play of everybody else would wait for.
        from ansible_collections.peersys.pki.plugins.plugin_utils._topology_issuers import (
            IssuerReader,
        )

        return IssuerReader(self.document, self.trust_domain).issuers()

    def section(self, key: str, names: re.Pattern[str]) -> dict[str, t.Any]:
        """Return a top-level mapping of named things; ``zones`` may hold empty ones."""
        found = self.typed((key,), self.document.value.get(key) or {}, dict)
        for name, value in found.items():
            if not names.match(name):
                self.refuse((key, name), f"{name!r} is no name", _SHORT_NAME)
            if value is not None or key != "zones":
                self.typed((key, name), value, dict)
        return found

    def trust_domain(self, path: Path, found: dict[str, t.Any]) -> str:
        text: str = self.required(path, found, "trust_domain", str)
        if not _TRUST_DOMAIN.match(text):
            remedy = "Use lower-case letters, digits, dots and dashes, as in pki.example.org"
            self.refuse((*path, "trust_domain"), f"{text!r} is no trust domain", remedy)
        return text

    def zones(self) -> dict[str, Zone]:
        found = {
            name: self.zone(("zones", name), name, zone or {})
            for name, zone in self.section("zones", _OBJECT_NAME).items()
        }
        for name, zone in found.items():
            for index, dialling in enumerate(zone.dialled_by):
                if dialling not in found:
                    path = ("zones", name, "dialled_by", index)
                    self.refuse(path, f"unknown zone {dialling!r}", "Add it to zones")
        return {
            name: dataclasses.replace(zone, dials=(*zone.dials, *_diallers_words(found, zone)))
            for name, zone in found.items()
        }

    def zone(self, path: Path, name: str, raw: dict[str, t.Any]) -> Zone:
        self.known_keys(path, raw, ZONE_KEYS)
        networks = (*path, "networks")
        return Zone(
            name=name,
            dials=tuple(self.texts((*path, "dials"), raw.get("dials"))),
            dialled_by=tuple(self.texts((*path, "dialled_by"), raw.get("dialled_by"))),
            networks=tuple(
                self.network((*networks, index), text)
                for index, text in enumerate(self.texts(networks, raw.get("networks")))
            ),
        )

    def network(self, path: Path, text: str) -> Network:
        try:
            return ipaddress.ip_network(text)
        except ValueError as error:
            self.refuse(path, f"{text!r} is no network: {error}", "Write it as in 192.0.2.0/24")

    def node(self, path: Path, name: str, raw: dict[str, t.Any]) -> Node:
        self.known_keys(path, raw, NODE_KEYS)
        functions = self.texts((*path, "functions"), self.required(path, raw, "functions", list))
        for index, function in enumerate(functions):
            if function not in FUNCTIONS:
                where = (*path, "functions", index)
                self.refuse(where, f"{function!r} is no function", one_of(function, FUNCTIONS))
        address = self.optional(path, raw, "address", str)
        listen_address = self.optional(path, raw, "listen_address", str) or address
        called = self.optional(path, raw, "name", str) or name
        if not _NODE_NAME.match(called):
            self.refuse((*path, "name"), f"{called!r} is no name", _SHORT_NAME)
        return Node(
            name=name,
            zone=self.required(path, raw, "zone", str),
            address=address,
            functions=tuple(functions),
            approves=self.optional(path, raw, "approves", bool) or False,
            listen=self.listen((*path, "listen"), raw.get("listen") or {}, listen_address),
            server_names=tuple(self.texts((*path, "server_names"), raw.get("server_names"))),
            status_url=self.optional(path, raw, "status_url", str),
            store=self.optional(path, raw, "store", str),
            variables=self.variables(path, raw),
            called=called,
        )

    def variables(self, path: Path, raw: dict[str, t.Any]) -> dict[str, t.Any]:
        return self.typed((*path, "variables"), raw.get("variables") or {}, dict)

    def store(self, path: Path, name: str, raw: dict[str, t.Any]) -> Store:
        self.known_keys(path, raw, STORE_KEYS)
        host = self.required(path, raw, "host", str)
        if not _NODE_NAME.match(host):
            self.refuse((*path, "host"), f"{host!r} is no name", _SHORT_NAME)
        port = self.optional(path, raw, "port", int) or 5432
        if not 1 <= port <= 65535:
            self.refuse((*path, "port"), f"{port} is no port")
        database = self.optional(path, raw, "database", str) or "peersys"
        if not _DATABASE.match(database):
            remedy = "Use lower-case letters, digits and underscores"
            self.refuse((*path, "database"), f"{database!r} is no name of a database", remedy)
        return Store(
            name=name,
            host=host,
            zone=self.required(path, raw, "zone", str),
            address=self.required(path, raw, "address", str),
            port=port,
            database=database,
            variables=self.variables(path, raw),
        )

    def cache(self, path: Path, name: str, raw: dict[str, t.Any], node: Node | None) -> StatusCache:
        """Return a cache; on a VA's own host, ``node``, that one says where it is."""
        self.known_keys(path, raw, CACHE_KEYS)
        if node is not None:
            for key in ("zone", "address", "variables"):
                if key in raw:
                    self.refuse((*path, key), f"nodes.{name} says it already", "Leave it away")
            raw = {**raw, "zone": node.zone, "address": node.address}
        address = self.required(path, raw, "address", str)
        below = (*path, "validation_authorities")
        named = self.required(path, raw, "validation_authorities", list)
        return StatusCache(
            name=name,
            zone=self.required(path, raw, "zone", str),
            address=address,
            listen=self.endpoint((*path, "listen"), raw.get("listen", 80), address),
            validators=tuple(self.texts(below, named)),
            written_url=self.optional(path, raw, "url", str),
            variables=self.variables(path, raw),
        )

    def client(self, path: Path, name: str, raw: dict[str, t.Any]) -> Client:
        self.known_keys(path, raw, CLIENT_KEYS)
        return Client(
            name=name,
            zone=self.required(path, raw, "zone", str),
            address=self.required(path, raw, "address", str),
            variables=self.variables(path, raw),
        )

    def listen(self, path: Path, raw: t.Any, host: str | None) -> dict[str, Endpoint]:
        ports = self.typed(path, raw, dict)
        self.known_keys(path, ports, PORTS)
        return {port: self.endpoint((*path, port), value, host) for port, value in ports.items()}

    def endpoint(self, path: Path, value: t.Any, host: str | None) -> Endpoint:
        text = (
            f"[{host}]:{value}" if isinstance(value, int) and host and ":" in host else str(value)
        )
        if isinstance(value, int) and not isinstance(value, bool) and ":" not in text:
            if host is None:
                self.refuse(path, "a port needs an address", "Give the node an address")
            text = f"{host}:{value}"
        match = _ENDPOINT.match(text)
        if match is None or not 1 <= int(match["port"]) <= 65535:
            self.refuse(path, f"{value!r} is no port", "Write a port, or host:port")
        return Endpoint(match["v6"] or match["host"], int(match["port"]))

    def management(self, raw: t.Any) -> dict[str, t.Any]:
        path = ("management_ca",)
        given = dict(self.typed(path, raw or {}, dict))
        name = given.pop("name", "management")
        given.setdefault("subject", "CN=Peersys Management CA")
        return self.specified(path, name, given, MANAGEMENT_CA)

    def authority(self, path: Path, name: str, raw: dict[str, t.Any]) -> Authority:
        self.known_keys(path, raw, AUTHORITY_KEYS)
        kind = raw.get("kind") or ("issuing" if raw.get("issuer") else "root")
        activation = raw.get("activation", "automatic")
        if activation not in ("automatic", "on_demand"):
            self.refuse(
                (*path, "activation"),
                f"{activation!r} is no way to open a token",
                "Write automatic or on_demand",
            )
        fields = {key: value for key, value in raw.items() if key not in ("node", "activation")}
        fields = self.specified(path, name, {**fields, "kind": kind}, CERTIFICATION_AUTHORITY)
        return Authority(
            name=name,
            node=self.required(path, raw, "node", str),
            kind=kind,
            issuer=raw.get("issuer"),
            activation=activation,
            profiles=tuple(raw.get("profiles", ())),
            fields=fields,
        )

    def specified(self, path: Path, name: str, raw: t.Any, spec: ArgumentSpec) -> dict[str, t.Any]:
        """Return the named object's fields as written, checked with the module's own options."""
        given = {"name": name, **self.typed(path, raw, dict)}
        self.known_keys(path, given, spec.options)
        result = ArgumentSpecValidator(spec.as_suboptions()).validate(given)
        if result.error_messages:
            self.refuse(path, result.error_messages[0])
        return given

    def link(self, index: int, raw: t.Any) -> Link:
        path = ("links", index)
        given = self.typed(path, raw, dict)
        self.known_keys(path, given, LINK_KEYS)
        authorities = given.get("authorities")
        return Link(
            index=index,
            source=self.required(path, given, "from", str),
            target=self.required(path, given, "to", str),
            authorities=None
            if authorities is None
            else tuple(self.texts((*path, "authorities"), authorities)),
            publish=self.publish((*path, "publish"), given.get("publish", {})),
        )

    def publish(self, path: Path, raw: t.Any) -> dict[str, t.Any]:
        """Return what a link to a VA publishes, as it is written."""
        given = self.typed(path, raw, dict)
        self.known_keys(path, given, PUBLISH.options)
        result = ArgumentSpecValidator(PUBLISH.as_suboptions()).validate(given)
        if result.error_messages:
            self.refuse(path, result.error_messages[0])
        if given.get("only_revoked") and "unknown_serial" not in given:
            self.refuse(
                (*path, "only_revoked"),
                "what silence about a serial means isn't said",
                "Choose unknown_serial: good, unknown, unauthorized or revoked",
            )
        return given


def _diallers_words(zones: dict[str, Zone], zone: Zone) -> t.Iterator[str]:
    """Yield the zones that say of themselves that this one dials them."""
    for name, other in zones.items():
        if zone.name in other.dialled_by and name not in zone.dials:
            yield name
