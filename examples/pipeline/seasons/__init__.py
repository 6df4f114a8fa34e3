"""Players who scored above the average of their season."""

from __future__ import annotations
