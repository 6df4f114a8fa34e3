"""Start the processes of attempts, each the leader of its own group."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from motoko.launcher.attempt_processes import SHELL_INPUT
from motoko.launcher.executors.attempt_shells import AttemptShells, shell_command
from motoko.launcher.executors.local_process import LocalProcess
from motoko.runtime.ports import SYSTEM
from motoko.runtime.processes import boot_id, host, pid_namespace
from motoko.runtime.signals import changeable_signals
from motoko.runtime.spawning import SessionSpawner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from motoko.launcher.source_files import ScriptFile
    from motoko.runtime.ports import Runtime
    from motoko.runtime.processes import ProcessIdentity

SHELL: Final = "/bin/sh"
WRAPPER: Final = str(Path(__file__).parent.parent / "attempt.sh")
SHELLS: Final = ("bash", "sh", "dash")
# Linux refuses a longer variable, and a larger environment.
MAX_VARIABLE: Final = 100_000
MAX_VARIABLES: Final = 1_000_000
OWN_VARIABLES: Final = ("MOTOKO_READY_FD", "MOTOKO_FAULT", "MOTOKO_FAULT_LOG")


class ProcessSpawner:
    """Starts attempts under the wrapper, with the launcher's environment."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, runtime: Runtime = SYSTEM
    ) -> None:
        base = dict(os.environ if environment is None else environment)
        for name in OWN_VARIABLES:
            base.pop(name, None)
        here = os.path.dirname(sys.executable)
        path = base.get("PATH", "")
        # Scripts find the system's programs, above all bash, even without the launcher's PATH.
        base["PATH"] = ":".join(filter(None, (here, path, os.defpath)))
        self._base = base
        self._prefix = preserve_variables(base)
        self._runtime = runtime
        # Scripts rely on the default actions: a pipeline on SIGPIPE, which Python ignores.
        self._spawner = SessionSpawner(changeable_signals())
        self.shells = AttemptShells(
            self._spawner, [SHELL, SHELL_INPUT, WRAPPER], base, runtime=runtime
        )

    def spawn(self, attempt: str, script: list[str], variables: Mapping[str, str]) -> LocalProcess:
        """Start the attempt with this path in a process of its own; raise OSError."""
        facts = self._known_facts()
        if facts:
            facts += ["-t", f"{self._runtime.clock.now():.6f}"]
        arguments = [SHELL, WRAPPER, attempt, *facts, *self._prefix, *script]
        pid = self._spawner.spawn(SHELL, arguments, {**self._base, **passable(variables)})
        return LocalProcess(pid, runtime=self._runtime)

    def shell_command(
        self, attempt: str, script: list[str], variables: Mapping[str, str]
    ) -> bytes | None:
        """Return the command with which a shell of several attempts runs it, None if none can."""
        facts, words = self._known_facts(), [*self._prefix, *script]
        return shell_command(attempt, facts, words, passable(variables)) if facts else None

    def _known_facts(self) -> list[str]:
        """Return the wrapper's arguments with the facts that it need not find; none if unknown."""
        facts = [boot_id(), str(pid_namespace() or ""), host()]
        return ["-k", *facts] if all(facts) else []

    def attach(self, identity: ProcessIdentity, attempt: str) -> LocalProcess | None:
        """Watch another launcher's process of an attempt; return None if that has ended."""
        found = LocalProcess(identity.pid, identity, attempt, runtime=self._runtime)
        if found.is_running():  # tested after the pidfd was opened, which pins the process
            return found
        found.forget()
        return None


def preserve_variables(environment: Mapping[str, str]) -> list[str]:
    """Return a command prefix that keeps the variables which the wrapper's shell would drop.

    Some shells drop variables with unusual names, such as bash's exported functions.
    """
    odd = {name for name in environment if not (name.isascii() and name.isidentifier())}
    variables = [f"{name}={value}" for name, value in environment.items() if name in odd]
    return ["env", "--", *variables] if odd else []


def command(script: ScriptFile, bash_options: tuple[str, ...] = ()) -> list[str]:
    """Return the command that runs a script: by its ``#!`` line, else by bash.

    A script need not be executable. ``bash_options`` select bash unless the ``#!`` line names
    another program than a shell.
    """
    path = f"./{script.name}"
    # Starting the interpreter directly also works where files cannot be executed, or while a
    # process that was just forked still holds them open.
    interpreter = shebang(script.content)
    if interpreter and not (bash_options and is_shell(interpreter)):
        return [*interpreter, path]
    if script.executable and not interpreter and b"\0" in script.content[:256]:
        return [path]
    return ["bash", *bash_options, path]


def shebang(content: bytes) -> list[str]:
    """Return the interpreter in a ``#!`` line, and its argument if any."""
    if not content.startswith(b"#!"):
        return []
    line = content[2:].split(b"\n", 1)[0].strip(b" \t")
    return [os.fsdecode(word) for word in line.split(None, 1)]


def is_shell(interpreter: list[str]) -> bool:
    """Return whether a ``#!`` line names a shell that accepts bash's options."""
    program = interpreter[0].rsplit("/", 1)[-1]
    if program == "env" and len(interpreter) == 2:
        program = interpreter[1]
    return program in SHELLS


def passable(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that fit into an environment. Scripts find the others in a file."""
    found: dict[str, str] = {}
    room = MAX_VARIABLES
    for name, value in variables.items():
        try:
            size = len(os.fsencode(value))
        except UnicodeEncodeError:
            continue
        if "\0" not in value and size <= min(room, MAX_VARIABLE):
            found[name] = value
            room -= size
    return found
