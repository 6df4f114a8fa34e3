"""Who attends to attempts: one crew for this machine's processes, one for a batch scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import TaskGroup

    from motoko.config import QueueLimits
    from motoko.core.states import Lifecycle
    from motoko.launcher.attempts import Attempt, SlotPool
    from motoko.launcher.claiming import Load


class Executor(Protocol):
    """The living side of a pool's attempts; what happens to them goes into the notebook."""

    @property
    def pool(self) -> SlotPool:
        """Its attempts."""
        ...

    def run(self, tasks: TaskGroup) -> None:
        """Begin to work, until the tasks are cancelled."""
        ...

    def admit(self, active: Attempt) -> None:
        """Have an attempt begun as soon as there is room for it."""
        ...

    def end_early(self, active: Attempt, outcome: Lifecycle) -> None:
        """Have an attempt ended; the first reason counts. CREATED: to be tried again later."""
        ...

    def let_go(self, active: Attempt) -> None:
        """End an attempt of a run that is not this launcher's any more, and record nothing."""
        ...

    async def take_over(self, active: Attempt, *, restarted: bool = False) -> None:
        """Go on with an attempt of a launcher that is gone; ``restarted``: so was the machine."""
        ...

    def limit(self, slots: int, limits: QueueLimits) -> None:
        """Keep to other limits from here on."""
        ...


class ExecutorSet:
    """All crews of a launcher, by generator."""

    def __init__(self, crews: Mapping[str, Executor]) -> None:
        self._crews = dict(crews)

    def run(self, tasks: TaskGroup) -> None:
        """Have all of them begin to work."""
        for crew in self._crews.values():
            crew.run(tasks)

    def named(self, generator: str) -> Executor:
        """Return the crew that works with a generator."""
        return self._crews[generator]

    def of(self, active: Attempt) -> Executor:
        """Return who attends to an attempt."""
        for crew in self._crews.values():
            if crew.pool.has(active):
                return crew
        return self._crews[active.terms.generator]

    def attempts(self) -> list[Attempt]:
        """Return all attempts whose end is not recorded yet."""
        return [active for crew in self._crews.values() for active in crew.pool.all()]

    def remove(self, active: Attempt) -> None:
        """Forget an attempt."""
        self.of(active).pool.remove(active)

    def waiting(self) -> list[Attempt]:
        """Return the attempts that wait for a slot."""
        pools = [crew.pool for crew in self._crews.values()]
        return [active for pool in pools for active in pool.all() if pool.waits(active)]

    def limit(self, slots: Mapping[str, int], limits: QueueLimits) -> None:
        """Have all of them keep to other limits; ``slots`` by generator."""
        for name, crew in self._crews.items():
            crew.limit(slots[name], limits)

    def loads(self) -> dict[str, Load]:
        """Return what is claimed already, by generator."""
        return {name: crew.pool.load() for name, crew in self._crews.items()}
