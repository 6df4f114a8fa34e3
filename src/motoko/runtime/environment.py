"""Compare the environment of another process with that of this one."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.runtime.processes import is_visible

if TYPE_CHECKING:
    from motoko.runtime.processes import ProcessIdentity

PROC: Final = Path("/proc")
# Personal settings and Motoko's own variables: they do not change results.
UNIMPORTANT: Final = frozenset({
    "_", "COLORTERM", "COLUMNS", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "EDITOR", "GPG_TTY",
    "HISTFILE", "HISTSIZE", "INVOCATION_ID", "JOURNAL_STREAM", "LESS", "LESSOPEN", "LINES",
    "LS_COLORS", "MAIL", "OLDPWD", "PAGER", "PROMPT_COMMAND", "PS1", "PWD", "SHLVL", "STY",
    "SYSTEMD_EXEC_PID", "TERM", "TMUX", "TMUX_PANE", "VIRTUAL_ENV_PROMPT", "VISUAL", "WINDOWID",
    "XAUTHORITY",
})  # fmt: skip
UNIMPORTANT_PREFIXES: Final = (
    "MOTOKO_", "PYTEST_", "SSH_", "TERM_PROGRAM", "VSCODE_", "VTE_", "WAYLAND_", "XDG_",
)  # fmt: skip
FIRST: Final = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "LOADEDMODULES")
LIMITS: Final = {
    "ulimit -d": resource.RLIMIT_DATA,
    "ulimit -f": resource.RLIMIT_FSIZE,
    "ulimit -n": resource.RLIMIT_NOFILE,
    "ulimit -s": resource.RLIMIT_STACK,
    "ulimit -t": resource.RLIMIT_CPU,
    "ulimit -v": resource.RLIMIT_AS,
}


def environment_differences(process: ProcessIdentity) -> tuple[str, ...]:
    """Return the names of the differences between this environment and that of ``process``.

    A name is ``python`` (another interpreter), a variable, or a limit such as ``ulimit -n``.
    The start environment of ``process`` counts. Return () if it cannot be inspected.
    """
    if not is_visible(process):
        return ()
    try:
        theirs = _variables((PROC / str(process.pid) / "environ").read_bytes())
        arguments = (PROC / str(process.pid) / "cmdline").read_bytes().split(b"\0")
        limits = [name for name, number in LIMITS.items() if _limit(process, number)]
    except OSError:  # it exited, or belongs to another user
        return ()
    ours = {name: value for name, value in os.environb.items() if _matters(name)}
    names = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
    texts = sorted(map(os.fsdecode, names), key=lambda name: (name not in FIRST, name))
    python = [] if arguments[0] == os.fsencode(sys.executable) else ["python"]
    return (*python, *texts, *limits)


def _variables(content: bytes) -> dict[bytes, bytes]:
    pairs = (entry.partition(b"=") for entry in content.split(b"\0") if entry)
    return {name: value for name, _, value in pairs if _matters(name)}


def _matters(name: bytes) -> bool:
    text = os.fsdecode(name)
    return text not in UNIMPORTANT and not text.startswith(UNIMPORTANT_PREFIXES)


def _limit(process: ProcessIdentity, number: int) -> bool:
    here, there = resource.getrlimit(number), resource.prlimit(process.pid, number)
    return here[0] != there[0]
