"""Executors: how attempts are executed, locally or through a batch scheduler."""

from __future__ import annotations
