"""What a crew writes into the directories of attempts, for wrappers and later launchers. Blocks."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from motoko.errors import LauncherError
from motoko.launcher import attempt_files
from motoko.launcher.executors.batch.submission_files import again_file
from motoko.launcher.run_directory import reclaim_start_file
from motoko.runtime.untrusted_files import write_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from motoko.launcher.attempts import Attempt
    from motoko.launcher.executors.batch.submission_files import Submission
    from motoko.launcher.run_directory import AttemptPaths

log = logging.getLogger(__name__)


def block_start(place: AttemptPaths) -> bool:
    """Make sure that an attempt never starts; returns False if it has started."""
    try:
        if reclaim_start_file(
            place, attempt_files.START, attempt_files.start_file_text("that saw it end")
        ):
            return True
    except LauncherError:
        log.debug("%s is a later attempt's by now", place.run)
    except OSError as error:
        if write_error(place.root) is not None:
            raise LauncherError(
                f"{place.private} cannot be written: {error.strerror or error}",
                hint="Is the disk full? Start the launcher again when this is put right.",
            ) from error
        log.warning("%s cannot be used: %s", place.private, error)
        return not attempt_files.has_started(
            place
        )  # where no launcher can take the start file, no job can
    return attempt_files.was_reclaimed(place)


def write_stop_reasons(stopped: Iterable[Attempt]) -> None:
    """Note why attempts are about to be ended."""
    for active in stopped:
        if active.stop is not None:
            attempt_files.write_stop_reason(active.place, active.stop)


def write_duplicates(batch: Submission) -> None:
    """Note for each task of a batch that the scheduler has it more than once."""
    for index in range(batch.size):
        with contextlib.suppress(OSError):  # it is over already
            again_file(batch.directory, index).touch()
