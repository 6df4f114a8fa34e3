"""The daily gain of a clock that counts each full swing as two seconds."""

from __future__ import annotations

from motoko.worker import job, run

DAY = 24 * 60 * 60

run.error = DAY / job.period * 2 - DAY
