"""``motoko watch``: the views of a workflow in a terminal."""

from __future__ import annotations
