"""Evaluate conditions, run actions, and commit their effects in transactions."""

from __future__ import annotations
