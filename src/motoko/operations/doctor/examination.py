"""All checks of a workflow, and their execution."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

from motoko.errors import MotokoError
from motoko.operations.doctor.configuration import examine_configuration
from motoko.operations.doctor.database import examine_database
from motoko.operations.doctor.directories import examine_directories
from motoko.operations.doctor.ends import examine_ends
from motoko.operations.doctor.findings import Finding, fault
from motoko.operations.doctor.leases import examine_leases
from motoko.operations.doctor.machine import (
    examine_clock,
    examine_file_systems,
    examine_permissions,
)
from motoko.operations.doctor.notifications import examine_notifications
from motoko.operations.doctor.patient import Check, Patient
from motoko.operations.doctor.scheduler import examine_scheduler
from motoko.operations.doctor.scripts import examine_scripts
from motoko.operations.doctor.server import examine_server, examine_socket

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CHECKS: Final = (
    Check("configuration", examine_configuration),
    Check("scripts", examine_scripts),
    Check("database", examine_database),
    Check("server", examine_server),
    Check("socket", examine_socket),
    Check("leases", examine_leases),
    Check("directories", examine_directories),
    Check("ends", examine_ends),
    Check("notifications", examine_notifications),
    Check("scheduler", examine_scheduler),
    Check("clock", examine_clock),
    Check("file systems", examine_file_systems),
    Check("permissions", examine_permissions),
)


def examine(patient: Patient, checks: Sequence[Check] = CHECKS) -> Iterator[Finding]:
    """Yield the findings of all checks of a workflow."""
    for check in checks:
        yield from _findings(check, patient)


def _findings(check: Check, patient: Patient) -> Sequence[Finding]:
    """Run a check in a thread: a file system may not respond."""
    results: list[Sequence[Finding]] = []
    seconds = None if patient.progress is not None and check.name == "database" else check.seconds

    def run() -> None:
        results.append(_examine(check, patient))

    thread = threading.Thread(target=run, name=f"doctor-{check.name}", daemon=True)
    thread.start()
    thread.join(seconds)
    if results:
        return results[0]
    message = f"this check did not end within {seconds:g} s"
    step = "A file system or a process does not respond. Repeat the command."
    return [fault("check-timeout", check.name, message, step)]


def _concerns_state(error: OSError, patient: Patient) -> bool:
    """Return whether this user may not enter the state directory."""
    name = os.fsdecode(error.filename or "")
    return isinstance(error, PermissionError) and name.startswith(str(patient.state.path))


def _examine(check: Check, patient: Patient) -> Sequence[Finding]:
    try:
        return check.examine(patient)
    except MotokoError as error:
        return [fault("check-failed", check.name, error.message, error.hint or "Repeat it.")]
    except OSError as error:
        if _concerns_state(error, patient) and check.name != "permissions":
            return []  # the check of permissions reports it
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        message = f"{place}{error.strerror or error}"
        return [fault("check-failed", check.name, message, "Make it readable for you.")]
    except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
        message = f"this check failed: {type(error).__name__}: {error}"
        step = "Please report this as a bug of Motoko."
        return [fault("check-failed", check.name, message, step)]
