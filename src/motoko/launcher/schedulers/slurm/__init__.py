"""Slurm: what is told to it and what it says.

``text`` builds its commands and parses what they print, ``states`` says what its states and reasons
mean; both are pure. ``commands`` runs the commands.
"""

from __future__ import annotations
