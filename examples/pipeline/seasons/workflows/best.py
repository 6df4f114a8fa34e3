"""From scores to a table of the best."""

from __future__ import annotations

from motoko.pipeline import Step, Workflow

WORKFLOW = Workflow(
    steps=[
        Step(
            model="seasons.steps.average.AverageModel",
            inputs={"scores": "scores"},
            outputs={"average": "average"},
        ),
        Step(
            model="seasons.steps.select.SelectModel",
            inputs={"scores": "scores", "average": "more_than"},
            outputs={"names": "best"},
        ),
        Step(
            model="seasons.steps.table.TableModel",
            inputs={"title": "title", "best": "names"},
            outputs={"table": "table"},
        ),
    ]
)
