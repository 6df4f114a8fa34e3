"""The attempt that a process belongs to, as its script sees it."""

from __future__ import annotations

import os
import sys

from motoko.worker.json_codec import decode, encode
from motoko.worker.outbox import INPUTS, OUTBOX, VERSION, read_outbox, write_record
from motoko.worker.regular import open_regular
from motoko.worker.validation import WorkerError, field_name

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def tolerate_narrow_encodings() -> None:
    """Let a run's script print what its locale cannot encode: as an escape, not as an error."""
    if not os.environ.get("MOTOKO_ATTEMPT_DIR"):
        return
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict":
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


EXIT = "exit"  # the wrapper's record of how the script ended
OVER = "over"  # a launcher's mark of an end that left no such record


class AttemptContext:
    """One attempt's inputs, read at first use, and what its outbox says so far."""

    __slots__ = ("_directory", "_inputs", "_said")

    def __init__(self, directory: str | None = None) -> None:
        self._directory = directory
        self._inputs: dict[str, Any] | None = None
        self._said: tuple[int, dict[str, Any], str | None] = (0, {}, None)

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
            # Kept, and absolute, for the script may change directory.
            self._directory = os.path.abspath(directory)
        return self._directory

    @property
    def inputs(self) -> dict[str, Any]:
        """What the launcher wrote before the run started."""
        if self._inputs is None:
            self._inputs = _load(os.path.join(self.directory, INPUTS))
        return self._inputs

    @property
    def types(self) -> dict[str, str]:
        """The types that ``bd.yaml`` declares for run fields."""
        types: dict[str, str] = self.inputs.get("types", {})
        return types

    def say(self, op: str, **content: Any) -> None:
        """Append a record to the outbox; WorkerError if that cannot be done, or is too late."""
        outbox = os.path.join(self.directory, OUTBOX)
        try:
            if not self._over():
                write_record(outbox, {"op": op, **content})
        except OSError as error:
            raise WorkerError(f"{outbox} cannot be written: {error.strerror or error}") from error
        if self._over():
            raise WorkerError(
                "the run has ended, so this is not part of its results",
                hint="Wait in the script for all that it starts (`wait` in a shell).",
            )

    def _over(self) -> bool:
        return any(os.path.exists(os.path.join(self.directory, name)) for name in (EXIT, OVER))

    def set_field(self, name: object, value: Any, read: Callable[..., Any]) -> None:
        """Set a field to what ``read`` makes of ``value`` in the field's declared type, if any."""
        field = field_name(name)
        content = encode(read(value, self.types.get(field), f"run.{field}"))
        self.say("set", field=field, value=content)

    def said(self) -> tuple[dict[str, Any], str | None]:
        """Return the fields and the label that processes of this attempt gave so far."""
        seen, fields, label = self._said
        outbox = os.path.join(self.directory, OUTBOX)
        try:
            with open_regular(outbox) as file:
                file.seek(seen)
                records, used = read_outbox(file.read())
        except FileNotFoundError:
            return fields, label
        except OSError as error:
            raise WorkerError(f"{outbox} cannot be read: {error.strerror or error}") from error
        news = {record["field"]: record["value"] for record in records if record["op"] == "set"}
        for record in records:
            label = record.get("label", label)
        # Replaced as a whole, never changed: another thread may be reading.
        self._said = (seen + used, {**fields, **news} if news else fields, label)
        return self._said[1], label


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
