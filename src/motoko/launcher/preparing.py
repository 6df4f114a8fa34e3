"""What every attempt needs before it is submitted: its directory, its inputs, its script."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.errors import LauncherError
from motoko.launcher.directory import Superseded, prepare, read_sources
from motoko.launcher.generators.base import Order
from motoko.launcher.inputs import inputs_file, variables
from motoko.runtime import faults

if TYPE_CHECKING:
    from motoko.launcher.active import Active
    from motoko.storage.store import Store

TOO_LONG: Final = (errno.E2BIG, errno.ENAMETOOLONG)


class Unfit(LauncherError):
    """This run cannot be started, whatever the state of the machine."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why an attempt could not be prepared or submitted."""

    problem: Exception


def prepare_attempt(store: Store, active: Active) -> Order | Failed:
    """Make the attempt's clean run directory; return how it is to be run. Blocks."""
    record, study = active.record, store.studies[active.key.study]
    workflow = str(store.workflow_file)
    try:
        sources = read_sources(study.directory, {study.exec_file, *study.config_files})
        inputs = inputs_file(record, active.place, workflow)
        given = variables(record, active.place, active.terms, workflow)
    except (OSError, TypeError, ValueError) as error:
        return Failed(Unfit(str(error)))
    script = next(source for source in sources if source.name == study.exec_file)
    try:
        faults.point("launcher.claimed")
        prepare(active.place, inputs, sources)
        faults.point("launcher.prepared")
    except OSError as error:
        return Failed(unfit(error))
    except Superseded as error:
        return Failed(error)
    return Order(active.place, script, active.terms, given)


def unfit(error: OSError) -> Exception:
    """Return the error, or an Unfit where only this run is to blame."""
    return Unfit(str(error)) if error.errno in TOO_LONG else error
