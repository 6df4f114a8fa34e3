"""What a crew writes into the directories of attempts, for wrappers and later launchers. Blocks."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from motoko.errors import LauncherError
from motoko.launcher import evidence
from motoko.launcher.directory import take_back
from motoko.launcher.scheduled.batches import again_file
from motoko.runtime.untrusted import trouble_writing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.launcher.active import Active
    from motoko.launcher.directory import Place
    from motoko.launcher.scheduled.batches import Batch

log = logging.getLogger(__name__)


def keep_from_starting(place: Place) -> bool:
    """Make sure that an attempt never starts; returns False if it has started."""
    try:
        if take_back(place, evidence.START, evidence.taken_by("that saw it end")):
            return True
    except LauncherError:
        log.debug("%s is a later attempt's by now", place.run)
    except OSError as error:
        if trouble_writing(place.root) is not None:
            raise LauncherError(
                f"{place.private} cannot be written: {error.strerror or error}",
                hint="Is the disk full? Start the launcher again when this is put right.",
            ) from error
        log.warning("%s cannot be used: %s", place.private, error)
        return not evidence.ran(place)  # where no launcher can take the start file, no job can
    return evidence.taken_away(place)


def note_stops(stopped: Iterable[Active]) -> None:
    """Note why attempts are about to be ended."""
    for active in stopped:
        if active.stop is not None:
            evidence.note_stop(active.place, active.stop)


def note_twins(batch: Batch) -> None:
    """Note for each task of a batch that the scheduler has it more than once."""
    for index in range(batch.size):
        with contextlib.suppress(OSError):  # it is over already
            again_file(batch.directory, index).touch()
