"""When each publisher's peer is compared again: a function of specification, link and time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from node_agent.objects import PublisherSpec

__all__ = ["VerificationSchedule"]

# A node that starts has better things to do in its first minute.
_FIRST_AFTER_SECONDS: Final = 60.0


class VerificationSchedule:
    """Remembers when each publisher is due; times are monotonic seconds."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}

    def is_due(self, spec: PublisherSpec, *, is_up: bool, now: float) -> bool:
        """Return whether to compare now, and if so count the interval anew.

        A peer that isn't reached stays due. A shorter interval takes effect at once.
        """
        if spec.verify_seconds == 0:
            self._due.pop(spec.name, None)
            return False
        latest = now + spec.verify_seconds
        first = min(now + _FIRST_AFTER_SECONDS, latest)
        due = min(self._due.get(spec.name, first), latest)
        is_now = is_up and due <= now
        self._due[spec.name] = latest if is_now else due
        return is_now
