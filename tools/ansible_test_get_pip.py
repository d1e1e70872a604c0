"""Stands in for the get-pip script that ansible-test wants to download.

ansible-test keeps it as ``~/.ansible/test/cache/get_pip_<version>.py``. Put there, this brings
Python's own bundled pip, and no other host than the package index is needed.
"""

from __future__ import annotations

import ensurepip

ensurepip.bootstrap(upgrade=True, default_pip=True)
