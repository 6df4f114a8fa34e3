"""Store a workflow in ZODB: sessions, tables, indexes, leases and the change feed."""

from __future__ import annotations
