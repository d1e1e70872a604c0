"""Who may do what: access rules, roles, and the one pure decision. No I/O, no clock, no state.

``docs/reference/policy.md`` lists the resources and tells how a decision is made.
"""

from __future__ import annotations

from node_agent.policy.chain_words import describe_chain
from node_agent.policy.decide import RoleSet, decide, grants
from node_agent.policy.model import (
    AccessRequest,
    Decision,
    Member,
    MemberKind,
    NameKind,
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
from node_agent.policy.permitted_names import judge_names, refuse_names
from node_agent.policy.resources import RESOURCES, is_resource
from node_agent.policy.shared_names import share_a_name
from node_agent.policy.templates import expand_role
from node_agent.policy.tenancy import Tenancy, approvable_by, tenancy_of

__all__ = [
    "RESOURCES",
    "AccessRequest",
    "Decision",
    "Member",
    "MemberKind",
    "NameKind",
    "Quota",
    "Requester",
    "Role",
    "RoleSet",
    "Rule",
    "Subject",
    "Tenancy",
    "Verdict",
    "approvable_by",
    "decide",
    "describe_chain",
    "expand_role",
    "grants",
    "is_resource",
    "judge_names",
    "parse_member",
    "parse_requester",
    "parse_role",
    "parse_roles",
    "parse_rule",
    "refuse_names",
    "share_a_name",
    "tenancy_of",
]
