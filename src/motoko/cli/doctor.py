"""Examine the installation and the workflow, and list problems with the next step for each.

It changes nothing and starts no process. It examines the installation, motoko.yaml and every
bd.yaml, scripts, the database, its server and socket, orchestrators and launchers, directories of
ended runs, the scheduler, the clock, file systems and permissions. Outside a workflow it examines
the installation only.

The exit status is 0 if all is well, 1 after warnings, 2 after faults.

--json prints one object on standard output:

  level      "ok", "warning" or "fault": the highest one of the findings
  directory  null outside a workflow, or text
  findings   list of {"code", "level", "subject", "message", "next_step"}; "next_step" is null or
             text, and codes do not change with later versions
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from motoko.cli.output import echo
from motoko.printable import one_line

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from motoko.operations.doctor.findings import Finding
    from motoko.operations.doctor.patient import Patient
    from motoko.runtime.ports import Clock

HELP = "examine the installation and the workflow, and list problems"
PROGRESS_SECONDS: Final = 0.5
STYLES: Final = {"OK": ("✓", "green"), "WARNING": ("!", "yellow"), "FAULT": ("✗", "bold red")}
SIMPLE_SIGNS: Final = {"OK": "+", "WARNING": "!", "FAULT": "x"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--json", action="store_true", help="print JSON, as described above")
    parser.add_argument("--scrub", action="store_true", help="read every record of the database")


def execute(args: argparse.Namespace) -> int:
    """Print the findings; return the exit status."""
    import logging

    logging.getLogger("motoko").setLevel(logging.CRITICAL)  # findings repeat its warnings
    findings, directory = [], None
    for found in _examine(args):
        if isinstance(found, str):
            directory = found
            continue
        findings.append(found)
        if not args.json:
            _print(found)
    if args.json:
        sys.stdout.write(_json(directory, findings) + "\n")
    else:
        echo(_summary(findings))
        if directory is None:
            echo("Only the installation was examined. Name a workflow with --workflow DIR.")
    return max(finding.level for finding in findings)


def _examine(args: argparse.Namespace) -> Iterator[Finding | str]:
    """Yield findings, and the directory of the workflow before those about it.

    Without all required packages, or outside a workflow, examine the installation only.
    """
    from motoko.operations.doctor.findings import fault
    from motoko.operations.doctor.installation import MISSING, examine_installation

    found = examine_installation()
    yield from found
    if any(finding.code == MISSING for finding in found):
        return
    try:
        from motoko.operations.doctor.examination import examine

        patient = _patient(args)
    except ImportError as error:
        step = "Install Motoko again, with its packages: `pip install --force-reinstall motoko`."
        yield fault("package-broken", "installation", f"{type(error).__name__}: {error}", step)
        return
    if patient is not None:
        yield str(patient.directory)
        yield from examine(patient)


def _patient(args: argparse.Namespace) -> Patient | None:
    from motoko.cli.workflow_arguments import workflow_file
    from motoko.errors import NotAWorkflowError
    from motoko.operations.doctor.patient import Patient

    try:
        file = workflow_file(args.workflow_dir)
    except NotAWorkflowError:
        if args.workflow_dir is not None:
            raise
        return None
    progress = _progress(args.motoko_runtime.clock) if args.scrub else None
    return Patient(file, runtime=args.motoko_runtime, progress=progress)


def _progress(clock: Clock) -> Callable[[int, int], None]:
    """Return a function that shows the progress of a scrub on stderr, at most twice a second."""
    last = [clock.monotonic()]
    end = "\r" if sys.stderr.isatty() else "\n"

    def show(done: int, total: int) -> None:
        if clock.monotonic() - last[0] >= PROGRESS_SECONDS:
            last[0] = clock.monotonic()
            echo(f"{done:,} of {total:,} objects read", file=sys.stderr, end=end, flush=True)

    return show


def _print(finding: Finding) -> None:
    """Print a finding: its level as sign, word and colour, and its next step below."""
    sign, colour = STYLES[finding.level.name]
    if not _has_signs():
        sign = SIMPLE_SIGNS[finding.level.name]
    level = f"{sign} {finding.level.name.lower():<8}"
    lines = [f" {finding.subject}: {one_line(finding.message)}"]
    if finding.next_step:
        lines.append(f"{'':11}{one_line(finding.next_step)}")
    try:
        from motoko.cli.tables import console, safe_text
    except ImportError:  # a broken installation
        echo(level + "\n".join(lines))
        return
    text = safe_text(level, colour)
    console().print(text.append(safe_text("\n".join(lines))), soft_wrap=True)


def _has_signs() -> bool:
    """Return whether the output can show the signs."""
    try:
        "".join(sign for sign, _ in STYLES.values()).encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


def _summary(findings: Sequence[Finding]) -> str:
    """Return the numbers of faults and warnings on one line."""
    counts = Counter(finding.level.name.lower() for finding in findings)
    parts = []
    for name in ("fault", "warning"):
        if number := counts[name]:
            parts.append(f"{number} {name}{'s' if number > 1 else ''}")
    return ", ".join(parts) or "all is well"


def _json(directory: str | None, findings: Sequence[Finding]) -> str:
    import json

    content: dict[str, Any] = {
        "level": max(finding.level for finding in findings).name.lower(),
        "directory": directory,
        "findings": [
            {
                "code": finding.code,
                "level": finding.level.name.lower(),
                "subject": finding.subject,
                "message": finding.message,
                "next_step": finding.next_step or None,
            }
            for finding in findings
        ],
    }
    return json.dumps(content, indent=2)
