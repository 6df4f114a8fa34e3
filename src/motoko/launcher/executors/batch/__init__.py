"""Runs as jobs of a batch scheduler: submitted in arrays, polled with one command for all.

``executor`` is the launcher's view. ``decide`` evaluates evidence and is pure, ``queue_client``
runs the scheduler's commands, ``submission_files`` and ``observe`` access files.
"""

from __future__ import annotations
