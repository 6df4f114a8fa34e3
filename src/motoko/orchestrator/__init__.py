"""Evaluates conditions, runs actions, keeps what they do in transactions."""

from __future__ import annotations
