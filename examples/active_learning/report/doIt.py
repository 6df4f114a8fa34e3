"""Draw the potential with its samples, and the disagreement of the committee."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure  # needs no display

from motoko.worker import job, run

PICTURE = "potential.png"

r, mean, spread = np.array(job.curve).T
samples, largest = np.array(job.progress).T

figure = Figure(figsize=(9, 4), layout="constrained")
left, right = figure.subplots(1, 2)
left.plot(r, mean, label="mean of the committee")
left.plot(job.r, job.energy, "o", label=f"{len(job.r)} reference calculations")
left.set(xlabel="distance / Å", ylabel="energy / eV", title="Learnt potential")
left.legend()
right.semilogy(samples, largest, "o-")
right.axhline(job.tolerance, linestyle=":", color="black")
right.set_xticks(samples)
right.set(xlabel="reference calculations", ylabel="largest disagreement / eV", title="Learning")
figure.savefig(PICTURE, dpi=120)

run.picture = PICTURE
