"""A cup of tea: tasks, a collection, an external asset, and a task that waits for time to pass.

Try ``motoko assets motoko.assets.demo a_cup_of_tea ./teatime``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from motoko.assets import Node, asset, external, log, refs, task, tasks

TYPE_CHECKING = False  # type checkers assume True; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Yielded = Iterator[Any]

STEEPING = 10  # seconds


@tasks
def a_cup_of_tea(basedir: str) -> Yielded:
    """The cup of steeped tea with sugar, and a spoon."""
    yield "The perfect cup of tea"
    yield [steeped_tea_with_sugar(basedir), spoon(basedir)]


@task
def cup(basedir: str) -> Yielded:
    """The cup for the tea."""
    path = Path(basedir, "cup")
    name = "The cup"
    yield name
    yield asset(path, path.exists)
    yield None
    log.info("%s: Getting cup", name)
    path.mkdir(parents=True)


@task
def spoon(basedir: str) -> Yielded:
    """The spoon to stir the tea."""
    path = Path(basedir, "spoon")
    name = "The spoon"
    yield name
    yield asset(path, path.exists)
    yield None
    log.info("%s: Getting spoon", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@task
def steeped_tea_with_sugar(basedir: str) -> Yielded:
    """Add sugar to the steeped tea.

    Requires tea to have steeped.
    """
    yield from ingredient(basedir, "sugar", "Sugar", steeped_tea)


@task
def steeped_tea(basedir: str) -> Yielded:
    """Give tea time to steep."""
    name = "Steeped tea"
    yield name
    poured = steeping_tea(basedir)
    water: Path = refs(poured)["water"]
    remaining: float = STEEPING
    if water.exists():
        elapsed = datetime.now(UTC).timestamp() - water.stat().st_mtime
        remaining = max(STEEPING - elapsed, 0)
    yield asset("elapsed time", lambda: not remaining)
    yield poured
    # The task can only wait: a later call may find the tea ready.
    log.warning("%s: Tea needs to steep for %ss", name, int(remaining))


@task
def steeping_tea(basedir: str) -> Yielded:
    """Pour boiling water over the tea.

    Requires tea bag in cup.
    """
    yield from ingredient(basedir, "water", "Boiling water", tea_bag)


@task
def tea_bag(basedir: str) -> Yielded:
    """Place tea bag in the cup.

    Requires box of tea bags.
    """
    the_cup = cup(basedir)
    path: Path = refs(the_cup) / "tea-bag"
    name = "Tea bag in cup"
    yield name
    yield asset(path, path.exists)
    yield [the_cup, box_of_tea_bags(basedir)]
    log.info("%s: Adding tea bag to cup", name)
    path.touch()


@external
def box_of_tea_bags(basedir: str) -> Yielded:
    """A box of tea bags."""
    path = Path(basedir, "box-of-tea-bags")
    yield f"Box of tea bags ({path})"
    yield asset(path, path.exists)


def ingredient(
    basedir: str, file: str, name: str, requirement: Callable[[str], Node] | None = None
) -> Yielded:
    """Yield the parts of a task that adds an ingredient to the cup, then add it."""
    taskname = f"{name} in cup"
    yield taskname
    the_cup = cup(basedir)
    path: Path = refs(the_cup) / file
    yield {file: asset(path, path.exists)}
    yield [the_cup, *([requirement(basedir)] if requirement else [])]
    log.info("%s: Adding %s to cup", taskname, file)
    path.touch()
