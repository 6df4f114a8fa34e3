"""Motoko beside other tools: ``scripts/bench peers [--times N] [PEER ...]``."""

from __future__ import annotations

from peers.command import main

__all__ = ["main"]
