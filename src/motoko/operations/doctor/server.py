"""Does the database server work, and can only its user reach it?"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from motoko.operations.doctor.findings import Finding, fault, ok, warning
from motoko.operations.doctor.processes import ProcessFacts, code_findings, read_process
from motoko.runtime.daemons import PidFile
from motoko.runtime.processes import Liveness
from motoko.server.lifecycle import is_hung, is_responding
from motoko.server.state_dir import MAX_SOCKET_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from motoko.operations.doctor.patient import Patient

SERVER: Final = "server"
SOCKET: Final = "socket"
MEGABYTE: Final = 2**20
LARGE: Final = 2**30  # bytes of memory


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The recorded server process, None without a record, and its reaction.

    ``listens``: a process accepts connections at the socket; ``hangs``: it then sends nothing.
    ``stopped``: the server was stopped on purpose.
    """

    process: ProcessFacts | None
    listens: bool
    hangs: bool = False
    stopped: bool = False


@dataclass(frozen=True, slots=True)
class SocketFacts:
    """The socket file. ``kind``: socket, link, other, or "" if it does not exist.

    ``elsewhere``: it is outside of ``.wf``, whose path is too long. ``served``: a server listens.
    """

    path: str
    kind: str
    mode: int = 0o600
    owner: int = 0
    user: int = 0
    elsewhere: bool = False
    served: bool = False


def examine_server(patient: Patient) -> list[Finding]:
    """Examine the server process."""
    state = patient.state
    if not state.database.exists():
        return [ok("server", SERVER, "none is running, and there is no database yet")]
    file = PidFile(state.server_record)
    process = read_process(file, patient.runtime.clock)
    listens = _socket(patient) is not None and is_responding(state)
    hangs = listens and is_hung(state)
    return judge_server(ServerFacts(process, listens, hangs, state.stop_marker.exists()))


def judge_server(facts: ServerFacts) -> list[Finding]:
    """Return the findings about the server."""
    process = facts.process
    if process is None and facts.listens:
        message = "a server responds, but .wf/server.json does not name its process"
        return [warning("server-unrecorded", SERVER, message, "It records itself within seconds.")]
    if process is None:
        return [ok("server", SERVER, "none is running; the next command that needs it starts it")]
    label = f"process {process.pid}"
    if process.liveness is Liveness.DEAD:
        message = f"{label} exited without removing its record"
        step = "The next command starts another; .wf/logs/server.log may have the reason."
        return [warning("server-died", SERVER, message, step)]
    if process.suspended:
        message = f"{label} is suspended (SIGSTOP), and all commits wait for it"
        step = f"Continue it: `kill -CONT {process.pid}`; or replace it: `motoko kill`."
        return [fault("server-suspended", SERVER, message, step)]
    if process.liveness is Liveness.UNKNOWN and not facts.listens:
        message = f"{label} on {process.host} cannot be reached from here"
        step = f"Use the workflow on {process.host}, or run `motoko kill` there."
        return [warning("server-elsewhere", SERVER, message, step)]
    if facts.hangs or not facts.listens:
        reaction = "accepts connections but does not answer" if facts.hangs else "does not listen"
        step = "Replace it: `motoko kill`; the next command starts another."
        return [fault("server-hangs", SERVER, f"{label} {reaction}", step)]
    return [*_judge_running(process), *code_findings(SERVER, process, "motoko kill")]


def _judge_running(process: ProcessFacts) -> Iterator[Finding]:
    memory = f"{process.memory / MEGABYTE:,.0f} MB" if process.memory else "an unknown amount"
    if process.memory > LARGE:
        message = f"process {process.pid} uses {memory} of memory"
        step = "Restart it when no run reports results: `motoko kill`."
        yield warning("server-memory", SERVER, message, step)
    else:
        yield ok("server", SERVER, f"process {process.pid} answers and uses {memory} of memory")


# -- the socket ------------------------------------------------------------------------------


def _socket(patient: Patient) -> Path | None:
    """Return the path of the socket, None if it is unknown; create no directory for it."""
    here = patient.state.path / "zeo.sock"
    short = len(os.fsencode(here)) <= MAX_SOCKET_PATH
    known = short or PidFile(patient.state.server_record).read() is not None
    return patient.state.socket() if known else None


def examine_socket(patient: Patient) -> list[Finding]:
    """Examine the socket of the server."""
    path = _socket(patient)
    if path is None:
        place = "a private directory of XDG_RUNTIME_DIR, TMPDIR or /tmp"
        return [ok("socket", SOCKET, f"will be in {place}, because the path of .wf is too long")]
    elsewhere = path.parent != patient.state.path
    try:
        found = path.lstat()
    except OSError:
        return judge_socket(SocketFacts(str(path), "", elsewhere=elsewhere))
    kinds = {stat.S_ISSOCK: "socket", stat.S_ISLNK: "link"}
    kind = next((name for test, name in kinds.items() if test(found.st_mode)), "other")
    served = kind == "socket" and is_responding(patient.state)
    mode, user = stat.S_IMODE(found.st_mode), os.getuid()
    return judge_socket(SocketFacts(str(path), kind, mode, found.st_uid, user, elsewhere, served))


def judge_socket(facts: SocketFacts) -> list[Finding]:
    """Return the findings about the socket."""
    where = f" in {os.path.dirname(facts.path)}, as the path of .wf is too long"
    place = where if facts.elsewhere else ""
    if not facts.kind:
        return [ok("socket", SOCKET, f"none exists{place}")]
    if facts.kind != "socket":
        message = f"{facts.path} is not a socket but a {facts.kind.replace('other', 'file')}"
        step = "Remove it; the next server makes its own."
        return [fault("socket-replaced", SOCKET, message, step)]
    if facts.owner != facts.user:
        message = f"{facts.path} belongs to another user (uid {facts.owner})"
        return [fault("socket-owner", SOCKET, message, "Work as that user, or on a copy.")]
    if facts.mode & 0o077:
        message = f"{facts.path} has mode {facts.mode:04o}: other users may act as you"
        return [fault("socket-mode", SOCKET, message, f"`chmod 600 {facts.path}`")]
    if not facts.served:
        message = f"{facts.path} is left from a server that no longer listens"
        return [warning("socket-stale", SOCKET, message, "The next server replaces it.")]
    return [ok("socket", SOCKET, f"private{place}")]
