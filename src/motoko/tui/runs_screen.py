"""The list of runs: filter, sort, select; a preview of one beside it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final

from textual import on
from textual.binding import Binding
from textual.containers import Horizontal
from textual.widgets import Input

from motoko.errors import MotokoError
from motoko.tui.completion import ConstraintSuggester, error_lines
from motoko.tui.draw_runs import SORTED, counts_tabs, preview, table_columns
from motoko.tui.pane import Lines, Pane, RowsPane
from motoko.tui.run_table import RunTable
from motoko.tui.screen import WatchScreen
from motoko.tui.text import line, safe, wrapped
from motoko.views.runs import NEWEST_FIRST, RunLists, RunQuery

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult

    from motoko.core.records import RunKey
    from motoko.operations.bulk_edit import RunSelection
    from motoko.tui.text import Line
    from motoko.views.campaign import Campaign
    from motoko.views.connection import ReadConnection
    from motoko.views.runs import RunList, RunRow

PREVIEW: Final = 130  # cells from which the preview has room
RECHECK: Final = 2.0  # seconds between two counts of new matches, at least
SHARE: Final = 20.0  # of the time that a count takes, between two
COMPARED: Final = 50_000  # runs of which the new ones are counted exactly
LABEL: Final = " filter "


class RunsScreen(WatchScreen):
    """The runs of a run name."""

    NAME: ClassVar = "runs"
    BINDINGS: ClassVar = [
        Binding("slash", "filter", "Filter"),
        Binding("s", "sort(1)", show=False),
        Binding("S", "reverse", show=False),
        Binding("left", "next_study(-1)", show=False),
        Binding("right", "next_study(1)", show=False),
        Binding("space", "mark", show=False),
        Binding("J,shift+down", "extend(1)", show=False),
        Binding("K,shift+up", "extend(-1)", show=False),
        Binding("a", "all", show=False),
        Binding("n", "refresh", show=False),
    ]
    HINTS: ClassVar = (
        ("/", "Filter", "filter"),
        ("r", "Retry", "verb('retry')"),
        ("l", "Logs", "logs"),
        ("c", "Cancel", "verb('cancel')"),
        ("w", "Why", "why"),
        ("s", "Sort", "sort(1)"),
        ("h", "Hold", "verb('hold')"),
        ("u", "Release", "verb('release')"),
        ("Space", "Select", "mark"),
        ("a", "All", "all"),
    )
    DEFAULT_CSS = """
    RunsScreen #filter { height: 1; }
    RunsScreen #label { width: 8; }
    RunsScreen #constraint { width: 1fr; }
    RunsScreen #list { height: 1fr; }
    RunsScreen #runs { width: 1fr; }
    RunsScreen #preview { width: 50; display: none; border-left: ascii ansi_default; }
    RunsScreen.-wide #preview { display: block; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.query_now: RunQuery | None = None
        self._lists: RunLists | None = None
        self._new = 0
        self._searching = False
        self._checked = 0.0
        self._pause = RECHECK
        self._commit = ""
        self._problem: list[Line] = []
        self._states: tuple[str, ...] = ()

    def body(self) -> ComposeResult:
        """Yield the filter, the counts, and the list."""
        yield Lines(id="counts")
        with Horizontal(id="filter"):
            yield Lines(id="label")
            suggester = ConstraintSuggester(self._names)
            hint = "all runs; / filters, as in: state = FAILED and x > 0.5"
            field = Input(compact=True, id="constraint", suggester=suggester, placeholder=hint)
            field.cursor_blink = False
            yield field
        yield Lines(id="error")
        with Horizontal(id="list"):
            yield RunTable(id="runs")
            yield RowsPane(id="preview")

    def on_mount(self) -> None:
        """Show all runs."""
        self.query_one("#label", Lines).show([line((LABEL, "dim"))])
        self.set_focus(self.table)
        if self.query_now is None:
            self.ask()

    @property
    def table(self) -> RunTable:
        """The list."""
        return self.query_one("#runs", RunTable)

    @property
    def field(self) -> Input:
        """The filter."""
        return self.query_one("#constraint", Input)

    def _names(self) -> tuple[Iterable[str], Iterable[str]]:
        """Return the columns and labels that a constraint may name."""
        managers = self.watch_app.views.workflow.task_managers.values()
        names = [n for one in managers for n in (*one.columns.job, *one.columns.run)]
        campaign = self.latest.campaign
        return names, () if campaign is None else [*campaign.total.counts]

    # -- the query ---------------------------------------------------------------------------

    def ask(self, *, study: str | None = None, where: str = "") -> None:
        """Show the runs of a study, or those that match."""
        self.start(RunQuery(self.watch_app.run_name, study, where, NEWEST_FIRST))

    def start(self, query: RunQuery) -> None:
        """Find the runs of a query, in a thread."""
        self.query_now, self._searching = query, True
        self.request("find", partial(self._find, query))
        if self.is_mounted:
            self._draw_counts()

    async def _find(self, query: RunQuery) -> None:
        try:
            found = await self.watch_app.views.query(lambda c: RunLists(c).find(query))
        except MotokoError as error:
            self._searching = False
            self._show_error(error, query.where)
            return
        self._searching = False
        if query.where != self.field.value and not self.field.has_focus:
            self.field.value = query.where
        self._problem = [line((f" {safe(text)}", "warning")) for text in found.warnings[:2]]
        self._new, self._commit = 0, found.commit
        self.table.replace(found)
        self.update()

    def _show_error(self, error: MotokoError, where: str) -> None:
        caret, texts = error_lines(error.message, error.hint, where)
        self._problem = [line(" " * len(LABEL), (caret, "failed"))] if caret.strip() else []
        room = self.size.width - len(LABEL) - 1
        for part in (part for text in texts for part in wrapped(safe(text), room)):
            self._problem.append(line(" " * len(LABEL), (part, "failed")))
        self.query_one("#error", Lines).show(self._problem)

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        """Check the constraint while it is typed; report only what more text cannot mend."""
        if event.input.has_focus:
            self._problem = []
            self.query_one("#error", Lines).show([])

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        assert self.query_now is not None
        query = replace(self.query_now, where=event.value.strip())
        self.request("find", partial(self._submit, query))

    async def _submit(self, query: RunQuery) -> None:
        self._problem, self._searching = [], True
        self._draw_counts()
        before, self.query_now = self.query_now, query
        await self._find(query)
        if self.table.found is not None and self.table.found.query == query:
            self.set_focus(self.table)
        else:
            self.query_now = before

    # -- rows --------------------------------------------------------------------------------

    def update_body(self, campaign: Campaign) -> None:
        """Draw the counts, and read the visible rows again."""
        self.set_class(self.size.width >= PREVIEW, "-wide")
        self._draw_counts()
        self.query_one("#error", Lines).show(self._problem)
        self.read_rows()
        if campaign.commit != self._commit:
            self._count_new()

    def _draw_counts(self) -> None:
        campaign = self.latest.campaign
        if campaign is not None:
            study = None if self.query_now is None else self.query_now.study
            tabs = counts_tabs(campaign, study, self.watch_app.look)
            self.query_one("#counts", Lines).show([(*tabs, *self._notes())])

    def _notes(self) -> Line:
        table = self.table
        marked = table.count if table.all_marked else len(table.marked)
        notes = [f"{marked:,} selected"] if marked else []
        notes += [f"{table.count:,} shown"] if table.found is not None else []
        notes += ["searching ..."] if self._searching else []
        spans = line((", ".join(notes), "dim"))
        if self._new:
            spans += line("  ", (f"{self._new:,} new: n shows them", "warning"))
        return spans

    def read_rows(self) -> None:
        """Read the visible rows, in a thread."""
        if self.table.count:
            self.request("rows", self._read_rows)

    async def _read_rows(self) -> None:
        keys = [*self.table.window()]
        rows = await self.watch_app.views.read(lambda c: self._rows_of(c, keys))
        self.table.put(rows, self.watch_app.look)
        self._draw_preview()

    def _rows_of(self, connection: ReadConnection, keys: list[RunKey]) -> list[RunRow]:
        if self._lists is None:
            self._lists = RunLists(connection)
        try:
            return self._lists.rows(keys)
        except (MotokoError, OSError):
            return []  # the title reports the problem

    def _draw_preview(self) -> None:
        row, pane = self.table.current_row, self.query_one("#preview", RowsPane)
        if row is not None and self.has_class("-wide"):
            head, rows = preview(row, 48, self.watch_app.look)
            pane.show([head], rows)

    @on(Pane.Moved, "#runs")
    def _moved(self) -> None:
        self.read_rows()
        self._draw_preview()
        self.update_foot()
        self._draw_counts()

    @on(Pane.Chosen, "#runs")
    def _chosen(self) -> None:
        key = self.current_run()
        if key is not None:
            self.watch_app.open_run(key)

    def _count_new(self) -> None:
        """Count new matches now and then: they are announced, never inserted."""
        clock = self.watch_app.views.workflow.store.clock
        found = self.table.found
        if found is None or clock.monotonic() - self._checked < self._pause:
            return
        self._checked = clock.monotonic()

        def work(connection: ReadConnection) -> tuple[int, str, float]:
            start = clock.monotonic()
            fresh = RunLists(connection).find(found.query)
            return new_matches(found, fresh), fresh.commit, clock.monotonic() - start

        async def count() -> None:
            try:
                new, commit, cost = await self.watch_app.views.query(work)
            except MotokoError:
                return
            self._pause = max(RECHECK, SHARE * cost)
            if self.table.found is found:
                self._new, self._commit = new, commit
                self.update()

        self.request("new", count)

    # -- command and selection -----------------------------------------------------------------

    @property
    def command(self) -> str:
        """The command line that prints the same runs."""
        query = self.query_now
        study = [] if query is None or query.study is None else [query.study]
        where = "" if query is None else query.where
        return safe(self.watch_app.command_of("info", *study, where=where))

    def selected(self) -> RunSelection | None:
        """Return the selected runs."""
        return self.table.selection()

    def current_run(self) -> RunKey | None:
        """Return the run under the cursor."""
        return self.table.current_key

    # -- actions -----------------------------------------------------------------------------

    def action_filter(self) -> None:
        """Edit the filter."""
        self.set_focus(self.field)

    def action_back(self) -> None:
        """Leave the filter, or forget the selection."""
        if self.field.has_focus:
            self.field.value = "" if self.query_now is None else self.query_now.where
            self._problem = []
            self.set_focus(self.table)
        self.table.marked, self.table.all_marked = set(), False
        self.table.refresh()
        self.update()

    def action_sort(self, step: int) -> None:
        """Sort by the next column."""
        if self.query_now is None:
            return
        names = [
            name
            for name in (SORTED.get(c.title, c.title) for c in table_columns(self._value_columns()))
            if name
        ]
        now = self.query_now.sort.removeprefix("-") or "id"
        at = names.index(now) if now in names else -1
        self.action_sort_by(names[(at + step) % len(names)])

    def _value_columns(self) -> list[str]:
        """Return the parameters and fields of the shown studies: all of them have a column."""
        study = None if self.query_now is None else self.query_now.study
        managers = self.watch_app.views.workflow.task_managers
        shown = [managers[study]] if study in managers else [*managers.values()]
        own = [{*one.columns.job, *one.columns.run} for one in shown]
        common = set.intersection(*own) if own else set()
        first = shown[0].columns if shown else None
        return [n for n in (*first.job, *first.run) if n in common] if first else []

    def action_sort_by(self, name: str) -> None:
        """Sort by a column; again: in the other order."""
        if self.query_now is not None:
            descending = self.query_now.sort == name
            self.start(replace(self.query_now, sort=f"-{name}" if descending else name))

    def action_reverse(self) -> None:
        """Sort in the other order."""
        if self.query_now is not None:
            self.action_sort_by(self.query_now.sort.removeprefix("-") or "id")

    def action_study(self, name: str) -> None:
        """Show one study, or all."""
        if self.query_now is not None:
            self.start(replace(self.query_now, study=name or None, sort=NEWEST_FIRST))

    def action_next_study(self, step: int) -> None:
        """Show the next study."""
        campaign = self.latest.campaign
        if campaign is not None and self.query_now is not None:
            names = [None, *(study.name for study in campaign.studies)]
            study = self.query_now.study
            at = names.index(study) if study in names else 0
            self.action_study(names[(at + step) % len(names)] or "")

    def action_show_state(self, state: str) -> None:
        """Show the runs of a state."""
        if self.query_now is not None:
            self.start(replace(self.query_now, where=f"lifecycle = {state}"))

    def action_mark(self) -> None:
        """Select the run under the cursor."""
        self.table.toggle()

    def action_extend(self, step: int) -> None:
        """Select the next run, too."""
        self.table.extend(step)

    def action_all(self) -> None:
        """Select all runs that match, or none."""
        self.table.all_marked = not self.table.all_marked
        self.table.marked = set()
        self.table.refresh()
        self.update()

    def action_refresh(self) -> None:
        """Find the runs again."""
        if self.query_now is not None:
            self.start(self.query_now)


def new_matches(shown: RunList, fresh: RunList) -> int:
    """Return the number of runs that match now and are not shown; of long lists an estimate."""
    if max(len(shown), len(fresh)) > COMPARED:
        return max(0, len(fresh) - len(shown))
    return len({*fresh.keys} - {*shown.keys})
