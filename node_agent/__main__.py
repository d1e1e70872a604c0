"""``python -m node_agent`` is ``peersys``."""

from __future__ import annotations

import sys

from node_agent.cli import main

sys.exit(main())
