"""Learn the potential of a hydrogen molecule from as few reference calculations as possible.

Three fits that use different descriptors of the distance form a committee. The next reference
calculation is made where its members disagree most, until they agree within the tolerance
everywhere. Distances are in angstrom, energies in electronvolt.

    motoko run --run_name h2
    motoko run --run_name rough --tolerance 0.05
"""

from __future__ import annotations

from motoko.workflow import event

FINISHED = "lifecycle = FINISHED"  # with any label


def populate_arg_parser(parser):
    parser.add_argument(
        "--tolerance", type=float, default=0.005, help="largest disagreement, in eV (0.005)"
    )
    parser.add_argument(
        "--start", type=float, nargs="+", default=[0.5, 1.12, 1.75, 2.38, 3.0], metavar="R",
        help="first distances, in angstrom; they span the range",
    )  # fmt: skip
    parser.add_argument(
        "--max_samples", type=int, default=20, help="largest number of reference calculations (20)"
    )


def samples_ready(workflow, task_manager):
    """Return the new reference runs, if no reference calculation is running."""
    if task_manager.select("lifecycle in (CREATED, SUBMITTED, START)"):
        return False
    return task_manager.select("state = FINISHED")


@event
async def fit_all(workflow, runs):
    """Fit all samples; ``runs`` are the new ones."""
    samples = sorted((job.r, run.energy) for run, job in workflow.reference.select(FINISHED))
    workflow.fit.create_task(r=[r for r, _ in samples], energy=[energy for _, energy in samples])
    for run, _job in runs:
        run.state = "FITTED"


@event
async def refine_or_report(workflow, runs, tolerance, max_samples):
    """Create a sample where the committee disagrees most, or the report if it agrees."""
    for run, job in runs:
        if run.spread <= tolerance:
            fits = sorted((len(job.r), run.spread) for run, job in workflow.fit.select(FINISHED))
            workflow.report.create_task(
                r=job.r,
                energy=job.energy,
                curve=run.quantity("curve").values,
                progress=[list(fit) for fit in fits],
                tolerance=tolerance,
            )
            run.state = "CONVERGED"
        elif len(job.r) >= max_samples:
            raise RuntimeError(
                f"{len(job.r)} samples, and the fits still disagree by {run.spread:.3g} eV at "
                f"{run.worst} angstrom; allow more with --max_samples"
            )
        else:
            workflow.reference.create_task(r=run.worst)
            run.state = "REFINED"


async def main(workflow, start=(0.5, 1.12, 1.75, 2.38, 3.0), **params):
    workflow.add_action("fit", task="reference", event=samples_ready, f=fit_all)
    workflow.add_action("refine", task="fit", event="state = FINISHED", f=refine_or_report)
    workflow.add_error_handler()  # a failed run ends the workflow

    workflow.reference.create_task(r=list(start))

    report, _job = (await workflow.report.select("state = FINISHED"))[0]
    converged, job = workflow.fit.select("state = CONVERGED")[0]
    print(
        f"equilibrium distance {converged.distance:.4f} angstrom, "
        f"well depth {converged.depth:.4f} eV, from {len(job.r)} samples\n"
        f"picture: {report.directory / report.picture}"
    )
    workflow.finished = True
