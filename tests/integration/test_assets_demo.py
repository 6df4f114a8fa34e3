"""The tea demo: results and logs of successive calls."""

from __future__ import annotations

import logging
import os
import re
import time
from typing import TYPE_CHECKING

import pytest

from motoko.assets import ready
from motoko.assets.command import run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


class Kitchen:
    """A directory for the demo, and the logs of its calls."""

    def __init__(self, directory: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.directory = directory / "teatime"
        self._caplog = caplog

    def make(self, *options: str, function: str = "a_cup_of_tea") -> list[str]:
        """Call a task of the demo; return its log lines, preceded by the level."""
        self._caplog.clear()
        arguments = [*options, "motoko.assets.demo", function, str(self.directory)]
        assert run(arguments, "motoko assets") == 0
        return [f"{one.levelname} {one.getMessage()}" for one in self._caplog.records]

    def files(self) -> list[str]:
        """Return the existing files."""
        return sorted(str(one.relative_to(self.directory)) for one in self.directory.rglob("*"))

    def buy_tea(self) -> None:
        (self.directory / "box-of-tea-bags").touch()

    def wait(self, seconds: float) -> None:
        """Set the time at which the water was poured."""
        poured = time.time() - seconds
        os.utime(self.directory / "cup" / "water", (poured, poured))

    @property
    def box(self) -> str:
        return f"Box of tea bags ({self.directory / 'box-of-tea-bags'})"


@pytest.fixture
def kitchen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Kitchen:
    caplog.set_level(logging.INFO)
    return Kitchen(tmp_path, caplog)


def not_ready(name: str, *requirements: str) -> list[str]:
    """Return the log lines for a task that is not ready."""
    lines = ["Not ready", "Requires:", *requirements]
    return [f"WARNING {name}: {message}" for message in lines]


SUGAR = not_ready("Sugar in cup", "✔ The cup", "✖ Steeped tea")
TEA = not_ready("The perfect cup of tea", "✖ Sugar in cup", "✔ The spoon")


def first(box: str) -> list[str]:
    """Return the log lines of the first call."""
    return [
        "INFO The cup: Executing",
        "INFO The cup: Getting cup",
        "INFO The cup: Ready",
        f"WARNING {box}: Not ready [external asset]",
        "INFO The spoon: Executing",
        "INFO The spoon: Getting spoon",
        "INFO The spoon: Ready",
        *not_ready("Tea bag in cup", "✔ The cup", f"✖ {box}"),
        *not_ready("Boiling water in cup", "✔ The cup", "✖ Tea bag in cup"),
        *not_ready("Steeped tea", "✖ Boiling water in cup"),
        *SUGAR,
        *TEA,
    ]


POURED = [
    "INFO Tea bag in cup: Executing",
    "INFO Tea bag in cup: Adding tea bag to cup",
    "INFO Tea bag in cup: Ready",
    "INFO Boiling water in cup: Executing",
    "INFO Boiling water in cup: Adding water to cup",
    "INFO Boiling water in cup: Ready",
    "INFO Steeped tea: Executing",
    "WARNING Steeped tea: Tea needs to steep for 10s",
    *not_ready("Steeped tea", "✔ Boiling water in cup"),
]


def third() -> list[str]:
    """Return the log lines of a call for which only the sugar is missing."""
    return [
        "INFO The cup: Ready",
        "INFO Steeped tea: Ready",
        "INFO The spoon: Ready",
        "INFO Sugar in cup: Executing",
        "INFO Sugar in cup: Adding sugar to cup",
        "INFO Sugar in cup: Ready",
        "INFO The perfect cup of tea: Ready",
    ]


def test_four_invocations(kitchen: Kitchen) -> None:
    assert kitchen.make() == first(kitchen.box)
    assert kitchen.files() == ["cup", "spoon"]
    kitchen.buy_tea()
    assert kitchen.make() == [
        "INFO The cup: Ready",
        f"INFO {kitchen.box}: Ready",
        "INFO The spoon: Ready",
        *POURED,
        *SUGAR,
        *TEA,
    ]
    assert kitchen.files() == ["box-of-tea-bags", "cup", "cup/tea-bag", "cup/water", "spoon"]
    kitchen.wait(120)
    assert kitchen.make() == third()
    whole = ["box-of-tea-bags", "cup", "cup/sugar", "cup/tea-bag", "cup/water", "spoon"]
    assert kitchen.files() == whole
    assert kitchen.make() == ["INFO The perfect cup of tea: Ready"]
    assert kitchen.files() == whole

    # The demo recovers from damage.
    (kitchen.directory / "cup" / "sugar").unlink()
    assert kitchen.make() == third()
    assert kitchen.files() == whole


def test_the_time_that_remains_decreases(kitchen: Kitchen) -> None:
    kitchen.make()
    kitchen.buy_tea()
    kitchen.make()
    kitchen.wait(4.5)
    (seconds,) = re.findall(r"Tea needs to steep for (\d+)s", "\n".join(kitchen.make()))
    assert int(seconds) <= 5  # of 10


def test_part_of_the_graph(kitchen: Kitchen) -> None:
    kitchen.make(function="cup")
    kitchen.buy_tea()
    assert kitchen.make(function="steeped_tea") == [
        "INFO The cup: Ready",
        f"INFO {kitchen.box}: Ready",
        *POURED,
    ]
    kitchen.wait(120)
    assert kitchen.make(function="steeped_tea") == ["INFO Steeped tea: Ready"]
    assert kitchen.files() == ["box-of-tea-bags", "cup", "cup/tea-bag", "cup/water"]


def test_a_dry_run_with_a_graph(kitchen: Kitchen, capsys: pytest.CaptureFixture[str]) -> None:
    assert kitchen.make("--dry-run", "--graph") == [
        "INFO The cup: SKIPPING (DRY RUN)",
        "WARNING The cup: Not ready",
        f"WARNING {kitchen.box}: Not ready [external asset]",
        "INFO The spoon: SKIPPING (DRY RUN)",
        "WARNING The spoon: Not ready",
        *not_ready("Tea bag in cup", "✖ The cup", f"✖ {kitchen.box}"),
        *not_ready("Boiling water in cup", "✖ The cup", "✖ Tea bag in cup"),
        *not_ready("Steeped tea", "✖ Boiling water in cup"),
        *not_ready("Sugar in cup", "✖ The cup", "✖ Steeped tea"),
        *not_ready("The perfect cup of tea", "✖ Sugar in cup", "✖ The spoon"),
    ]
    assert not kitchen.directory.exists()
    dot = capsys.readouterr().out.splitlines()
    assert (dot[0], dot[-1]) == ("digraph g {", "}")
    assert sum("fillcolor=orange" in line for line in dot) == 8
    assert sum(" -> " in line for line in dot) == 9


def test_the_verbose_log_begins_with_the_graph(
    kitchen: Kitchen, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    lines = kitchen.make("--verbose")
    tree = [
        "The perfect cup of tea",
        "  Sugar in cup",
        "    The cup",
        "    Steeped tea",
        "      Boiling water in cup",
        "        The cup",
        "        Tea bag in cup",
        "          The cup",
        f"          {kitchen.box}",
        "  The spoon",
    ]
    assert [line for line in lines if "Discarding" not in line] == [
        *(f"DEBUG {line}" for line in ("─" * 10, "Task Graph", "─" * 10)),
        *(f"DEBUG {line}" for line in tree),
        *(f"DEBUG {line}" for line in ("─" * 9, "Execution", "─" * 9)),
        *first(kitchen.box),
    ]


def test_threads_give_the_same_result(kitchen: Kitchen) -> None:
    kitchen.make("-t", "3")
    kitchen.buy_tea()
    kitchen.make("-t", "3")
    kitchen.wait(120)
    assert kitchen.make("-t", "3")[-1] == "INFO The perfect cup of tea: Ready"


def test_from_python(kitchen: Kitchen) -> None:
    from motoko.assets import demo

    assert ready(demo.cup(str(kitchen.directory)))
    assert not ready(demo.a_cup_of_tea(str(kitchen.directory), dry_run=True))
    assert kitchen.files() == ["cup"]
