"""Commands as functions: they return data and print nothing."""

from __future__ import annotations
