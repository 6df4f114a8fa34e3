"""The step graph: costs of nodes compared with the original tasks, and of the import."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import products
from support import Row, best, python

SRC = Path(__file__).resolve().parents[2] / "src"
ORIGINAL = "iotaa==1.1.2"

# Trees of 5,000 tasks, so the original calls each task only once. Prints milliseconds.
TASKS = """
import gc, importlib, sys, time
m = importlib.import_module(sys.argv[1])

def trivial(width=17):
    @m.task
    def node(depth, number):
        done = []
        yield f"task {depth} {number}"
        yield m.asset(done, lambda: bool(done))
        yield [node(depth - 1, number * width + k) for k in range(width)] if depth else None
        done.append(1)
    return lambda: node(3, 0)

def ready(width=70):
    @m.task
    def leaf(number):
        yield f"leaf {number}"
        yield m.asset(number, lambda: True)
        yield None
    @m.task
    def middle(number):
        done = []
        yield f"middle {number}"
        yield m.asset(done, lambda: bool(done))
        yield [leaf(number * width + k) for k in range(width)]
        done.append(1)
    @m.tasks
    def root():
        yield "root"
        yield [middle(number) for number in range(width)]
    return root

figures = []
for make in (trivial, ready):
    samples = []
    for _ in range(int(sys.argv[2])):
        build = make()
        gc.collect()
        begin = time.perf_counter()
        node = build()
        samples.append(time.perf_counter() - begin)
        assert m.ready(node)
    figures.append(min(samples) * 1000)
print(*figures)
"""
SIZES = {"trivial": 1 + 17 + 17**2 + 17**3, "ready": 1 + 70 + 70**2}


def measure() -> list[Row]:
    """Measure the serial overhead of a task, and the import of the tasks."""
    return [*overhead(), *imports(), *products.measure()]


def overhead() -> list[Row]:
    """Measure 5,000 trivial tasks and 5,000 tasks that are ready."""
    ours = _milliseconds(Path(sys.executable), "motoko.assets", 7)
    with tempfile.TemporaryDirectory() as name:
        interpreter = _original(Path(name))
        theirs = _milliseconds(interpreter, "iotaa", 1) if interpreter else None
    rows = []
    for kind, (what, size) in enumerate(SIZES.items()):
        figure = f"{ours[kind] / size * 1000:.0f} us a task"
        limit = f"not measured: {ORIGINAL} could not be installed"
        if theirs:
            limit = f"<= {theirs[kind] / size * 1000:.0f} us, the original's"
        holds = theirs is None or ours[kind] <= theirs[kind]
        rows.append(Row(f"{size} {what} asset tasks in layers, serial", figure, limit, holds))
    return rows


def _milliseconds(interpreter: Path, module: str, times: int) -> list[float]:
    path = {"PYTHONPATH": str(SRC)} if module.startswith("motoko") else {}
    done = subprocess.run(
        [interpreter, "-c", TASKS, module, str(times)],
        env=path,
        check=True,
        capture_output=True,
        text=True,
    )
    return [float(word) for word in done.stdout.split()]


def _original(place: Path) -> Path | None:
    """Return an interpreter that has the original, if it can be installed."""
    venv.create(place, with_pip=True)
    interpreter = place / "bin" / "python"
    pip = [interpreter, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    installed = subprocess.run([*pip, ORIGINAL], check=False, capture_output=True)
    return None if installed.returncode else interpreter


def imports() -> list[Row]:
    """Measure the import of the tasks, compared with a bare interpreter."""
    bare = best(lambda: python("-c", "pass"), 15)
    beyond = (best(lambda: python("-c", "import motoko.assets"), 15) - bare) * 1000
    return [
        Row(
            "import motoko.assets beyond a bare interpreter",
            f"{beyond:.1f} ms (bare: {bare * 1000:.1f} ms)",
            "<= 60 ms",
            beyond <= 60,
        )
    ]
