"""The runner for the best players of a season."""

from __future__ import annotations

from motoko.pipeline import Runner


def create(year=2023):
    """Return a runner for a year."""
    return Runner(
        workflow="python://seasons.workflows.best.WORKFLOW",
        state=f"python://seasons.states.season.SEASON_{year}",
    )
