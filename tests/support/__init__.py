"""Shared parts of tests."""

from __future__ import annotations
