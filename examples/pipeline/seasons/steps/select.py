"""The players above a score."""

from __future__ import annotations

from motoko.pipeline import BaseModel


class SelectModel(BaseModel):
    scores: dict[str, float]
    more_than: float

    def run(self):
        return {"names": [name for name, score in self.scores.items() if score > self.more_than]}
