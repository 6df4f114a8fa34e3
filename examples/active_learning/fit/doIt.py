"""Fit polynomials in three descriptors of the distance; find where they disagree most."""

from __future__ import annotations

import numpy as np

from motoko.worker import job, run

DESCRIPTORS = (lambda r: 1 / r, lambda r: np.exp(-r), lambda r: np.exp(-r / 2))
MAX_DEGREE = 12


def minimum(r, energy):
    """Return distance and energy at the minimum of a curve, by a parabola through three points."""
    i = int(np.clip(np.argmin(energy), 1, len(r) - 2))
    a, b, c = np.polyfit(r[i - 1 : i + 2] - r[i], energy[i - 1 : i + 2], 2)
    return r[i] - b / (2 * a), c - b**2 / (4 * a)


samples, energies = np.array(job.r), np.array(job.energy)
steps = round((samples.max() - samples.min()) / 0.01)
r = np.round(samples.min() + 0.01 * np.arange(steps + 1), 2)

degree = min(len(samples) - 1, MAX_DEGREE)
members = [
    np.polynomial.Polynomial.fit(descriptor(samples), energies, degree)(descriptor(r))
    for descriptor in DESCRIPTORS
]
mean, spread = np.mean(members, axis=0), np.std(members, axis=0)
lowest, energy = minimum(r, mean)

run.spread = spread.max()
run.worst = r[spread.argmax()]
run.distance = lowest
run.depth = -energy
for step, point in enumerate(zip(r, mean, spread, strict=True)):
    run.push_quantity("curve", point, step)
