"""The composition root: the only package that builds a node of all its parts.

``foundation`` opens what every part stands on. ``links``, ``validation``, ``issuing``, ``edges``
and ``administration`` build their parts on it, ``node`` joins and runs them, and ``process`` is
the process around one node.
"""

from __future__ import annotations

from node_agent.service.node import Node
from node_agent.service.process import run, serve

__all__ = ["Node", "run", "serve"]
