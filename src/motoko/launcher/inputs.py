"""What a run's script gets: the inputs file and environment variables."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from motoko.worker import INPUTS, VERSION, as_text, encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.records import RunRecord
    from motoko.launcher.claiming import Terms
    from motoko.launcher.run_directory import AttemptPaths


def inputs_file(
    record: RunRecord, place: AttemptPaths, workflow: str, types: Mapping[str, str]
) -> tuple[str, bytes]:
    """Return name and content of the file that ``motoko.worker`` reads.

    ``types`` are those that ``bd.yaml`` declares for run fields.
    """
    inputs = {
        "v": VERSION,
        "study": record.study,
        "id": record.id,
        "job_id": record.job_id,
        "run_name": record.run_name,
        "replicate": record.replicate,
        "attempt": record.tries,
        "token": place.token,
        "workflow": workflow,
        "job": dict(record.job),
        "fields": dict(record.fields),
        "resources": dict(record.resources),
        "types": dict(types),
    }
    return INPUTS, json.dumps(encode(inputs)).encode()


def variables(
    record: RunRecord, place: AttemptPaths, terms: Terms, workflow: str
) -> dict[str, str]:
    """Return the environment variables of an attempt.

    ``MOTOKO_JOB_X`` is the job parameter ``x``, ``MOTOKO_RUN_Y`` the run field ``y``. Names that a
    shell cannot use are left out; scripts find everything in the inputs file.
    """
    return {
        **_upper("MOTOKO_JOB_", record.job),
        **_upper("MOTOKO_RUN_", record.fields),
        "MOTOKO_ATTEMPT_DIR": place.private,
        "MOTOKO_ATTEMPT": str(record.tries),
        "MOTOKO_JOB_ID": str(record.job_id),
        "MOTOKO_NPROC": str(terms.nproc),
        "MOTOKO_RUN_DIR": place.run,
        "MOTOKO_RUN_ID": str(record.id),
        "MOTOKO_RUN_NAME": record.run_name,
        "MOTOKO_STUDY": record.study,
        "MOTOKO_WORKFLOW": workflow,
    }


def _upper(prefix: str, values: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    # Where two names differ in case only, the one in capitals has the variable.
    for name in sorted(values, key=str.isupper):
        if isinstance(name, str) and name.isascii():
            found[prefix + name.upper()] = as_text(values[name])
    return found
