"""The average of scores."""

from __future__ import annotations

from motoko.pipeline import BaseModel


class AverageModel(BaseModel):
    scores: dict[str, float]

    def run(self):
        return {"average": sum(self.scores.values()) / len(self.scores)}
