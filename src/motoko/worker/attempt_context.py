"""The attempt of a process: its inputs and its outbox."""

from __future__ import annotations

import os
import sys

from motoko.worker import earlier_layout
from motoko.worker.json_codec import decode, encode
from motoko.worker.outbox import EXIT_PREFIX, INPUTS, VERSION, read_outbox, write_record
from motoko.worker.regular_files import open_regular
from motoko.worker.validation import WorkerError, field_name

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VARIABLE = "MOTOKO_OUTBOX"
ENDED = "over"  # suffix; written by a launcher: the attempt ended without an exit record
TAIL = 64 * 1024  # bytes at the end of an outbox that contain its exit record


def attempt_path() -> str | None:
    """Return the outbox of this process's attempt (earlier layout: its directory), or None."""
    return os.environ.get(VARIABLE) or os.environ.get(earlier_layout.VARIABLE) or None


def tolerate_narrow_encodings() -> None:
    """Print characters that a script's locale cannot encode as escapes."""
    if not attempt_path():
        return
    for stream in (sys.stdout, sys.stderr):
        if getattr(stream, "errors", None) == "strict":
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class AttemptContext:
    """The inputs of one attempt, read at first use, and the contents of its outbox."""

    __slots__ = ("_inputs", "_path", "_records", "_searched")

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._inputs: dict[str, Any] | None = None
        self._records: tuple[int, dict[str, Any], str | None] = (0, {}, None)
        self._searched: int | None = None

    @property
    def path(self) -> str:
        """The attempt's outbox, in the earlier layout its directory; WorkerError outside a run."""
        if self._path is None:
            path = attempt_path()
            if path is None:
                raise WorkerError(
                    f"not inside a run: {VARIABLE} is not set",
                    hint="Motoko's launcher sets it. To try a script by hand, set it to the"
                    " outbox of a run (<run directory>/.motoko-<token>).",
                )
            # Cached as absolute path: the script may change directory.
            self._path = os.path.abspath(path)
        return self._path

    @property
    def _is_earlier(self) -> bool:
        return os.path.basename(os.path.dirname(self.path)) == INPUTS

    @property
    def outbox(self) -> str:
        """The file of the attempt's records."""
        return earlier_layout.outbox(self.path) if self._is_earlier else self.path

    @property
    def run_directory(self) -> str:
        """The directory in which the script starts."""
        directory = os.path.dirname(self.path)
        return os.path.dirname(directory) if self._is_earlier else directory

    @property
    def inputs(self) -> dict[str, Any]:
        """The inputs that the launcher wrote before the start."""
        if self._inputs is None:
            if self._is_earlier:
                self._inputs = _load(earlier_layout.inputs(self.path), marked=False)
            else:
                inputs = _load(os.path.join(self.run_directory, INPUTS), marked=True)
                if not self.path.endswith(f"{INPUTS}-{inputs.get('token')}"):
                    raise WorkerError(f"not inside a run: {self.path} is of an earlier attempt")
                self._inputs = inputs
        return self._inputs

    @property
    def types(self) -> dict[str, str]:
        """The declared types of run fields."""
        types: dict[str, str] = self.inputs.get("types", {})
        return types

    def append(self, op: str, **content: Any) -> None:
        """Append a record to the outbox; WorkerError if that fails or the run has ended."""
        outbox, record = self.outbox, {"op": op, **content}
        try:
            if not self._has_ended():
                write_record(outbox, record, create=self._is_earlier)
            ended = self._has_ended()
        except OSError as error:
            raise WorkerError(f"{outbox} cannot be written: {error.strerror or error}") from error
        if ended:
            raise WorkerError(
                "the run has ended, so this is not part of its results",
                hint="Wait in the script for all processes that it starts (`wait` in a shell).",
            )

    def _has_ended(self) -> bool:
        if self._is_earlier:
            return earlier_layout.has_ended(self.path)
        if os.path.exists(f"{self.path}.{ENDED}"):
            return True
        with open_regular(self.path) as file:
            start = self._searched
            if start is None:
                start = max(0, os.fstat(file.fileno()).st_size - TAIL)
            file.seek(start)
            data = file.read()
        if b"\n" + EXIT_PREFIX in data:
            return True
        self._searched = start + max(0, data.rfind(b"\n"))
        return False

    def set_field(self, name: object, value: Any, convert: Callable[..., Any]) -> None:
        """Set a field to ``value``, converted to the declared type, if any."""
        field = field_name(name)
        content = encode(convert(value, self.types.get(field), f"run.{field}"))
        self.append("set", field=field, value=content)

    def read_outbox(self) -> tuple[dict[str, Any], str | None]:
        """Return the fields and the label that processes of this attempt have set so far."""
        offset, fields, label = self._records
        outbox = self.outbox
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
        self._records = (offset + used, {**fields, **new} if new else fields, label)
        return self._records[1], label


def _load(path: str, *, marked: bool) -> dict[str, Any]:
    """Return the inputs in a file; ``marked``: after the line that names the attempt."""
    import json

    try:
        with open_regular(path) as file:
            if marked:
                file.readline()
            inputs = decode(json.load(file))
        version = inputs["v"]
    except OSError as error:
        raise WorkerError(
            f"not inside a run: {path} cannot be read: {error.strerror}",
            hint=f"{VARIABLE} must be the outbox of a run.",
        ) from error
    except (ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise WorkerError(f"{path} is damaged: {error}") from error
    if version != VERSION:
        raise WorkerError(
            f"{path} is of version {version}, this Motoko reads version {VERSION}",
            hint="Use the Python environment that the launcher runs in.",
        )
    return dict(inputs)
