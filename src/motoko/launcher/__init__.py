"""Claims created runs, gives them to a generator, watches them and harvests what they leave."""

from __future__ import annotations
