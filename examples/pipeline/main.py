"""Run the workflow, run it again, change a score, and run the dependent steps."""

from __future__ import annotations

from seasons.runner import best

runner = best.create()
print(runner.run()["table"])

runner.rerun()
print("ran", runner.rerun_workflow.steps_ran, "skipped", runner.rerun_workflow.steps_skipped)

runner.rerun_state.extract("scores")["Bo"] = 11
print(runner.rerun_workflow.explain(runner.rerun_state))
print(runner.rerun()["table"])
print("ran", runner.rerun_workflow.steps_ran, "skipped", runner.rerun_workflow.steps_skipped)
