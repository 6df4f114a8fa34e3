"""Handles on runs, jobs and quantities, and the collections in their fields."""

from __future__ import annotations
