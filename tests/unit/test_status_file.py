"""The published status: complete, rewritten after changes, and made between other work."""

from __future__ import annotations

import asyncio
import itertools
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from motoko.core.orchestrator_status import Answer, EventStatus, OrchestratorStatus
from motoko.orchestrator import status_file
from motoko.orchestrator.status_file import StatusPublisher, read_status
from motoko.server.state_dir import StateDir

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.unit

PATIENCE = 60.0  # seconds


class Clock:
    """A clock on which each look takes a moment, so that every event is a slice."""

    def __init__(self) -> None:
        self.time = 1000.0

    def monotonic(self) -> float:
        self.time += status_file.SLICE
        return self.time


class Published:
    """A publisher, and the status that it collects."""

    def __init__(self, directory: Path) -> None:
        self.state = StateDir.of(directory)
        self.state.path.mkdir(parents=True)
        self.clock = Clock()
        self.asked = itertools.count(1)
        self.events = [
            EventStatus(
                f"mult.f{n}", ("mult",), "f(run, job)", once=False, action="here",
                answers={"mult": Answer(0.0, 0.5, matching=n, runs=(f"mult/{n}",))},
            )
            for n in range(20)
        ]  # fmt: skip
        self.main_returned = False
        self.gave_way = 0
        self.interrupt: Callable[[], None] = lambda: None
        self.publisher = StatusPublisher(
            self.state, "a", cast("Any", self.clock), self.collect, give_way=self.give_way
        )

    def collect(self, *, times: bool) -> tuple[OrchestratorStatus, Iterator[EventStatus]]:
        del times
        written = float(next(self.asked))
        status = OrchestratorStatus("a", "host", 1, 0.0, written, self.main_returned)
        return status, iter(self.events)

    async def give_way(self) -> None:
        self.gave_way += 1
        self.interrupt()
        await asyncio.sleep(0)

    def change(self, number: int, **values: Any) -> None:
        self.events[number] = replace(self.events[number], **values)

    def ask_again(self) -> None:
        """Give all answers new times."""
        for number, event in enumerate(self.events):
            answers = {s: replace(a, asked=a.asked + 1.0) for s, a in event.answers.items()}
            self.change(number, answers=answers)

    def read(self) -> OrchestratorStatus:
        found = read_status(self.state, "a")
        assert found is not None
        return found

    def publish(self) -> OrchestratorStatus:
        asyncio.run(self.publisher.publish())
        return self.read()


@pytest.fixture
def one(tmp_path: Path) -> Published:
    """Return a publisher without a published status."""
    return Published(tmp_path)


def test_a_status_has_all_events_in_their_order(one: Published) -> None:
    found = one.publish()
    assert found.events == tuple(one.events)
    one.change(3, fired=2)
    one.main_returned = True
    found = one.publish()
    assert found.events == tuple(one.events)
    assert found.main_returned


@pytest.mark.parametrize("change", ["an event", "one more", "one less", "the rest"])
def test_any_change_is_published(one: Published, change: str) -> None:
    one.publish()
    if change == "an event":
        one.change(7, matching=3)
    elif change == "one more":
        one.events.append(replace(one.events[0], id="mult.new"))
    elif change == "one less":
        del one.events[0]
    else:
        one.main_returned = True
    found = one.publish()
    assert found.written == 2.0
    assert found.events == tuple(one.events)
    assert found.main_returned is one.main_returned


def test_new_times_alone_are_published_less_often(one: Published) -> None:
    one.publish()
    one.ask_again()
    assert one.publish().written == 1.0
    one.clock.time += status_file.REPEATED_INTERVAL
    found = one.publish()
    assert found.written == 3.0
    assert found.events == tuple(one.events)


def test_other_tasks_have_turns_between_events(one: Published) -> None:
    """What changes meanwhile is published as well, in the same version or in the next one."""

    def interrupt() -> None:
        one.change(0, fired=one.gave_way)
        one.publisher.changed()

    async def publish() -> None:
        one.publisher.changed()
        task = asyncio.create_task(one.publisher.run())
        async with asyncio.timeout(PATIENCE):
            while not (found := read_status(one.state, "a")) or found.events != tuple(one.events):
                if one.gave_way > len(one.events):
                    one.interrupt = lambda: None
                one.clock.time += status_file.INTERVAL
                await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

    one.interrupt = interrupt
    asyncio.run(publish())
    assert one.gave_way > len(one.events)
    assert one.read().events[0].fired


def test_the_last_publication_does_not_give_way(one: Published) -> None:
    one.publish()
    assert not one.gave_way


def test_a_directory_without_access_costs_the_status_only(one: Published) -> None:
    one.publish()
    one.change(0, fired=1)
    os.rename(one.state.events, one.state.path / "away")
    one.state.events.write_text("in the way")
    asyncio.run(one.publisher.publish())
    assert read_status(one.state, "a") is None
