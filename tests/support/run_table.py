"""A model of the run table, and a state machine that compares the real one with it.

The machine has two clients with a session each and interleaves their transactions. Changes of a
client are also applied to its copy of the model, which alone determines the outcome of a commit.
"""

from __future__ import annotations

import contextlib
import copy
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from motoko.core.changes import DeleteRun, EditRun, PushQuantities
from motoko.core.constraints import Columns, parse
from motoko.core.edits import (
    ApplyOutbox,
    Cancel,
    Claim,
    EndAttempt,
    MarkStarted,
    Requeue,
    Retry,
    RunEdit,
    SetFields,
    SetLabel,
)
from motoko.core.records import RunKey
from motoko.core.states import Lifecycle
from motoko.errors import ConflictError, StateError, UnknownRunError
from motoko.storage.consistency import check_study
from motoko.storage.query import select_runs
from motoko.storage.session import Session
from motoko.testing import add_run
from tests.support.identities import small_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from motoko.core.changes import Change
    from motoko.storage.database import Database

STUDY = "mult"
BAD = ("FAILED", "TIMEOUT", "CANCELLED", "LOST")
ENDED = ("FINISHED", *BAD)
ACTIVE = ("SUBMITTED", "START")

Row = dict[str, Any]
Table = dict[int, Row]


def shown(row: Row) -> str:
    return str(row["label"] or row["lifecycle"])


class Step:
    """One change of a run: the change, its effect on a row, and its dependencies."""

    def __init__(
        self,
        run_id: int,
        change: Change,
        effect: Callable[[Row], None],
        depends: tuple[str, ...] = (),
        *,
        allowed: Callable[[Row], bool] = lambda _row: True,
    ) -> None:
        self.run_id, self.change, self.effect = run_id, change, effect
        self.depends, self.allowed = depends, allowed
        self.seen: Row = {}


class Client:
    """A session, the model at its snapshot, and its changes since."""

    def __init__(self, database: Database) -> None:
        self.session = Session(database)
        self.view: Table = {}
        self.known: Counter[int] = Counter()
        self.steps: list[Step | int] = []  # in their order; of a creation the id
        self.created: dict[int, tuple[Any, ...]] = {}
        self.relied_on: dict[int, int] = {}  # run -> number of commits that changed it

    def start(self, committed: Table) -> None:
        self.view = copy.deepcopy(committed)
        self.steps = []
        self.created = {}
        self.relied_on = {}

    def do(self, step: Step) -> None:
        row = self.view.get(step.run_id)
        step.seen = copy.deepcopy(row) if row is not None else {}
        self.session.add(step.change)
        self.steps.append(step)
        apply(self.view, step)


def apply(table: Table, step: Step) -> None:
    if isinstance(step.change, DeleteRun):
        table.pop(step.run_id, None)
    else:
        step.effect(table[step.run_id])


def created(identity: tuple[Any, ...]) -> Row:
    return {
        "identity": identity, "lifecycle": "CREATED", "label": None, "attempt": 0, "token": None,
        "fields": {}, "harvested": 0, "series": [], "cancel": False, "uncounted": 0, "base": 0,
    }  # fmt: skip


class RunTableMachine(RuleBasedStateMachine):
    """Two clients of one database; give a subclass ``open_databases``."""

    can_reopen: ClassVar[bool] = False
    clients = st.integers(0, 1)
    names = st.sampled_from(["a", "b"])
    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.committed: Table = {}
        self.given: set[int] = set()
        self.changed: Counter[int] = Counter()  # run -> number of commits that changed it
        self.count = 0
        self.parts = contextlib.ExitStack()
        self.parts.enter_context(small_parts())  # so that commits move identities
        self._open()

    def _open(self) -> None:
        self.databases = self.open_databases()
        self.pair = [Client(database) for database in self.databases]
        self.observer = Session(self.databases[0])
        for client in self.pair:
            self._start(client)

    def open_databases(self) -> tuple[Database, Database]:
        """Return the databases of the two clients, possibly the same one."""
        raise NotImplementedError

    def refresh(self, session: Session) -> None:
        """Give a session a snapshot of all commits."""
        session.refresh()

    def _start(self, client: Client) -> None:
        self.refresh(client.session)
        client.start(self.committed)
        client.known = self.changed.copy()

    def next(self) -> int:
        self.count += 1
        return self.count

    # -- rules -----------------------------------------------------------------------------

    @rule(target=runs, who=clients, x=st.integers(0, 3), name=names, replicate=st.integers(0, 1))
    def create(self, who: int, x: int, name: str, replicate: int) -> int:
        client = self.pair[who]
        identity = (name, x, replicate)
        existing = [i for i, row in client.view.items() if row["identity"] == identity]
        key = add_run(client.session, STUDY, {"x": x}, run_name=name, replicate=replicate)
        if existing:
            assert [key.id] == existing
            return key.id
        assert key.id not in self.given, "an id was given twice"
        self.given.add(key.id)
        client.created[key.id] = identity
        client.steps.append(key.id)
        client.view[key.id] = created(identity)
        return key.id

    @rule(who=clients, run=runs, name=st.sampled_from("yz"), blind=st.booleans())
    def set_field(self, who: int, run: int, name: str, blind: bool) -> None:
        value = self.next()
        self._edit(
            who, run, SetFields({name: value}), lambda row: row["fields"].update({name: value}),
            () if blind else (f"fields.{name}",), blind=blind,
        )  # fmt: skip

    @rule(who=clients, run=runs)
    def claim(self, who: int, run: int) -> None:
        token = f"t{self.next()}"

        def effect(row: Row) -> None:
            row.update(
                lifecycle="SUBMITTED", attempt=row["attempt"] + 1, token=token, label=None,
                harvested=0, series=[],
            )  # fmt: skip

        self._edit(
            who, run, Claim("launcher", token, 0.0), effect, ("lifecycle", "attempt"),
            allowed=lambda row: row["lifecycle"] == "CREATED",
        )  # fmt: skip

    @rule(who=clients, run=runs)
    def start(self, who: int, run: int) -> None:
        token = self._token(who, run)

        def effect(row: Row) -> None:
            if row["token"] == token and row["lifecycle"] == "SUBMITTED":
                row["lifecycle"] = "START"

        self._edit(who, run, MarkStarted(token, 0.0, "launcher"), effect)

    @rule(who=clients, run=runs, label=st.sampled_from([None, "NOTED"]), pushed=st.booleans())
    def harvest(self, who: int, run: int, label: str | None, pushed: bool) -> None:
        token, consumed = self._token(who, run), self.next()

        def current(row: Row) -> bool:
            return (
                row["token"] == token
                and row["harvested"] < consumed
                and row["lifecycle"] not in ENDED
            )

        def push(row: Row) -> None:
            if current(row):
                row["series"].append((consumed, 0.5))

        def effect(row: Row) -> None:
            if current(row):
                row["fields"]["y"] = consumed
                row["label"] = label or row["label"]
                row["harvested"] = consumed

        if pushed and run in self.pair[who].view and current(self.pair[who].view[run]):
            key = RunKey(STUDY, run)
            points = ((consumed, 0.5),)
            self.pair[who].do(Step(run, PushQuantities(key, token, consumed, "e", points), push))
        self._edit(who, run, ApplyOutbox(token, consumed, 0.0, {"y": consumed}, label), effect)

    @rule(who=clients, run=runs, outcome=st.sampled_from(ENDED), retries=st.integers(0, 1))
    def end(self, who: int, run: int, outcome: str, retries: int) -> None:
        token = self._token(who, run)

        def effect(row: Row) -> None:
            if row["token"] != token or row["lifecycle"] not in ACTIVE:
                return
            row["lifecycle"] = outcome
            if outcome != "FINISHED":
                row["label"] = None
            tries = row["attempt"] - row["uncounted"] - row["base"]
            retried = outcome in ("FAILED", "TIMEOUT", "LOST") and tries <= retries
            if retried and not row["cancel"]:
                row.update(lifecycle="CREATED", token=None)

        ended = EndAttempt(token, Lifecycle(outcome), 0.0, "launcher", retries=retries)
        self._edit(who, run, ended, effect)

    @rule(who=clients, run=runs, commit=st.booleans())
    def run_to_end(self, who: int, run: int, commit: bool) -> None:
        self.claim(who, run)
        self.start(who, run)
        self.end(who, run, "FINISHED", 0)
        if commit:
            self.commit(who)

    @rule(who=clients)
    def run_all_to_end(self, who: int) -> None:
        """End whole blocks, while the other client may have edits of their runs."""
        for run in tuple(self.pair[who].view):
            self.run_to_end(who, run, commit=False)
        self.commit(who)

    @rule(who=clients, run=runs)
    def requeue(self, who: int, run: int) -> None:
        token = self._token(who, run)

        def effect(row: Row) -> None:
            if row["token"] != token or row["lifecycle"] not in ACTIVE:
                return
            row["label"] = None
            if row["cancel"]:
                row["lifecycle"] = "CANCELLED"
            else:
                row.update(lifecycle="CREATED", token=None, uncounted=row["uncounted"] + 1)

        self._edit(who, run, Requeue(token, 0.0, "launcher"), effect)

    @rule(who=clients, run=runs, blind=st.booleans())
    def label(self, who: int, run: int, blind: bool) -> None:
        label = f"L{self.next()}"
        self._edit(
            who, run, SetLabel(label, 0.0, "test"), lambda row: row.update(label=label),
            () if blind else ("lifecycle", "label", "attempt"), blind=blind,
            allowed=lambda row: row["lifecycle"] in ENDED,
        )  # fmt: skip

    @rule(who=clients, run=runs)
    def retry(self, who: int, run: int) -> None:
        def effect(row: Row) -> None:
            row.update(
                lifecycle="CREATED", label=None, token=None, cancel=False,
                base=row["attempt"] - row["uncounted"],
            )  # fmt: skip

        self._edit(
            who, run, Retry(0.0, "test"), effect, ("lifecycle",),
            allowed=lambda row: row["lifecycle"] in BAD,
        )  # fmt: skip

    @rule(who=clients, run=runs)
    def cancel(self, who: int, run: int) -> None:
        def effect(row: Row) -> None:
            if row["lifecycle"] == "CREATED":
                row["lifecycle"] = "CANCELLED"
            elif row["lifecycle"] in ACTIVE:
                row["cancel"] = True

        self._edit(who, run, Cancel(0.0, "test"), effect, blind=True)

    @rule(who=clients, run=runs)
    def delete(self, who: int, run: int) -> None:
        client = self.pair[who]
        if run in client.view and run not in client.created:
            client.do(Step(run, DeleteRun(RunKey(STUDY, run)), lambda _row: None))

    @rule(who=clients, run=runs)
    def rely_on(self, who: int, run: int) -> None:
        client = self.pair[who]
        if run in client.view and run not in client.created:
            client.session.rely_on([RunKey(STUDY, run)])
            client.relied_on.setdefault(run, client.known[run])

    @rule(who=clients)
    def abort(self, who: int) -> None:
        self._start(self.pair[who])

    @rule(who=clients)
    def commit(self, who: int) -> None:
        client = self.pair[who]
        expected = self._outcome(client)
        work = self.databases[who].submit(client.session.commit)
        if expected is None:
            with pytest.raises((ConflictError, StateError, UnknownRunError)):
                work.result()
        else:
            work.result()
            before, self.committed = self.committed, expected
            changed = {i for i in before | expected if before.get(i) != expected.get(i)}
            self.changed.update(changed)
        assert not client.session.pending
        self._start(client)

    @rule()
    def pack(self) -> None:
        for client in self.pair:
            self._start(client)
        self.refresh(self.observer)
        self.databases[0].pack()

    @precondition(lambda self: self.can_reopen)
    @rule()
    def reopen(self) -> None:
        self._close()
        self._open()

    # -- invariants ------------------------------------------------------------------------

    @invariant()
    def views_are_as_modelled(self) -> None:
        for client in self.pair:
            compare(client.session, client.view, self.given)

    @invariant()
    def what_is_committed_is_as_modelled(self) -> None:
        self.refresh(self.observer)
        compare(self.observer, self.committed, self.given)
        assert check_study(self.observer.tables.study(STUDY)) == []

    # -- helpers ---------------------------------------------------------------------------

    def _token(self, who: int, run: int) -> str:
        row = self.pair[who].view.get(run)
        return (row and row["token"]) or "of nobody"

    def _edit(
        self,
        who: int,
        run: int,
        edit: RunEdit,
        effect: Callable[[Row], None],
        depends: tuple[str, ...] = (),
        *,
        blind: bool = False,
        allowed: Callable[[Row], bool] = lambda _row: True,
    ) -> None:
        client = self.pair[who]
        if run not in client.view:
            return
        key = RunKey(STUDY, run)
        change = EditRun(key, edit, blind=blind)
        after = copy.deepcopy(client.view[run])
        effect(after)
        if allowed(client.view[run]) and after == client.view[run]:
            # Nothing is written, so a concurrent deletion of the run does not conflict.
            record = client.session.run(key)
            assert edit.apply(record) == record
        elif allowed(client.view[run]):
            client.do(Step(run, change, effect, depends, allowed=allowed))
        else:
            with pytest.raises(StateError):
                client.session.add(change)

    def _outcome(self, client: Client) -> Table | None:
        """Return the table after a commit, None if the commit must be refused."""
        table = copy.deepcopy(self.committed)
        if client.steps and any(self.changed[i] != n for i, n in client.relied_on.items()):
            return None
        moved: dict[int, int] = {}
        for step in client.steps:
            if isinstance(step, int):
                identity = client.created[step]
                existing = [i for i, row in table.items() if row["identity"] == identity]
                if existing:
                    moved[step] = existing[0]
                else:
                    table[step] = created(identity)
                continue
            run = moved.get(step.run_id, step.run_id)
            row = table.get(run)
            if row is None:
                if isinstance(step.change, DeleteRun):
                    continue
                return None
            if run == step.run_id and _disturbed(step, row):
                return None
            if not step.allowed(row):
                return None
            step.run_id = run
            apply(table, step)
        return table

    def _close(self) -> None:
        self.observer.close()
        for client in self.pair:
            client.session.close()
        for database in self.databases:
            database.close()

    def teardown(self) -> None:
        self._close()
        self.parts.close()


def _disturbed(step: Step, row: Row) -> bool:
    for name in step.depends:
        whole, _, part = name.partition(".")
        before, after = step.seen[whole], row[whole]
        if part:
            before, after = before.get(part), after.get(part)
        if before != after:
            return True
    return False


def compare(session: Session, expected: Table, given: Iterable[int] = ()) -> None:
    """Compare everything in a session with the model; ``given`` are all ids ever given."""
    table = session.tables.study(STUDY)
    assert table.ids(None) == sorted(expected)
    assert [run for run in given if table.has_run(run)] == [i for i in given if i in expected]
    assert [record.id for record in table.records(given)] == [i for i in given if i in expected]
    states: dict[str, int] = {}
    for run, row in expected.items():
        states[shown(row)] = states.get(shown(row), 0) + 1
        found = session.run(RunKey(STUDY, run))
        identity = (found.run_name, found.job["x"], found.replicate)
        assert row == {
            "identity": identity, "lifecycle": found.lifecycle.value, "label": found.label,
            "attempt": found.attempt, "token": found.token, "fields": dict(found.fields),
            "harvested": found.outbox_offset, "series": table.quantity(run, "e") or [],
            "cancel": found.cancel_requested, "uncounted": found.uncounted,
            "base": found.retry_base,
        }  # fmt: skip
    assert table.counts() == states
    for x in range(4):
        matching = [run for run, row in sorted(expected.items()) if row["identity"][1] == x]
        constraint = parse(f"x = {x}", Columns(STUDY, {"x": "int"}, {}))
        assert select_runs(session, STUDY, None, constraint) == [
            RunKey(STUDY, run) for run in matching
        ]
    assert len(table) == table.count(None) == len(expected)
    assert table.run_names() == {row["identity"][0] for row in expected.values()}
    for name in ("a", "b"):
        of_name = [run for run, row in sorted(expected.items()) if row["identity"][0] == name]
        assert table.ids(name) == of_name
        for state in states:
            matching = [run for run in of_name if shown(expected[run]) == state]
            assert table.ids(name, states=[state]) == matching
            assert table.count(name, states=[state]) == len(matching)
        assert table.count(name) == len(of_name)
