"""Slurm: ``scheduler`` implements the interface, ``submit`` and ``queries`` know the commands."""

from __future__ import annotations
