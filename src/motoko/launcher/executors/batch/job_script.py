"""The shell scripts of a submission, for any scheduler: text in, text out."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from motoko.launcher.schedulers.base import Scheduler

RESTART_MARKER: Final = "again"
# Sites define `module` for login shells only, in one of these files.
_MODULE: Final = """\
if ! type module >/dev/null 2>&1; then
    for file in /etc/profile.d/modules.sh /etc/profile.d/lmod.sh /etc/profile.d/z00_lmod.sh; do
        if [ -r "$file" ]; then . "$file"; fi
    done
fi
"""
# Any error before the run's own script is at once the run's failure.
_GIVE_UP: Final = """\
give_up() {
    trap - EXIT
    set -C
    { printf 'process %s - - - %s -\\n' "$$" "${EPOCHREALTIME:--}" >"$motoko_outbox"; } 2>/dev/null || exit 111
    set +C
    printf '%s\\n' "$1"
    cat "$motoko_outbox.prologue" >>stderr
    printf '\\n{"t":0,"op":"fail","reason":%s}\\n' "$2" >>"$motoko_outbox"
    printf '\\nexit 1\\n' >>"$motoko_outbox"
    exit 1
}
exec >"$motoko_outbox.prologue" 2>&1
"""  # noqa: E501
# A terminated job did not fail: the scheduler may restart it.
_WATCH: Final = """\
ended() {
    text="its prologue ended with exit status $1"
    give_up "$text" "\\"$text\\""
}
trap 'ended "$?"' EXIT
trap 'trap - EXIT; exit 143' TERM
"""


def batch_script(
    directory: str, modules: Iterable[str], prologue: Iterable[str], scheduler: Scheduler
) -> str:
    """Return the script of a submission whose files are in ``directory``, an absolute path.

    Each task finds its attempt through a link, loads the modules, runs the prologue and becomes the
    wrapper, which runs the run's script. The output of modules and prologue goes to the attempt's
    file with the suffix ``prologue``.
    """
    here, task = shlex.quote(directory), f'"{scheduler.task_index}"'
    loads = [_load(line) for line in map(str.strip, modules) if line]
    lines = [f"{line}\n" for line in prologue]
    parts = [
        "#!/bin/bash\n",
        f'[ "{scheduler.restart_count}" = 0 ] || : >{here}/{RESTART_MARKER}.{task}\n',
        f"motoko_outbox=$(readlink {here}/tasks/{task}) || exit 111\n",
        'cd "${motoko_outbox%/*}" || exit 111\n',
    ]
    if loads or lines:
        parts.append(_GIVE_UP)
    if loads:
        parts += [_MODULE, *loads]
    if lines:
        parts += [_WATCH, *lines, "trap - EXIT TERM\n"]
    # Not sh, which may drop the functions that bash exports.
    wrapper = f'exec /bin/bash --posix {here}/wrapper.sh "$motoko_outbox" "$@"\n'
    parts += [f". {here}/tasks/{task}.sh\n", wrapper]
    return "".join(parts)


def _load(line: str) -> str:
    text = f"module load {line} failed"
    return f"module load {line} || give_up {shlex.quote(text)} {shlex.quote(json.dumps(text))}\n"


def task_script(variables: Mapping[str, str], argv: Iterable[str], path: str) -> str:
    """Return the file that one task sources: its environment, and its command as ``$@``.

    ``path`` comes first on its PATH. All values are quoted, so none is executed.
    """
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in variables.items()]
    words = " ".join(shlex.quote(word) for word in argv)
    return "".join([*lines, f'export PATH={shlex.quote(path)}:"$PATH"\n', f"set -- {words}\n"])
