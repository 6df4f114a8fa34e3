"""The attempt of a process: its inputs and its outbox."""

from __future__ import annotations

import os
import sys

from motoko.worker.json_codec import decode, encode
from motoko.worker.outbox import INPUTS, OUTBOX, VERSION, read_outbox, write_record
from motoko.worker.regular_files import open_regular
from motoko.worker.validation import WorkerError, field_name

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def tolerate_narrow_encodings() -> None:
    """Print characters that a script's locale cannot encode as escapes."""
    if not os.environ.get("MOTOKO_ATTEMPT_DIR"):
        return
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict":
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


EXIT = "exit"  # the wrapper's exit record
ENDED = "over"  # written by a launcher: the attempt ended without an exit record


class AttemptContext:
    """The inputs of one attempt, read at first use, and the contents of its outbox."""

    __slots__ = ("_directory", "_inputs", "_outbox")

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory
        self._inputs: dict[str, Any] | None = None
        self._outbox: tuple[int, dict[str, Any], str | None] = (0, {}, None)

    @property
    def directory(self) -> str:
        """The attempt's directory; WorkerError outside a run."""
        if self._directory is None:
            directory = os.environ.get("MOTOKO_ATTEMPT_DIR")
            if not directory:
                raise WorkerError(
                    "not inside a run: MOTOKO_ATTEMPT_DIR is not set",
                    hint="Motoko's launcher sets it. To try a script by hand, set it to the"
                    " attempt directory of a run (<run directory>/.motoko/<token>).",
                )
            # Cached as absolute path: the script may change directory.
            self._directory = os.path.abspath(directory)
        return self._directory

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that the launcher wrote before the start."""
        if self._inputs is None:
            self._inputs = _load(os.path.join(self.directory, INPUTS))
        return self._inputs

    @property
    def types(self) -> dict[str, str]:
        """The declared types of run fields."""
        types: dict[str, str] = self.inputs.get("types", {})
        return types

    def append(self, op: str, **content: Any) -> None:
        """Append a record to the outbox; WorkerError if that fails or the run has ended."""
        outbox = os.path.join(self.directory, OUTBOX)
        try:
            if not self._has_ended():
                write_record(outbox, {"op": op, **content})
        except OSError as error:
            raise WorkerError(f"{outbox} cannot be written: {error.strerror or error}") from error
        if self._has_ended():
            raise WorkerError(
                "the run has ended, so this is not part of its results",
                hint="Wait in the script for all processes that it starts (`wait` in a shell).",
            )

    def _has_ended(self) -> bool:
        return any(os.path.exists(os.path.join(self.directory, name)) for name in (EXIT, ENDED))

    def set_field(self, name: object, value: Any, convert: Callable[..., Any]) -> None:
        """Set a field to ``value``, converted to the declared type, if any."""
        field = field_name(name)
        content = encode(convert(value, self.types.get(field), f"run.{field}"))
        self.append("set", field=field, value=content)

    def read_outbox(self) -> tuple[dict[str, Any], str | None]:
        """Return the fields and the label that processes of this attempt have set so far."""
        offset, fields, label = self._outbox
        outbox = os.path.join(self.directory, OUTBOX)
        try:
            with open_regular(outbox) as file:
                file.seek(offset)
                records, used = read_outbox(file.read())
        except FileNotFoundError:
            return fields, label
        except OSError as error:
            raise WorkerError(f"{outbox} cannot be read: {error.strerror or error}") from error
        new = {record["field"]: record["value"] for record in records if record["op"] == "set"}
        for record in records:
            label = record.get("label", label)
        # Replaced, never changed: another thread may be reading.
        self._outbox = (offset + used, {**fields, **new} if new else fields, label)
        return self._outbox[1], label


def _load(path: str) -> dict[str, Any]:
    import json

    try:
        with open_regular(path) as file:
            inputs = decode(json.load(file))
        version = inputs["v"]
    except OSError as error:
        raise WorkerError(
            f"not inside a run: {path} cannot be read: {error.strerror}",
            hint="MOTOKO_ATTEMPT_DIR must be the attempt directory of a run.",
        ) from error
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise WorkerError(f"{path} is damaged: {error}") from error
    if version != VERSION:
        raise WorkerError(
            f"{path} is of version {version}, this Motoko reads version {VERSION}",
            hint="Use the Python environment that the launcher runs in.",
        )
    return dict(inputs)
