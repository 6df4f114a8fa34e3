from __future__ import annotations

from motoko.worker import job, run

run.y = job.x + 0.56
