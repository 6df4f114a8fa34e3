"""Outputs of Slurm's commands in known cases, recorded by ``slurm_recording``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

CORPUS = Path(__file__).parents[1] / "data" / "slurm"


@dataclass(frozen=True, slots=True)
class Step:
    """One command and its output; ``about`` names the step within its case."""

    about: str
    argv: tuple[str, ...]
    status: int | None
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    about: str
    slurm: str
    steps: tuple[Step, ...]

    def step(self, about: str) -> Step:
        (found,) = [step for step in self.steps if step.about == about]
        return found

    def out(self, about: str) -> str:
        return self.step(about).stdout

    def save(self) -> None:
        CORPUS.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1, ensure_ascii=False)
        (CORPUS / f"{self.name}.json").write_text(text + "\n", encoding="utf-8")


def load(name: str) -> Case:
    read = json.loads((CORPUS / f"{name}.json").read_text(encoding="utf-8"))
    steps = tuple(Step(**{**step, "argv": tuple(step["argv"])}) for step in read.pop("steps"))
    return Case(**read, steps=steps)


def names() -> list[str]:
    return sorted(path.stem for path in CORPUS.glob("*.json"))
