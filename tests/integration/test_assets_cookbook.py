"""Three techniques: values in memory, shared values, and processes for heavy calculations."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration

ONE_VALUE = """
from motoko.assets import asset, log, logcfg, ready, refs, task

logcfg()

def request(lat, lon):
    log.info("request %s %s", lat, lon)
    return {"place": {"city": "Longmont", "state": "CO"}}

@task
def json(lat, lon):
    val = []
    yield "JSON for lat %s lon %s" % (lat, lon)
    yield asset(val, lambda: bool(val))
    yield None
    val.append(request(lat, lon))

@task
def main(lat, lon):
    ran = False
    yield "Main"
    yield asset(None, lambda: ran)
    req = json(lat, lon)
    yield req
    if ready(req):
        place = refs(req)[0]["place"]
        log.info("Main: Location: %s, %s", place["city"], place["state"])
        ran = True
"""

SHARED_VALUE = """
from one_value import json
from motoko.assets import asset, log, ready, refs, task

def part(name, lat, lon):
    val = []
    yield "%s for lat %s lon %s" % (name, lat, lon)
    yield asset(val, lambda: bool(val))
    req = json(lat, lon)
    yield req
    val.append(refs(req)[0]["place"][name])

@task
def city(lat, lon):
    yield from part("city", lat, lon)

@task
def state(lat, lon):
    yield from part("state", lat, lon)

@task
def main(lat, lon):
    ran = False
    yield "Main"
    yield asset(None, lambda: ran)
    reqs = {"city": city(lat, lon), "state": state(lat, lon)}
    yield reqs
    if all(ready(req) for req in reqs.values()):
        log.info("Main: Location: %s, %s", *[refs(reqs[key])[0] for key in ("city", "state")])
        ran = True
"""

PROCESSES = """
import os
from multiprocessing import Process, Value
from motoko.assets import asset, log, logcfg, ready, refs, task

logcfg()

def fib(n):
    return n if n < 2 else fib(n - 2) + fib(n - 1)

def calculate(n, value, pid):
    value.value, pid.value = fib(n), os.getpid()

@task
def fibonacci(n):
    value, pid = Value("i", -1), Value("i", 0)
    yield "Fibonacci %s" % n
    yield [asset(value, lambda: value.value >= 0), asset(pid, lambda: pid.value)]
    yield None
    process = Process(target=calculate, args=(n, value, pid))
    process.start()
    process.join()

@task
def main(n1, n2):
    ran = False
    yield "Main"
    yield asset(None, lambda: ran)
    reqs = [fibonacci(n1), fibonacci(n2)]
    yield reqs
    if all(ready(req) for req in reqs):
        log.info("%s %s", *[refs(req)[0].value for req in reqs])
        log.info("%s processes", len({os.getpid(), *[refs(req)[1].value for req in reqs]}))
        ran = True
"""


def lines(directory: Path, *arguments: str) -> list[str]:
    """Run the command; return its log, without the times."""
    done = subprocess.run(
        [sys.executable, "-m", "motoko.assets", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    )
    found = [line.partition("] ")[2] for line in done.stderr.splitlines()]
    return [line.removeprefix("INFO    ") for line in found if line]


def test_a_value_in_memory(tmp_path: Path) -> None:
    (tmp_path / "one_value.py").write_text(ONE_VALUE)
    name = "JSON for lat 40.1672 lon -105.1091"
    assert lines(tmp_path, "one_value.py", "main", "40.1672", "-105.1091") == [
        f"{name}: Executing",
        "request 40.1672 -105.1091",
        f"{name}: Ready",
        "Main: Executing",
        "Main: Location: Longmont, CO",
        "Main: Ready",
    ]


def test_a_shared_value_is_computed_once(tmp_path: Path) -> None:
    (tmp_path / "one_value.py").write_text(ONE_VALUE)
    (tmp_path / "shared.py").write_text(SHARED_VALUE)
    place = "for lat 40.1 lon -105.1"
    assert lines(tmp_path, str(tmp_path / "shared.py"), "main", "40.1", "-105.1") == [
        f"JSON {place}: Executing",
        "request 40.1 -105.1",
        f"JSON {place}: Ready",
        f"city {place}: Executing",
        f"city {place}: Ready",
        f"state {place}: Executing",
        f"state {place}: Ready",
        "Main: Executing",
        "Main: Location: Longmont, CO",
        "Main: Ready",
    ]


def test_processes_for_heavy_calculations(tmp_path: Path) -> None:
    (tmp_path / "processes.py").write_text(PROCESSES)
    found = lines(tmp_path, "-t", "2", "processes.py", "main", "12", "13")
    assert sorted(found[:4]) == [
        f"Fibonacci {n}: {what}" for n in (12, 13) for what in ("Executing", "Ready")
    ]
    assert found[4:] == ["Main: Executing", "144 233", "3 processes", "Main: Ready"]
