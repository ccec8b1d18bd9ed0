"""Randomness as a function of what it is for, not of state carried along."""

from __future__ import annotations

import hashlib


def stream(*parts: object) -> int:
    """A 63-bit seed from any parts, such as ("order", seed, fold, epoch); the same on every machine."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
