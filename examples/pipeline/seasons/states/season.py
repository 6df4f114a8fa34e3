"""The scores of a season."""

from __future__ import annotations

from motoko.pipeline import State

SCORES = {2022: {"Aki": 3, "Bo": 8, "Cleo": 4}, 2023: {"Aki": 7, "Bo": 2, "Cleo": 6}}


def create(year=2023, mutable=False):
    """Return a state with the scores of a year."""
    backend = {"scores": dict(SCORES[year]), "title": f"Best of {year}"}
    return State(backend=backend, mutable=mutable)


SEASON_2022 = create(2022)
SEASON_2023 = create(mutable=True)
