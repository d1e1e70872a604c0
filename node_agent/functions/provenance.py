"""Where what a node knows of CAs comes from: what it tells those that it publishes to.

A CA's node is the source of what it records. A VA that publishes on only knows what it was told:
how old that is, whether it is all, and through which logs it came go on with it, so that the next
node neither takes old news for fresh, nor silence about a serial for "good", nor its own words for
another's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from node_agent.errors import Conflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from node_agent.clock import Clock
    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.peers.operations import PositionRequest

__all__ = ["CURRENT_SECONDS", "Feeds", "KnownProvenance", "OwnLog", "OwnWork", "Provenance"]

CURRENT_SECONDS: Final = 60.0
"""A publisher with nothing to send says so each ten seconds: six of those missed."""

_MOST_LOGS: Final = 10
"""As many as proxies in a chain: a loop that nobody noticed ends there."""


class Provenance(Protocol):
    """What a publisher says of the CAs that it publishes."""

    def age_seconds(self, names: Sequence[str]) -> float | None:
        """Return how old the newest complete knowledge of all these CAs is; None: unknown."""
        ...

    def partial(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of which only revoked certificates are known here."""
        ...

    def path(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the logs through which they came here."""
        ...

    def is_own(self, names: Sequence[str]) -> bool:
        """Tell whether this node is the CA of any."""
        ...


class OwnWork:
    """Of a node that publishes nothing but its own CAs."""

    def age_seconds(self, names: Sequence[str]) -> float | None:
        """Nobody knows more."""
        return 0.0

    def partial(self, names: Sequence[str]) -> tuple[str, ...]:
        """All is known."""
        return ()

    def path(self, names: Sequence[str]) -> tuple[str, ...]:
        """It begins here."""
        return ()

    def is_own(self, names: Sequence[str]) -> bool:
        """They are."""
        return True


@dataclass(frozen=True, slots=True)
class OwnLog:
    """The change log that a publisher reads. ``node`` is its node's URI, ``begin`` where it ended
    when the node started (None: not known, or of no use).
    """

    node: str
    provenance: Provenance = field(default_factory=OwnWork)
    begin: int | None = None


@dataclass(frozen=True, slots=True)
class _Feed:
    """What one source said of one CA. ``is_partial`` is None until it said so."""

    is_partial: bool | None
    path: tuple[str, ...]


class Feeds:
    """What the sources of this node say of the CAs that they publish to it, by CA name.

    ``own_log`` is what this node's change log is called at others.
    """

    def __init__(self, known: KnownAuthorities, clock: Clock, *, own_log: str) -> None:
        self._known = known
        self._clock = clock
        self._own_log = own_log
        self._feeds: defaultdict[str, dict[str, _Feed]] = defaultdict(dict)
        # In monotonic seconds, up to when everything that a CA did is known here: a wall clock that
        # is set back must not make old news fresh, for as long as it was set back.
        self._fresh_at: dict[str, float] = {}

    def note(self, log: str, request: PositionRequest) -> list[KnownAuthority]:
        """Take in what a source says; return the CAs of which it is news.

        Raises Conflict when what it publishes has passed through this node's own log.
        """
        if self._own_log in request.path:
            way = " > ".join((*request.path, self._own_log))
            raise Conflict(f"{', '.join(request.authorities)} would go round in a loop: {way}")
        news: list[KnownAuthority] = []
        for name in request.authorities:
            known = self._feeds[name].get(log)
            is_partial = known.is_partial if known else None
            if name in request.partial:
                is_partial = True
            elif name in request.complete and request.age_seconds is not None:
                is_partial = False
            self._feeds[name][log] = _Feed(is_partial, request.path)
            partial, path = self.describe(name)
            news += self._known.describe(name, is_partial=partial, path=path)
        if request.age_seconds is not None:
            self._note_age((*request.complete, *request.partial), request.age_seconds)
        return news

    def note_fresh(self, names: Sequence[str], at: float) -> None:
        """Note that everything that these CAs did until ``at`` of their own clock is known."""
        self._note_age(names, self._clock.now() - at)

    def age_seconds(self, name: str) -> float | None:
        """Return how old the newest complete knowledge of a CA is; None: there is none."""
        fresh_at = self._fresh_at.get(name)
        return None if fresh_at is None else self._clock.monotonic() - fresh_at

    def _note_age(self, names: Sequence[str], age_seconds: float) -> None:
        # Nothing is known of the future, whatever a CA's clock says.
        at = self._clock.monotonic() - max(age_seconds, 0.0)
        for name in names:
            self._fresh_at[name] = max(self._fresh_at.get(name, at), at)

    def describe(self, name: str) -> tuple[bool, tuple[str, ...]]:
        """Return whether only a CA's revoked certificates come here, and through which logs."""
        known = self._known.named(name)
        feeds = self._feeds.get(name, {}).values()
        said = [feed.is_partial for feed in feeds if feed.is_partial is not None]
        partial = all(said) if said else known is not None and known.is_partial
        path = tuple(dict.fromkeys(log for feed in feeds for log in feed.path))
        return partial, path or (known.path if known else ())


class KnownProvenance:
    """Of a node with CAs of its own, others' CAs, or both."""

    def __init__(self, known: KnownAuthorities, feeds: Feeds) -> None:
        self._known = known
        self._feeds = feeds

    def age_seconds(self, names: Sequence[str]) -> float | None:
        """Return how old the oldest is."""
        ages = [self._age(name) for name in names]
        return None if None in ages else max((age for age in ages if age is not None), default=0.0)

    def partial(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return those of which only revoked certificates are published to us."""
        return tuple(name for name in names if (ca := self._known.named(name)) and ca.is_partial)

    def path(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the logs before ours. Raises Conflict where there are too many."""
        found = (self._known.named(name) for name in names)
        logs = tuple(dict.fromkeys(log for ca in found if ca is not None for log in ca.path))
        if len(logs) >= _MOST_LOGS:
            raise Conflict(f"{', '.join(names)} has gone through {len(logs)} nodes: {logs}")
        return logs

    def is_own(self, names: Sequence[str]) -> bool:
        """Tell whether the key of any is here."""
        return any((ca := self._known.named(name)) is not None and ca.is_own for name in names)

    def _age(self, name: str) -> float | None:
        authority = self._known.named(name)
        if authority is not None and authority.is_own:
            return 0.0
        return self._feeds.age_seconds(name)
