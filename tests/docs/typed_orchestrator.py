"""The typed orchestrator of docs/how-to.md, which mypy checks with the other tests."""

from __future__ import annotations

from motoko import Job, Run, Runs, Selection, TaskManager, Workflow, event


def is_coarse(run: Run, job: Job) -> bool:
    return run.state == "FINISHED" and bool(job.n < 10)


@event
async def refine(workflow: Workflow, runs: Runs) -> None:
    for run, job in runs:
        workflow.solve.create_task(n=10 * job.n)
        run.state = "REFINED"


def failures(task_manager: TaskManager) -> Selection:
    return task_manager.select("state = FAILED")


async def main(workflow: Workflow, sizes: list[int] | None = None) -> None:
    workflow.add_action("refine", task="solve", event=is_coarse, f=refine)
    await workflow.solve.create_task(n=sizes or [1, 2, 3])
    await workflow.solve.select("n < 10").all("state = REFINED")
    await workflow.solve.select("n >= 10").all("state = FINISHED")
    print(f"{len(failures(workflow.solve))} runs failed")
    workflow.finished = True
