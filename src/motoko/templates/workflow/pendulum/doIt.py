"""The period of a pendulum: integrate from the largest angle to the lowest point, times four."""

from __future__ import annotations

import math

from motoko.worker import job, run

GRAVITY = 9.81
STEP = 1e-4  # seconds

angle, speed, time = math.radians(job.angle), 0.0, 0.0
step = 0
while angle > 0:
    speed -= GRAVITY / job.length * math.sin(angle) * STEP
    angle += speed * STEP
    time += STEP
    step += 1
    if step % 500 == 0:
        run.push_quantity("angle", math.degrees(angle), step)

run.period = 4 * (time - angle / speed)  # angle / speed: the time since the lowest point
