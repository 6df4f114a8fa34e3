"""Write plots to files, and draw the plots of files again from the same data."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from motoko.core.run_targets import RunTarget
from motoko.errors import ConfigError, MotokoError, PastStateError, PlotError
from motoko.operations.bulk_edit import RunSelection
from motoko.operations.plotting.metadata import PlotRecord, format_of, read_record, shell_text
from motoko.operations.plotting.page import page
from motoko.operations.plotting.preparation import RUN, STEP, VALUE, prepare
from motoko.operations.plotting.rendering import library_version, render
from motoko.operations.plotting.spec import LINE, SCATTER
from motoko.runtime.files import write_atomic
from motoko.runtime.untrusted_files import read_file
from motoko.storage.columns import read_columns
from motoko.storage.query import check_run_name_exists, query_database
from motoko.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from motoko.api.workflow import Workflow
    from motoko.operations.plotting.spec import PlotSpec
    from motoko.storage.session import Session

_COMPONENT: Final = re.compile(r"\[(\d{1,6})\]$")


@dataclass(frozen=True, slots=True)
class PlotData:
    """The values to draw, as read at a transaction, in hexadecimal, and its time in ISO format."""

    values: Mapping[str, Sequence[Any]]
    transaction: str
    committed: str

    def digest(self) -> str:
        """Return a digest of names and values."""
        text = repr(list(self.values.items()))
        return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class WrittenPlot:
    """A file that was written, and notes about its content.

    ``identical``: whether it has the bytes of the file that it reproduces, None for another format.
    """

    path: Path
    notes: Sequence[str]
    identical: bool | None = None


def default_name(spec: PlotSpec) -> str:
    """Return the name of the file of a plot without another one."""
    names = spec.columns if spec.kind in (SCATTER, LINE) else (*spec.columns[:3], spec.kind)
    text = "-".join([spec.study, *names])
    return re.sub(r"[^\w.-]", "_", text)[:100].lstrip(".") + ".png"


def draw_plot(
    workflow: Workflow, spec: PlotSpec, command: Sequence[str], path: Path
) -> WrittenPlot:
    """Draw runs of the newest snapshot to a file; ``command``: the arguments that request it.

    Raise PlotError if nothing can be drawn, UnknownNameError for unknown names.
    """
    kind, versions = format_of(path), _versions()
    manager = workflow.task_manager(spec.study)
    spec = replace(spec, study=manager.name)
    data, scripts = read_data(workflow, spec), ""
    with suppress(ConfigError):
        scripts = manager.bd_config.scripts_digest()
    record = PlotRecord(
        tuple(command), data.transaction, data.committed, versions, scripts, data.digest(), spec
    )
    content, notes = _content(record, data, kind)
    _write(path, content)
    return WrittenPlot(path, notes)


def reproduce_plot(workflow: Workflow, file: Path, path: Path | None = None) -> WrittenPlot:
    """Draw the plot of a file again, from the data that it shows.

    ``path`` is by default ``NAME-reproduced`` beside it. Read the state at the file's transaction;
    if that was packed, the newest state, provided that it holds the same data. Raise PlotError, and
    write nothing, for a file without metadata, and if the data cannot be read.
    """
    record = read_record(file)
    target = file.with_stem(f"{file.stem}-reproduced") if path is None else path
    kind, versions = format_of(target), _versions()
    data, notes = _recorded_data(workflow, record, file)
    drawn_by = record.software()
    record = replace(record, versions=versions)
    if record.software() != drawn_by:
        notes.append(f"{file} was drawn by {drawn_by}, the new file by {record.software()}")
    content, drawn = _content(record, data, kind)
    identical = None
    if kind == format_of(file):
        identical = read_file(file.resolve(), limit=len(content) + 1).data == content
    if not identical and target.exists() and target.samefile(file):
        raise PlotError(f"the new plot differs from {file}, which stays", hint="Give another -o.")
    _write(target, content)
    return WrittenPlot(target, [*drawn, *notes], identical)


def selection_of(spec: PlotSpec) -> RunSelection:
    """Return the runs of a plot."""
    return RunSelection([RunTarget(spec.study)], spec.where, spec.run_name)


def read_data(workflow: Workflow, spec: PlotSpec, *, at: str | None = None) -> PlotData:
    """Return the values that a plot shows, in the newest state or that at a transaction."""
    ((study, constraint),) = selection_of(spec).parse(workflow).items()
    declared = workflow.task_manager(study).columns

    columns = list(dict.fromkeys([*spec.used_columns(), "id"]))
    quantity = None if spec.quantity is None else _COMPONENT.sub("", spec.quantity)

    def query(session: Session) -> PlotData:
        if spec.run_name is not None:
            check_run_name_exists(session, spec.run_name)
        table = read_columns(
            session, declared, spec.run_name, constraint, columns,
            quantities=None if quantity is None else [quantity],
        )  # fmt: skip
        values = {name: table.values[name] for name in spec.used_columns()}
        if spec.quantity is not None:
            step, *components = list(table.values.values())[len(columns) :]
            values[RUN], values[STEP] = table.values["id"], step
            values[VALUE] = _component(spec.quantity, components)
        assert table.committed is not None
        committed = table.committed.isoformat(timespec="milliseconds")
        return PlotData(values, table.transaction, committed)

    return query_database(workflow.store.database, query, at=at)


def _component(written: str, components: Sequence[list[Any]]) -> list[Any]:
    """Return the values of a scalar quantity, or of the component that is written."""
    found = _COMPONENT.search(written)
    if found is None and len(components) > 1:
        raise PlotError(
            f"quantity {written!r} holds {len(components)} numbers at a step",
            hint=f"Draw one of them: '{written}[0]'.",
        )
    number = 0 if found is None else int(found[1])
    if number >= len(components):
        raise PlotError(f"quantity {written!r} has only {len(components)} components")
    return components[number]


def _recorded_data(
    workflow: Workflow, record: PlotRecord, file: Path
) -> tuple[PlotData, list[str]]:
    """Return the data of a record, with notes; PlotError if they cannot be read."""
    try:
        data = read_data(workflow, record.spec, at=record.transaction)
    except PastStateError as error:
        return _unchanged_data(workflow, record, file, error)
    if data.digest() == record.data:
        return data, []
    raise PlotError(
        f"{file} does not show the data that this workflow has at transaction {record.read_at()}",
        hint="It may be of another workflow, or bd.yaml declares other types than then.",
    )


def _unchanged_data(
    workflow: Workflow, record: PlotRecord, file: Path, cause: PastStateError
) -> tuple[PlotData, list[str]]:
    """Return the newest data if they are those of a record, whose state was packed."""
    with suppress(MotokoError):
        newest = read_data(workflow, record.spec)
        if newest.digest() == record.data:
            same = replace(newest, transaction=record.transaction, committed=record.committed)
            return same, [f"{cause.message}; the newest state has the same data"]
    raise PlotError(
        f"{file} cannot be drawn again: {cause.message}, and the data have changed since",
        hint="A backup from before (motoko restore) may have them. To draw the newest data: "
        f"{shell_text(record.command)}",
    ) from cause


def _versions() -> tuple[tuple[str, str], ...]:
    return (("Motoko", __version__), ("Matplotlib", library_version()))


def _content(record: PlotRecord, data: PlotData, kind: str) -> tuple[bytes, Sequence[str]]:
    """Return the content of a file, and notes about the drawing."""
    drawing = prepare(record.spec, data.values)
    if kind == "png":
        return render(drawing, kind, record.for_png()), drawing.notes
    svg = render(drawing, "svg", record.for_svg())
    return (svg if kind == "svg" else page(drawing, record, svg)), drawing.notes


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomic(Path(os.path.realpath(path)), content, mode=None)  # a link stays a link
    except OSError as error:
        raise PlotError(f"{path} cannot be written: {error.strerror}") from error
