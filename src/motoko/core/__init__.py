"""Pure decisions: records in, instructions out. No I/O, no clock, no asyncio, no ZODB."""

from __future__ import annotations
