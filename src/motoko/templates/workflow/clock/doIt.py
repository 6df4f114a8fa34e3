"""What a clock gains in a day if each swing to and fro counts as two seconds."""

from __future__ import annotations

from motoko.worker import job, run

DAY = 24 * 60 * 60

run.error = DAY / job.period * 2 - DAY
