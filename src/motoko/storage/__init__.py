"""The only code that knows ZODB and ZEO: server, sessions, tables and indexes, change feed."""

from __future__ import annotations
