"""Send a notification to a command or a webhook."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.printable import one_line
from motoko.runtime import webhook
from motoko.runtime.daemons import module_command
from motoko.runtime.limited_command import LimitedResult, run_limited
from motoko.runtime.processes import host

if TYPE_CHECKING:
    from collections.abc import Callable

    from motoko.config.notify_targets import NotifyTarget

PREFIX: Final = "MOTOKO_NOTIFY_"
PROBLEM: Final = 200  # characters
SHARE: Final = 0.8  # of the time limit, for a connection: its failure is certain, unlike a kill


@dataclass(frozen=True, slots=True)
class Message:
    """The content of a notification. ``message``: one line; ``workflow``: its directory."""

    event: str
    run_name: str
    message: str
    workflow: Path

    @property
    def values(self) -> dict[str, str]:
        """The content by name."""
        return {
            "event": self.event,
            "run_name": self.run_name,
            "message": self.message,
            "workflow": str(self.workflow),
            "host": host(),
        }

    @property
    def text(self) -> str:
        """The content for people: the message, and where it comes from."""
        return f"{self.message}\nworkflow {self.workflow} on {host()}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a notification was sent, else the ``problem``.

    ``again``: it was certainly not sent, so it can be sent again without a second message.
    """

    sent: bool
    problem: str = ""
    again: bool = False


def send(
    target: NotifyTarget, message: Message, *, stopped: Callable[[], bool] = lambda: False
) -> Outcome:
    """Send a notification, within the time limit of the target, until ``stopped()``; blocks."""
    try:
        if target.command is not None:
            result = _run_command(target.command, target, message, stopped)
        else:
            given = {
                "url": target.webhook,
                "content": {"text": message.text, **message.values},
                "seconds": SHARE * target.timeout,
            }
            result = run_limited(
                module_command(webhook.__name__),
                stdin=json.dumps(given).encode(),
                environment=os.environ,
                directory=Path("/"),
                seconds=target.timeout,
                stopped=stopped,
            )
    except (OSError, ValueError) as error:
        text = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return Outcome(False, f"cannot be run: {text}", again=True)
    if result.status is None and stopped():
        return Outcome(False, "was killed when the notifier stopped")
    return _outcome(target, result)


def _run_command(
    words: tuple[str, ...], target: NotifyTarget, message: Message, stopped: Callable[[], bool]
) -> LimitedResult:
    variables = {f"{PREFIX}{name.upper()}": text for name, text in message.values.items()}
    return run_limited(
        words,
        stdin=f"{message.text}\n".encode(),
        environment={**os.environ, **variables},
        directory=message.workflow,
        seconds=target.timeout,
        stopped=stopped,
    )


def _outcome(target: NotifyTarget, result: LimitedResult) -> Outcome:
    if result.status == 0:
        return Outcome(True)
    if result.status is None:
        return Outcome(False, f"did not end within {target.timeout:g} s and was killed")
    printed = one_line(result.output[-PROBLEM:], limit=PROBLEM)
    if target.webhook is not None:
        return Outcome(False, printed or "failed", again=result.status == webhook.REFUSED)
    problem = f"exit status {result.status}" + (f": {printed}" if printed else "")
    return Outcome(False, problem, again=True)
