"""What every generator does, whatever it talks to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.core.run_options import RunOptions
    from motoko.launcher.run_directory import AttemptPaths, ScriptFile
    from motoko.runtime.processes import ProcessIdentity


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """One attempt to be run: where, what and how. ``variables`` go into its environment."""

    place: AttemptPaths
    script: ScriptFile
    terms: RunOptions
    variables: Mapping[str, str]


class ProcessHandle(Protocol):
    """An attempt that was submitted."""

    @property
    def over(self) -> bool:
        """Whether it has ended."""
        ...

    @property
    def process(self) -> ProcessIdentity | None:
        """The process that leads it, None where there is none on this machine."""
        ...

    async def wait(self) -> int | None:
        """Wait until it has ended; return its exit status, None if nobody can tell.

        Negative: its wrapper was killed by that signal. May be asked again and by several.
        """
        ...

    async def stop(self, grace: float) -> None:
        """End it: ask, wait up to ``grace`` seconds, then make it end. Waits for the end."""
        ...

    async def clear(self, grace: float) -> list[int]:
        """End what it left running, in the same way; return the processes that do not end."""
        ...

    def forget(self) -> None:
        """Stop watching; it goes on."""
        ...


class Generator(Protocol):
    """Gives attempts to what runs them."""

    @property
    def name(self) -> str:
        """The name by which motoko.yaml asks for it."""
        ...

    def submit(self, order: LaunchSpec) -> ProcessHandle:
        """Have the attempt run; blocks for a moment. OSError where that cannot be done."""
        ...

    def attach(self, process: ProcessIdentity) -> ProcessHandle | None:
        """Watch an attempt that another launcher submitted; None if it has ended already."""
        ...
