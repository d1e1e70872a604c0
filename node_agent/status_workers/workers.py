"""The agent's side of the status port when other processes serve it.

Every change goes to each worker over its own socket, in order. ``settled`` is the barrier: it
returns when each worker has confirmed all of it, or is dead. A publisher is answered after that and
not before, so no worker ever answers from memory what the publisher may believe replaced.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from node_agent.config import Address
from node_agent.errors import NodeAgentError
from node_agent.status_workers.messages import (
    AuthoritiesLearned,
    Authority,
    Begin,
    CrlDropped,
    Dropped,
    Forgotten,
    Sign,
    Signature,
    SignersChanged,
    SignerView,
)
from node_agent.status_workers.process import WorkerProcess
from node_agent.status_workers.slot import WorkerSlot
from node_agent.web.backends import StatusWorkerStatus
from node_agent.web.listen import bind_tcp

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence

    from node_agent.config import NodeSettings
    from node_agent.functions.known_authorities import KnownAuthorities, KnownAuthority
    from node_agent.functions.receiving import Applied
    from node_agent.functions.signers import ActiveSigner, Signers
    from node_agent.pki.signing import SigningPool
    from node_agent.status_workers.messages import FromAgent
    from node_agent.web.bodies import HealthWord

__all__ = ["StatusWorkers"]

log = structlog.get_logger(__name__)

_STATE_SECONDS = 1.0
_SERIAL_OCTETS = 20


@dataclass(slots=True)
class _Told:
    """What a worker was told of: CAs by id, signers by CA name."""

    authorities: dict[str, KnownAuthority] = field(default_factory=dict)
    signers: dict[str, ActiveSigner] = field(default_factory=dict)

    def is_news(self, active: ActiveSigner) -> bool:
        """Tell whether the worker doesn't know this signer as it is."""
        known = self.signers.get(active.spec.authority)
        if known is active:
            return False
        return known is None or (known.spec, known.certificate) != (active.spec, active.certificate)


class StatusWorkers:
    """Implements ``KeptAnswers``. ``async with`` starts ``settings.workers`` processes and stops
    them.
    """

    def __init__(
        self,
        *,
        settings: NodeSettings,
        known: KnownAuthorities,
        signers: Signers,
        pool: SigningPool,
        health: Callable[[], HealthWord],
        lag_seconds: Callable[[], float | None],
    ) -> None:
        self._settings = settings
        self._known = known
        self._signers = signers
        self._pool = pool
        self._health = health
        self._lag_seconds = lag_seconds
        self._state: tuple[HealthWord, float | None] = ("ok", None)
        self._slots: list[WorkerSlot] = []
        # What each running worker was told of: only what is new is told again.
        self._told: dict[WorkerProcess, _Told] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._address: Address | None = settings.status_address
        # Answers of workers that have ended: a counter never goes back.
        self._past: Counter[str] = Counter()

    async def __aenter__(self) -> StatusWorkers:
        """Return once each worker serves or has failed once. Raises ConfigError for a used port."""
        self._refuse_a_port_in_use()
        self._refresh_state()
        try:
            for number in range(1, self._settings.workers + 1):
                self._slots.append(self._slot(number))
        except BaseException:
            for slot in self._slots:
                slot.close()
            raise
        self._spawn(self._keep_state(), "status-workers-state")
        for slot in self._slots:
            self._spawn(slot.run(), f"status-worker-slot-{slot.number}")
        await asyncio.gather(*(slot.first_start() for slot in self._slots))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await asyncio.gather(*(slot.stop() for slot in self._slots))
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def answers(self) -> Mapping[str, int]:
        """How many OCSP answers there were of each kind, of all workers."""
        total = Counter(self._past)
        for slot in self._slots:
            total.update(slot.answers())
        return total

    def workers(self) -> list[StatusWorkerStatus]:
        """Return how each worker is."""
        return [_status_of(slot) for slot in self._slots]

    def applied(self, change: Applied) -> None:
        """Have every answer dropped that ``change`` makes untrue."""
        serials: dict[str, list[bytes]] = {}
        keys = [(item.authority_id, item.serial) for item in change.certificates]
        keys += [(item.authority_id, item.serial) for item in change.statuses]
        for authority_id, serial in keys:
            octets = serial.to_bytes(_SERIAL_OCTETS, "big")
            serials.setdefault(authority_id, []).append(octets)
        for authority_id, found in serials.items():
            self._tell(Dropped(authority_id, tuple(found)))

    def drop(self, authority_id: str, serial: int) -> None:
        """Have every answer about one certificate dropped."""
        self._tell(Dropped(authority_id, (serial.to_bytes(_SERIAL_OCTETS, "big"),)))

    def drop_crl(self, authority_id: str) -> None:
        """Have the CRLs of a CA read anew."""
        self._tell(CrlDropped(authority_id))

    def reconsider(self, authority: str | None = None) -> None:
        """Tell of CAs and signers as they now are, or of the signer of one CA."""
        for worker, told in self._told.items():
            if authority is None:
                self._tell_all(worker)
            else:
                active = self._signers.active(authority)
                now = {} if active is None else {authority: active}
                _send_signers(worker, told, now, {authority})

    def forget(self) -> None:
        """Have every answer dropped."""
        self._tell(Forgotten())

    async def settled(self) -> None:
        """Return once each worker has taken in what it was told, or is dead."""
        await asyncio.gather(*(worker.confirm() for worker in tuple(self._told)))

    def _slot(self, number: int) -> WorkerSlot:
        return WorkerSlot(
            number,
            bind=self._bind,
            make=lambda: WorkerProcess(state=lambda: self._state, on_sign=self._sign),
            begin=self._begin,
            on_start=self._greet,
            on_end=self._forget_worker,
        )

    def _refuse_a_port_in_use(self) -> None:
        # Sockets with SO_REUSEPORT bind beside those of any process of the same user, of another
        # agent by mistake, too. One without it doesn't.
        assert self._address is not None
        for item in bind_tcp(self._address):
            if self._address.port == 0:
                self._address = Address(self._address.host, item.getsockname()[1])
            item.close()

    def _bind(self) -> list[socket.socket]:
        assert self._address is not None
        return bind_tcp(self._address, reuse_port=True)

    def _begin(self, number: int, listeners: Sequence[int]) -> Begin:
        settings = self._settings
        path = settings.store_password_path
        return Begin(
            number=number,
            node=settings.identity.name,
            log_level=settings.log_level,
            store_url=settings.store_url,
            store_password_path=None if path is None else str(path),
            listeners=tuple(listeners),
            cache_octets=settings.status_cache_octets // settings.workers,
        )

    def _greet(self, worker: WorkerProcess) -> None:
        self._told[worker] = _Told()
        self._tell_all(worker)

    def _forget_worker(self, worker: WorkerProcess) -> None:
        del self._told[worker]
        if worker.last is not None:
            self._past.update(worker.last.answers)

    def _tell(self, message: FromAgent) -> None:
        for worker in self._told:
            worker.send(message)

    def _tell_all(self, worker: WorkerProcess) -> None:
        told = self._told[worker]
        known = told.authorities
        fresh = [item for item in self._known.all() if known.get(item.authority_id) is not item]
        known.update({item.authority_id: item for item in fresh})
        if fresh:
            worker.send(AuthoritiesLearned(tuple(map(_message_of, fresh))))
        now = {active.spec.authority: active for active in self._signers.all_active()}
        _send_signers(worker, told, now, now.keys() | told.signers.keys())

    def _sign(self, worker: WorkerProcess, order: Sign) -> None:
        active = self._signers.active(order.authority)
        if active is None or active.outline.serial != int.from_bytes(order.serial, "big"):
            worker.send(Signature(order.number, b"", "the signer was replaced"))
        elif self._pool.signs_here(active.key):
            worker.send(_signed(order, partial(active.key.sign, order.data)))
        else:
            self._spawn(self._sign_slowly(worker, order, active), "status-worker-signature")

    async def _sign_slowly(self, worker: WorkerProcess, order: Sign, active: ActiveSigner) -> None:
        try:
            signature = await self._pool.sign(active.key, order.data)
        except NodeAgentError as error:
            worker.send(Signature(order.number, b"", str(error)))
        else:
            worker.send(Signature(order.number, signature))

    async def _keep_state(self) -> None:
        while True:
            self._refresh_state()
            await asyncio.sleep(_STATE_SECONDS)

    def _refresh_state(self) -> None:
        self._state = (self._health(), self._lag_seconds())

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("status workers: a task failed", task=task.get_name(), exc_info=error)


def _send_signers(
    worker: WorkerProcess, told: _Told, now: Mapping[str, ActiveSigner], names: Iterable[str]
) -> None:
    """Tell a worker how the signers of the CAs ``names`` differ from what it was told."""
    gone = tuple(name for name in names if name in told.signers and name not in now)
    changed = [now[name] for name in names if name in now and told.is_news(now[name])]
    for name in gone:
        del told.signers[name]
    told.signers.update({active.spec.authority: active for active in changed})
    if changed or gone:
        worker.send(SignersChanged(tuple(map(_view_of, changed)), gone))


def _signed(order: Sign, sign: Callable[[], bytes]) -> Signature:
    try:
        return Signature(order.number, sign())
    except NodeAgentError as error:
        return Signature(order.number, b"", str(error))


def _message_of(known: KnownAuthority) -> Authority:
    return Authority(known.name, known.chain, known.publisher, known.is_partial, known.path)


def _view_of(active: ActiveSigner) -> SignerView:
    return SignerView(active.spec, active.key.kind, active.key.spki, active.certificate)


def _status_of(slot: WorkerSlot) -> StatusWorkerStatus:
    worker = slot.worker
    last = None if worker is None else worker.last
    return StatusWorkerStatus(
        number=slot.number,
        state="up" if worker is not None and worker.is_listening else "starting",
        pid=None if worker is None else worker.pid,
        restarts=slot.restarts,
        connections=0 if last is None else last.connections,
        kept_answers=0 if last is None else last.kept_answers,
        kept_octets=0 if last is None else last.kept_octets,
        memory_octets=0 if last is None else last.memory_octets,
    )
