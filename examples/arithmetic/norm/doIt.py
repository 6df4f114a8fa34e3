from __future__ import annotations

from math import sqrt

from motoko.worker import job, run

EXPECTED = (3.3, 2.34, 0.148)

run.sum_of_squares = sum((a - b) ** 2 for a, b in zip(job.sums, EXPECTED, strict=True))
run.root = sqrt(run.sum_of_squares)
