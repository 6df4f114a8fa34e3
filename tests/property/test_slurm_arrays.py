"""Array indexes in Slurm's format are formatted and parsed consistently."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoko.launcher.schedulers.slurm.queries import expand_tasks, parse_poll

pytestmark = pytest.mark.property

indexes = st.builds(
    lambda start, count, step: range(start, start + count * step, step),
    st.integers(0, 4_000_000),
    st.integers(1, 300),
    st.integers(1, 50),
)


@given(indexes)
def test_ranges(tasks: range) -> None:
    step = "" if tasks.step == 1 else f":{tasks.step}"
    written = f"{tasks[0]}-{tasks[-1]}{step}" if len(tasks) > 1 else str(tasks[0])
    assert expand_tasks(written) == tuple(tasks)
    assert expand_tasks(f"[{written}%7]") == tuple(tasks)


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(1, 10**9), st.booleans())
def test_any_pending_tasks(tasks: set[int], job: int, limited: bool) -> None:
    written = _slurm_format(sorted(tasks)) + ("%3" if limited else "")
    entries = parse_poll(f"{job}|{written}|PENDING|Priority|token|a|name\n")
    assert [(entry.job, entry.task) for entry in entries] == [(str(job), t) for t in sorted(tasks)]
    assert {entry.comment for entry in entries} == {"token"}


@given(st.text())
def test_any_text_is_parsed_without_an_error(text: str) -> None:
    assert len(expand_tasks(text.translate(dict.fromkeys(range(48, 58))))) == 1
    parse_poll(text)


def _slurm_format(tasks: list[int]) -> str:
    parts: list[list[int]] = []
    for task in tasks:
        if parts and task == parts[-1][-1] + 1:
            parts[-1].append(task)
        else:
            parts.append([task])
    return ",".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else str(p[0]) for p in parts)
