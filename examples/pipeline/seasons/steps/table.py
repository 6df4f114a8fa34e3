"""A table with a title."""

from __future__ import annotations

from motoko.pipeline import BaseModel


class TableModel(BaseModel):
    title: str
    names: list[str]

    def run(self):
        return {"table": "\n".join([self.title, *sorted(self.names)])}
