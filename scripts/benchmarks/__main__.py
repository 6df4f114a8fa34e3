"""Run the benchmarks named on the command line (by default all) and print a table."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table

import footprint
import graph
import latency
import peers
import results
import scale
import screens
import slurm
import throughput
import why
from support import noise

BENCHMARKS = {
    "latency": latency.measure,
    "chain": throughput.chain,
    "example": throughput.example,
    "create": throughput.create,
    "select": throughput.select,
    "results": results.measure,
    "idle": footprint.idle,
    "imports": footprint.imports,
    "graph": graph.measure,
    "size": footprint.size,
    "bash": slurm.bash,
    "arrays": slurm.arrays,
    "queue": slurm.queue,
    "why": why.measure,
}

# Tables of their own, which take long: only if they are named.
TABLES = {"peers": peers.main, "scale": scale.main, "screens": screens.main}


def main() -> int:
    """Run the benchmarks; the exit status is the number of rows over their limits."""
    if sys.argv[1:] and sys.argv[1] in TABLES:
        return TABLES[sys.argv[1]](sys.argv[2:])
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(
            f"unknown: {', '.join(unknown)}; known: {', '.join([*BENCHMARKS, *TABLES])}",
            file=sys.stderr,
        )
        return 2
    table = Table("what", "figure", "limit", "")
    console = Console(width=140)
    console.print(noise())
    failed = 0
    for name in names:
        for row in BENCHMARKS[name]():
            table.add_row(row.what, row.figure, row.limit, "holds" if row.holds else "TOO MUCH")
            failed += not row.holds
    console.print(table)
    console.print(noise())
    return failed


sys.exit(main())
