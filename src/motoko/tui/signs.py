"""The signs of states and charts, in Unicode and in ASCII: colour is never the only sign."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from motoko.core.states import Lifecycle

if TYPE_CHECKING:
    from collections.abc import Mapping

# The signs and styles of the lifecycle states, in the order of their display.
STYLES: Final[Mapping[Lifecycle, str]] = MappingProxyType(
    {
        Lifecycle.FINISHED: "finished",
        Lifecycle.FAILED: "failed",
        Lifecycle.TIMEOUT: "failed",
        Lifecycle.LOST: "lost",
        Lifecycle.CANCELLED: "cancelled",
        Lifecycle.START: "running",
        Lifecycle.SUBMITTED: "queued",
        Lifecycle.CREATED: "created",
    }
)
WORDS: Final[Mapping[Lifecycle, str]] = MappingProxyType(
    {Lifecycle.START: "running", Lifecycle.SUBMITTED: "queued"}
)


def word(lifecycle: Lifecycle) -> str:
    """Return a lifecycle state as the screens name it."""
    return WORDS.get(lifecycle, lifecycle.value.lower())


@dataclass(frozen=True)
class Signs:
    """One set of signs. ``bars`` and ``levels`` grow from empty to full."""

    states: Mapping[Lifecycle, str] = field(
        default_factory=lambda: MappingProxyType(
            {
                Lifecycle.FINISHED: "✓",
                Lifecycle.FAILED: "✗",
                Lifecycle.TIMEOUT: "✗",
                Lifecycle.LOST: "?",
                Lifecycle.CANCELLED: "−",  # noqa: RUF001 - a minus sign
                Lifecycle.START: "●",
                Lifecycle.SUBMITTED: "◷",
                Lifecycle.CREATED: "○",
            }
        )
    )
    fill: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(
            {"finished": "█", "failed": "▒", "running": "▓", "queued": "▪", "created": "░"}
        )
    )
    levels: str = " ▁▂▃▄▅▆▇█"
    more: str = "…"
    dot: str = " · "
    arrow: str = "→"
    mark: str = "▸"
    rule: str = "─"
    side: str = "│"
    up: str = "▲"
    down: str = "▼"
    braille: bool = True

    def state(self, lifecycle: Lifecycle) -> str:
        """Return the sign of a lifecycle state."""
        return self.states[lifecycle]


UNICODE: Final = Signs()
ASCII: Final = Signs(
    states=MappingProxyType(
        {
            Lifecycle.FINISHED: "+",
            Lifecycle.FAILED: "x",
            Lifecycle.TIMEOUT: "x",
            Lifecycle.LOST: "?",
            Lifecycle.CANCELLED: "-",
            Lifecycle.START: "*",
            Lifecycle.SUBMITTED: "~",
            Lifecycle.CREATED: "o",
        }
    ),
    fill=MappingProxyType(
        {"finished": "#", "failed": "x", "running": "=", "queued": "-", "created": "."}
    ),
    levels=" ._-=+*%#",
    more="~",
    dot=" | ",
    arrow="->",
    mark=">",
    rule="-",
    side="|",
    up="^",
    down="v",
    braille=False,
)


def signs_for(environment: Mapping[str, str]) -> Signs:
    """Return the signs that the locale of an environment can show.

    Python itself sets LC_CTYPE to C.UTF-8 if no locale is set: then the terminal may lack UTF-8.
    """
    names = (environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    locale = next((name for name in names if name), "")
    coerced = locale == "C.UTF-8" and not environment.get("LC_ALL") and not environment.get("LANG")
    is_utf8 = locale.lower().replace("-", "").partition(".")[2].startswith("utf8")
    return UNICODE if is_utf8 and not coerced else ASCII
