"""Costs of the libraries alone on this machine: lower bounds for other rows."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import transaction
import ZODB
from ZEO.ClientStorage import ClientStorage

from motoko.server.lifecycle import stop_server
from motoko.server.state_dir import StateDir
from motoko.storage.schema import create_database

SAMPLES = 300
PAUSE = 0.02  # seconds between samples


def writer(socket: str) -> None:
    """Commit one small object per line; print the time of each call."""
    database = ZODB.DB(ClientStorage(socket))
    connection = database.open()
    for line in sys.stdin:
        connection.sync()
        connection.root()["bare"] = int(line)
        begin = time.time()
        transaction.commit()
        print(begin, flush=True)
    connection.close()
    database.close()


def bare_latency() -> tuple[float, float]:
    """Return median and 99th percentile from commit to one object read, in seconds.

    Through ZEO alone: one process commits, this one is notified and reads; the same server, on the
    same disk, with its own way of writing.
    """
    with tempfile.TemporaryDirectory() as name:
        state = StateDir.of(Path(name) / "wf")
        state.path.parent.mkdir()
        create_database(state, [])
        try:
            found = sorted(_latencies(str(state.socket())))
        finally:
            stop_server(state)
    return statistics.median(found), found[int(len(found) * 0.99)]


def _latencies(socket: str) -> list[float]:
    news = threading.Event()
    storage = ClientStorage(socket)
    database = ZODB.DB(storage)
    invalidate = database._mvcc_storage.invalidate  # noqa: SLF001 - there is no public hook

    def on_invalidate(*arguments: Any) -> None:
        invalidate(*arguments)
        news.set()

    database._mvcc_storage.invalidate = on_invalidate  # noqa: SLF001
    connection = database.open()
    process = subprocess.Popen(
        [sys.executable, __file__, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    found = []
    for number in range(SAMPLES):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        while True:
            news.wait()
            news.clear()
            connection.sync()
            if connection.root().get("bare") == number:
                break
        end = time.time()
        found.append(end - float(process.stdout.readline()))
        time.sleep(PAUSE)
    process.stdin.close()
    process.wait()
    connection.close()
    database.close()
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1:
        writer(sys.argv[1])
    else:
        print(*(f"{1000 * figure:.1f} ms" for figure in bare_latency()))
