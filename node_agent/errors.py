"""Every error the agent raises on purpose, in one tree.

::

    NodeAgentError
    ├── ConfigError                     a file or an object specification is wrong
    ├── ProtocolError
    │   ├── LocalProtocolError          we misused the protocol core
    │   └── RemoteProtocolError         the peer broke the rules; carries the code to send
    ├── NetworkError
    │   ├── ConnectError                the address can't be reached
    │   ├── HandshakeError              TLS or Hello failed: wrong trust, revoked, wrong ALPN
    │   └── LinkClosed                  the link ended while something waited on it
    ├── DeadlineExceeded                also a TimeoutError
    │   ├── ConnectTimeout
    │   ├── AcquireTimeout              no free link or credit in time
    │   └── CallTimeout                 no answer in time
    ├── Unavailable                     nobody can serve it now; says when to come back
    │   ├── AwaitsApproval              people have to approve it first
    │   └── NotAtWork                   it is stored, but the node can't do it yet
    ├── PolicyDenied                    the one decision point said no
    ├── RequestRefused                  the request itself can't be granted as written
    │   ├── QuotaExceeded               the tenant has as many certificates as it may have
    │   ├── CsrRefused
    │   ├── ProfileViolation
    │   ├── SelfApproval                who asked may not approve it
    │   ├── ApprovalEnded               rejected, withdrawn, or not approved in time
    │   └── LintFailed                  what would be signed breaks a rule; carries findings
    ├── StoreError
    │   ├── NotFound
    │   └── Conflict
    ├── TokenError                      a crypto token is locked or its passphrase is missing
    │   ├── TokenClosed                 its PIN was refused: nobody tries it until told to
    │   └── TokenLost                   a worker's session with it has ended
    ├── RemoteError                     the peer answered with a problem
    └── UnexpectedFailure               a bug, contained to the item that met it

Attributes carry data; the message is for people. Library errors are translated once, at the
boundary, with ``raise … from``. The number on the wire and the HTTP status of each error live in
``wire/codes.py`` and ``web/problems.py`` and nowhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "AcquireTimeout",
    "ApprovalEnded",
    "AwaitsApproval",
    "CallTimeout",
    "ConfigError",
    "Conflict",
    "ConnectError",
    "ConnectTimeout",
    "CsrRefused",
    "DeadlineExceeded",
    "HandshakeError",
    "LinkClosed",
    "LintFailed",
    "LocalProtocolError",
    "NetworkError",
    "NodeAgentError",
    "NotAtWork",
    "NotFound",
    "Outdated",
    "PolicyDenied",
    "ProfileViolation",
    "ProtocolError",
    "QuotaExceeded",
    "RemoteError",
    "RemoteProtocolError",
    "RequestRefused",
    "SelfApproval",
    "StoreError",
    "Superseded",
    "TokenClosed",
    "TokenError",
    "TokenLost",
    "Unavailable",
    "UnexpectedFailure",
]


class NodeAgentError(Exception):
    """Root of every deliberate error."""


class ConfigError(NodeAgentError):
    """A configuration value can't be used.

    ``where`` names the file or object and the key (``node.yaml: listen.peer``), ``remedy`` says
    what to write instead, ``detail`` is the message without both.
    """

    def __init__(self, message: str, *, where: str = "", remedy: str = "") -> None:
        self.detail = message
        self.where = where
        self.remedy = remedy
        parts = [f"{where}: {message}" if where else message]
        if remedy:
            parts.append(remedy)
        super().__init__(". ".join(parts))

    def within(self, where: str) -> ConfigError:
        """Return the same error as one of something larger that is at fault because of it."""
        place = f"{where}: {self.where}" if self.where else where
        return ConfigError(self.detail, where=place, remedy=self.remedy)


class ProtocolError(NodeAgentError):
    """The peer protocol was broken by one side."""


class LocalProtocolError(ProtocolError):
    """This node tried something that the protocol's state doesn't allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something it must not send; ``code`` is what GOAWAY or CANCEL will carry."""

    def __init__(self, message: str, *, code: int) -> None:
        self.code = code
        super().__init__(message)


class NetworkError(NodeAgentError):
    """A connection could not be made or kept."""


class ConnectError(NetworkError):
    """The address can't be resolved or reached."""


class HandshakeError(NetworkError):
    """TLS or the Hello exchange failed."""


class LinkClosed(NetworkError):
    """The link ended while a call or a stream still needed it."""


class DeadlineExceeded(NodeAgentError, TimeoutError):
    """Something did not happen in the time that its caller gave."""


class ConnectTimeout(DeadlineExceeded):
    """No connection within the dial timeout."""


class AcquireTimeout(DeadlineExceeded):
    """No link with a free credit within the request's deadline."""


class CallTimeout(DeadlineExceeded):
    """No answer within the request's deadline."""


class Unavailable(NodeAgentError):
    """Nobody can serve the request now; ``retry_after_seconds`` says when to try again."""

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        self.retry_after_seconds = retry_after_seconds
        super().__init__(message)


class AwaitsApproval(Unavailable):
    """The certificate is issued once ``needed`` people have approved it; ``given`` have so far.

    ``approval`` is the digest that approvers name it by (hexadecimal), ``expires_at`` until when.
    """

    def __init__(
        self, *, approval: str, given: int, needed: int, expires_at: int, retry_after_seconds: int
    ) -> None:
        self.approval = approval
        self.given = given
        self.needed = needed
        self.expires_at = expires_at
        super().__init__(
            f"the request waits for approval: {given} of {needed} given",
            retry_after_seconds=retry_after_seconds,
        )


class NotAtWork(Unavailable):
    """What was asked is stored, but a part of the node can't do it yet, and tries again.

    ``causes`` says why, by object or part.
    """

    def __init__(self, causes: Mapping[str, str]) -> None:
        self.causes = dict(causes)
        told = "; ".join(f"{what}: {cause}" for what, cause in self.causes.items())
        super().__init__(f"it is stored, but not at work: {told}", retry_after_seconds=5)


class PolicyDenied(NodeAgentError):
    """The decision point said no. ``rule`` names the rule or the missing grant."""

    def __init__(self, reason: str, *, rule: str = "") -> None:
        self.rule = rule
        self.reason = reason
        super().__init__(reason)


class RequestRefused(NodeAgentError):
    """The request can't be granted as written.

    ``field`` names the part at fault (``csr``, ``subject.common_name``), ``remedy`` what to do.
    """

    code = "request-refused"

    def __init__(self, detail: str, *, field: str = "", remedy: str = "") -> None:
        self.detail = detail
        self.field = field
        self.remedy = remedy
        super().__init__(detail)


class QuotaExceeded(RequestRefused):
    """The tenant has as many certificates as it may have. Says nothing of other tenants."""

    code = "quota-exceeded"
    retry_after_seconds = 3600
    """Quotas count whole hours."""


class CsrRefused(RequestRefused):
    """The CSR is malformed, not self-signed by its key, or its key is weak or not allowed."""

    code = "bad-csr"


class ProfileViolation(RequestRefused):
    """The request asks for something that the profile doesn't allow."""

    code = "profile-violation"


class SelfApproval(RequestRefused):
    """Who asked for a certificate tries to approve it, here or at another RA."""

    code = "self-approval"


class ApprovalEnded(RequestRefused):
    """The request was rejected or withdrawn, or its time for approvals is over."""

    code = "approval-ended"


class LintFailed(RequestRefused):
    """What would be signed breaks a rule; ``findings`` lists each as text."""

    code = "lint-failed"

    def __init__(self, findings: Sequence[str], *, field: str = "") -> None:
        self.findings = tuple(findings)
        super().__init__(
            "; ".join(findings), field=field, remedy="change the profile or the request"
        )


class StoreError(NodeAgentError):
    """The store can't do what was asked."""


class NotFound(StoreError):
    """No such object, certificate or entry."""


class Conflict(StoreError):
    """The write contradicts what is stored (same request id with another content, for example)."""


class Superseded(Conflict):
    """Another node has done meanwhile what was to be done; nothing is missing."""


class Outdated(Conflict):
    """Another node has changed the store since the plan was made; made again, it may succeed."""


class TokenError(NodeAgentError):
    """A crypto token can't be opened: locked, wrong passphrase, missing passphrase source."""


class TokenClosed(TokenError):
    """A token refused its PIN, or would lock at the next wrong one. It stays closed until its
    configuration changes or somebody orders another try.
    """


class TokenLost(TokenError):
    """A worker's session with a token has ended: removed, restarted. Another one may succeed."""


class UnexpectedFailure(NodeAgentError):
    """Something failed in a way that nobody foresaw. The log has its trace; it is tried again."""


class RemoteError(NodeAgentError):
    """The peer answered with a problem. ``status`` is its wire status, ``problem`` a code word."""

    def __init__(
        self, detail: str, *, status: int, problem: str = "", field: str = "", remedy: str = ""
    ) -> None:
        self.status = status
        self.problem = problem
        self.field = field
        self.remedy = remedy
        self.detail = detail
        super().__init__(detail)
