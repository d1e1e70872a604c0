"""Who may do what: access rules, roles, and the one pure decision. No I/O, no clock, no state.

``docs/reference/policy.md`` lists the resources and tells how a decision is made.
"""

from __future__ import annotations

from node_agent.policy.decide import RoleSet, decide, grants
from node_agent.policy.explain import describe_chain, explain, explain_document
from node_agent.policy.model import (
    AccessRequest,
    Decision,
    Member,
    MemberKind,
    Quota,
    Requester,
    Role,
    Rule,
    Subject,
    Verdict,
)
from node_agent.policy.parse import (
    parse_member,
    parse_requester,
    parse_role,
    parse_roles,
    parse_rule,
)
from node_agent.policy.permitted_names import refuse_names
from node_agent.policy.resources import RESOURCES, is_resource
from node_agent.policy.tenancy import Tenancy, tenancy_of

__all__ = [
    "RESOURCES",
    "AccessRequest",
    "Decision",
    "Member",
    "MemberKind",
    "Quota",
    "Requester",
    "Role",
    "RoleSet",
    "Rule",
    "Subject",
    "Tenancy",
    "Verdict",
    "decide",
    "describe_chain",
    "explain",
    "explain_document",
    "grants",
    "is_resource",
    "parse_member",
    "parse_requester",
    "parse_role",
    "parse_roles",
    "parse_rule",
    "refuse_names",
    "tenancy_of",
]
