"""What the lab tells a person who started it and can't have it."""

from __future__ import annotations


class LabError(Exception):
    """The lab can't do what was asked; the message says what to do about it."""
