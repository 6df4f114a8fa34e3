"""Runs that a batch scheduler executes: submitted in arrays, watched with one query for all.

``following`` decides what the evidence means and is pure; ``batches`` knows the files of a
submission, ``desk`` talks to the scheduler, ``crew`` is what the launcher sees of it all.
"""

from __future__ import annotations
