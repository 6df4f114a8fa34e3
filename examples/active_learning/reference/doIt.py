"""The Morse potential of a hydrogen molecule, in place of an hour of quantum chemistry."""

from __future__ import annotations

from math import exp

from motoko.worker import job, run

DEPTH = 4.7467  # eV
STEEPNESS = 1.9426  # 1/angstrom
EQUILIBRIUM = 0.7414  # angstrom

run.energy = DEPTH * ((1 - exp(-STEEPNESS * (job.r - EQUILIBRIUM))) ** 2 - 1)
