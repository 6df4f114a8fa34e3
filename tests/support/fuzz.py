"""Fuzz all readers of external input and count unexpected exceptions.

``python -m tests.support.fuzz --inputs N`` gives each reader damaged forms of what it reads, and
counts the exceptions that it is not meant to raise. A reader is a function from a random generator
to nothing; it makes one input and has it read.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import logging
import math
import os
import pickle
import random
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from motoko.cli import entry_point, history, info
from motoko.cli.parser import build_parser, parse
from motoko.config import load_workflow
from motoko.config.study_file import load_study
from motoko.core.changes import EditRun
from motoko.core.constraints import Columns
from motoko.core.constraints import parse as parse_constraint
from motoko.core.edits import EndAttempt
from motoko.core.records import RunRecord, Transition, decode_record, encode_record
from motoko.core.run_options import RunOptions
from motoko.core.sbatch_options import first_fault, user_arguments
from motoko.core.states import Lifecycle
from motoko.errors import MotokoError
from motoko.launcher import attempt_files, attempt_processes, attempt_records
from motoko.launcher.attempt_files import examine_attempt
from motoko.launcher.attempt_outcome import outcome_of_exit
from motoko.launcher.attempt_paths import AttemptPaths, read_marker
from motoko.launcher.attempts import Attempt
from motoko.launcher.control import running_launchers
from motoko.launcher.executors.batch import observe, orphan_jobs, submission_files
from motoko.launcher.executors.batch.decide import AttemptState, Observation, decide
from motoko.launcher.executors.batch.queue_client import QueueClient
from motoko.launcher.harvest import convert_fields, failure_before, read_updates
from motoko.launcher.run_directory import AttemptSuperseded, create_run_directory
from motoko.launcher.schedulers.slurm import queries, states, submit
from motoko.launcher.schedulers.slurm.scheduler import SlurmScheduler
from motoko.runtime.daemons import PidFile
from motoko.runtime.ports import SYSTEM, CommandResult
from motoko.runtime.processes import current
from motoko.server.state_dir import StateDir
from motoko.worker import encode
from motoko.worker.attempt_context import AttemptContext as WorkerAttempt
from motoko.worker.validation import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import FrameType

    Reader = Callable[[random.Random], None]

# Kinds of input and their shares.
SHARES: Final = {
    "files of a run": 30, "kinds of files": 4, "outbox": 20, "inputs of a script": 4,
    "submission": 5, "squeue, scontrol, sacct": 20, "answers of a scheduler": 6, "sbatch": 10,
    "sbatch options": 8, "files of daemons": 4, "motoko.yaml": 2, "bd.yaml": 3, "constraints": 4,
    "command line": 3,
}  # fmt: skip
SECONDS: Final = 5.0  # CPU seconds for one input
PATIENCE: Final = 600.0  # seconds after which a reader counts as hung
MEMORY: Final = 4 << 30  # bytes, limit of the memory
TOKEN: Final = uuid4().hex  # no process of the machine has this pid
SHOWN: Final = 300

PIECES: Final = (
    "\0", "\x1b[2J", "\u2028", "\ud800", "²", "٣", "{", "}", "[", "]", "&a", "*a", "<<: *a", "? ",
    "!!python/object/apply:os.system ['id']", "!!binary |\n aGk=", "- ", "|", "'", '"', "\t", "\n",
    "\r", "\x0b", "1e999", ".nan", ".inf", "NaN", "9" * 20, "9" * 400, "9" * 5000, "-", "-1", "0",
    "0x" + "f" * 3000, "2001-99-99", "1:2:3", "~", "null", "=", "<", ">", "(", ")", " and ", " or ",
    " not ", ",", "in (", '~ "(a+)+$"', "state", "runs.", "jobs.", "x", "1_000", "0o7", "%",
    "$(id)", "`id`", ";", "../", "/", "é", "名", "A" * 300, "[" * 2000, '{"$":' * 500,
    "0-999999999", ":", "_", "exit ", "process ", "launcher ",
)  # fmt: skip


def damaged(given: str, rng: random.Random) -> str:
    """Return a text with a few pieces inserted, removed, repeated or replaced."""
    letters = list(given)
    for _ in range(rng.randint(1, 6)):
        at, way = rng.randrange(len(letters) + 1), rng.random()
        if way < 0.4:
            letters[at:at] = rng.choice(PIECES)
        elif way < 0.6:
            del letters[at : at + rng.randint(1, 20)]
        elif way < 0.8:
            other = rng.randrange(len(letters) + 1)
            letters[other:other] = letters[min(at, other) : max(at, other)][:200]
        elif letters:
            letters[min(at, len(letters) - 1)] = chr(
                rng.choice((0, 10, 27, 34, 160, 0x2028, rng.randrange(32, 127)))
            )
    return "".join(letters)


def spoilt(given: str | bytes, rng: random.Random) -> bytes:
    """Return a damaged text as bytes, sometimes with single changed bytes."""
    if isinstance(given, bytes):
        given = given.decode("latin-1")
    data = bytearray(damaged(given, rng).encode("utf-8", "surrogatepass"))
    while data and rng.random() < 0.4:
        data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.05:
        del data[rng.randrange(len(data) + 1) :]
    return bytes(data)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound, contextlib.suppress(OSError):
        bound.bind(str(path))


KINDS: Final[tuple[Callable[[Path], object], ...]] = (
    lambda path: path.mkdir(),
    os.mkfifo,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("/dev/full"),
    lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to("nowhere"),
    lambda path: path.symlink_to("/etc"),
    lambda path: path.write_bytes(b""),
    lambda path: path.touch(0),
    _socket,
)


class Readers:
    """All readers, with their working directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "a").mkdir(parents=True)
        (directory / "a" / "launch.sh").write_text("true\n")
        (directory / "c").mkdir()
        (directory / "c" / "launch.sh").write_text("true\n")
        (directory / "motoko.yaml").write_text("task_managers: {a: }\norchestrator: o.main\n")
        (directory / "o.py").write_text("async def main(workflow, **params):\n    pass\n")
        declared = "job:\n  x: int\n  mesh: str\n  l: list\n  t: datetime\n"
        (directory / "a" / "bd.yaml").write_text(f"{declared}run:\n  y: float\n  d: dict\n")
        study = load_study(directory / "a")
        self.columns = Columns("a", study.job, study.run)
        self.place = AttemptPaths(str(directory / "runs"), 1, 1, TOKEN, "1.000000")
        create_run_directory(self.place, b"{}\n", [])
        tasks = directory / "slurm" / "batch" / "tasks"
        tasks.mkdir(parents=True)
        (tasks / "0").symlink_to(self.place.attempt_path)
        stat = Path("/proc/self/stat").read_text()
        numbers = stat.rpartition(") ")[2]
        self.start = f"process {os.getpid()} boot 4026531836 host 1.5 {numbers}"
        self.count = 0
        self.daemon = ""
        self.loop = asyncio.Runner()
        self.parser = build_parser()

    def close(self) -> None:
        """Release the resources of the readers."""
        self.loop.close()

    def read(self, kind: str, rng: random.Random) -> None:
        """Generate one input of a kind and read it."""
        readers: dict[str, Reader] = {
            "files of a run": self.run_files,
            "kinds of files": self.file_kinds,
            "outbox": self.outbox,
            "inputs of a script": self.inputs,
            "submission": self.submission,
            "squeue, scontrol, sacct": self.scheduler_texts,
            "answers of a scheduler": self.scheduler_answers,
            "sbatch": self.sbatch,
            "sbatch options": self.sbatch_options,
            "files of daemons": self.daemons,
            "motoko.yaml": self.motoko_yaml,
            "bd.yaml": self.bd_yaml,
            "constraints": self.constraints,
            "command line": self.command_line,
        }
        readers[kind](rng)

    # -- run directories -------------------------------------------------------------------

    def run_files(self, rng: random.Random) -> None:
        contents = {
            "stop": ("TIMEOUT\n", "CREATED\n"),
            "outbox": (
                "launcher x\n", f"{self.start}\nexit 3\n", "\nexit 0\n",
                f'{self.start}\n{{"t":0,"op":"finish"}}\n\nexit 0\n',
            ),
        }  # fmt: skip
        for name, texts in contents.items():
            self.place.file(name).write_bytes(spoilt(rng.choice(texts), rng))
        Path(self.place.inputs_file).write_bytes(spoilt(f"1 1.000000 {TOKEN}\n{{}}\n", rng))
        record = _record(rng)
        found, process = attempt_files.read_evidence(self.place)
        assert process is None or process.pid > 0
        status, _ = attempt_records.exit_record(self.place)
        attempt_records.outbox_loss(self.place, 0)
        assert status is None or 0 <= status < 1000
        assert attempt_files.read_stop_reason(self.place) in (
            None, Lifecycle.TIMEOUT, Lifecycle.CANCELLED, Lifecycle.CREATED,
        )  # fmt: skip
        outcome_of_exit(
            status, stopped=attempt_files.read_stop_reason(self.place), fault=found.fault
        )
        read_marker(self.place.run_directory)
        attempt_processes.find_process_in(self.place.run_directory)
        observe.start_time(Attempt(record, RunOptions(), self.place))
        if record.lifecycle is Lifecycle.START and rng.random() < 0.05:  # it scans /proc
            examine_attempt(record, self.place, "me", restarted=rng.random() < 0.5)

    def file_kinds(self, rng: random.Random) -> None:
        """Any kind of file at any path of a run, before or after another attempt is prepared."""
        self.count += 1
        root = self.directory / "kinds" / str(self.count)
        place = AttemptPaths(str(root), 1, 1, TOKEN, "1.000000")
        create_run_directory(place, b"{}\n", [])
        paths = [place.file(name) for name in ("stop", "outbox", "over", "full")]
        paths += [
            Path(place.inputs_file),
            Path(place.run_directory),
            Path(f"{place.run_directory}.attempt-1"),
        ]
        for path in rng.sample(paths, rng.randint(1, 3)):
            with contextlib.suppress(OSError):
                if os.path.lexists(path):
                    os.rename(path, root / f"away-{len(os.listdir(root))}")
                rng.choice(KINDS)(path)
        record = _record(rng)
        start = place.file("start")
        if rng.random() < 0.3 and start.parent.is_dir() and not os.path.lexists(start):
            start.write_text("process 1\n")
        attempt_files.write_stop_reason(place, Lifecycle.TIMEOUT)
        if record.lifecycle is Lifecycle.START or not attempt_files.read_evidence(place)[0].started:
            examine_attempt(record, place, "me")
        submission_files.block_start(place)
        read_updates(place.outbox, 0)
        later = AttemptPaths(str(root), 1, 2, "later", "1.000000")
        with contextlib.suppress(AttemptSuperseded):
            create_run_directory(later, b"{}\n", [])
            assert read_marker(later.run_directory) == (2, "1.000000")
        shutil.rmtree(root, ignore_errors=True)

    def outbox(self, rng: random.Random) -> None:
        path = Path(self.place.outbox)
        path.write_bytes(spoilt(rng.choice(OUTBOXES), rng))
        record = _record(rng)
        offset, chunk = 0, rng.choice((16, 64, 4096))
        while True:
            news = read_updates(str(path), offset, chunk=chunk)
            fields, _ = convert_fields(
                news.fields, {"y": "float", "z": "dict", "w": "datetime"}, "run"
            )
            for change in news.changes(record.key, TOKEN, 0.0):
                if isinstance(change, EditRun):
                    record = change.edit.apply(record)
            pickle.dumps(fields)
            if news.end_offset == offset:
                break
            offset = news.end_offset
        failed = failure_before(str(path), offset)
        found = outcome_of_exit(0, failed=failed)
        record = EndAttempt(TOKEN, found.state, 1.0, "me", 0, found.reason).apply(record)
        stored = pickle.loads(pickle.dumps(encode_record(record)))
        assert decode_record(stored).history == record.history

    def inputs(self, rng: random.Random) -> None:
        base = {
            "v": 1,
            "study": "a",
            "id": 1,
            "job": {"x": 1.5},
            "token": "t",
            "fields": {"y": encode({1: 2})},
        }
        directory = self.directory / "inputs"
        directory.mkdir(exist_ok=True)
        (directory / ".motoko").write_bytes(spoilt(f"1 1.0 t\n{json.dumps(base)}", rng))
        with contextlib.suppress(WorkerError):
            _ = WorkerAttempt(str(directory / ".motoko-t")).inputs

    def submission(self, rng: random.Random) -> None:
        root = self.directory / "slurm"
        for name, content in (("owner", "me\n3\n"), ("job", "12\n")):
            (root / "batch" / name).write_bytes(spoilt(content, rng))
        batch = submission_files.read_submission(root, "batch")
        assert batch is not None
        assert batch.job is None or batch.job.isdigit()
        submission_files.owner_of(root, "batch")
        assert submission_files.memberships(root) == {TOKEN: ("batch", 0)}
        orphan_jobs.find_orphans(root, ["batch"], "me")

    # -- schedulers ------------------------------------------------------------------------

    def scheduler_texts(self, rng: random.Random) -> None:
        given = damaged(rng.choice(SLURM_TEXTS), rng)
        entries = [
            *queries.parse_poll(given),
            *queries.parse_accounting(given),
            *queries.parse_lookup(given),
        ]
        queries.parse_limits(given)
        for entry in entries[:5]:
            assert len(entry.status.description) < 2000
            attempt = AttemptState(
                started_at=rng.choice((None, 5.0)), unconfirmed_since=rng.choice((None, 1.0))
            )
            seen = Observation(entry.status, all_sources=True, started_at=rng.choice((None, 5.0)))
            found = decide(attempt, seen, 100.0)
            assert not found.block_start or attempt.started_at is None

    def scheduler_answers(self, rng: random.Random) -> None:
        client = QueueClient(SlurmScheduler(), _Garbling(rng), "mark", SYSTEM.clock)

        async def query() -> None:
            snapshot = await client.poll()
            for jobs in (snapshot.jobs if snapshot is not None else {}).values():
                sorted(jobs, key=int)
            await client.lookup({"123": TOKEN, "124": "b"})
            await client.cancel([("123", None)])

        self.loop.run(query())

    def sbatch(self, rng: random.Random) -> None:
        given = damaged(rng.choice(("123;cluster\n", "77\n", SLURM_TEXTS[-1])), rng)
        with contextlib.suppress(ValueError):
            assert int(submit.parse_submitted(given)) >= 0
        submit.classify_failure(given)
        submit.error_message(given)
        states.describe(given, given)
        states.explain_hold(given)

    def sbatch_options(self, rng: random.Random) -> None:
        given = damaged(rng.choice(OPTIONS), rng)
        if first_fault([given]) is None:
            taken = user_arguments([given])
            names = {word.partition("=")[0] for word in taken}
            assert not names & {"--wrap", "--array", "--test-only", "--parsable"}, (given, taken)

    def daemons(self, rng: random.Random) -> None:
        path = self.directory / ".wf" / "launcher.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            info = {"studies": ["a"], "machines": ["m"], "name": "n", "lease": 30.0, "seen": 1.0}
            PidFile(path).write(current(), **info)
            self.daemon = path.read_text()
        path.write_bytes(spoilt(self.daemon, rng))
        for running in running_launchers(StateDir.of(self.directory)):
            assert running.process.pid > 0

    # -- files of users ----------------------------------------------------------------------

    def motoko_yaml(self, rng: random.Random) -> None:
        directory = self.directory / "b"
        directory.mkdir(exist_ok=True)
        if not (directory / "a").exists():
            (directory / "a").symlink_to(self.directory / "a")
        (directory / "motoko.yaml").write_bytes(spoilt(rng.choice(WORKFLOWS), rng))
        with contextlib.suppress(MotokoError):
            load_workflow(directory / "motoko.yaml")

    def bd_yaml(self, rng: random.Random) -> None:
        (self.directory / "c" / "bd.yaml").write_bytes(spoilt(STUDY, rng))
        with contextlib.suppress(MotokoError):
            load_study(self.directory / "c")

    def constraints(self, rng: random.Random) -> None:
        given = damaged(rng.choice(CONSTRAINTS), rng)
        try:
            parsed = parse_constraint(given, self.columns)
        except MotokoError:
            return
        parsed.plan()
        for record in RECORDS:
            parsed.matches(record)
        again = parse_constraint(str(parsed), self.columns)
        assert again == parsed, f"{given!r} -> {parsed} -> {again}"

    def command_line(self, rng: random.Random) -> None:
        words = rng.choice(COMMANDS).split(" ")
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(words))
            words[at] = damaged(words[at], rng).replace("\0", "")
        argv = ["--workflow", str(self.directory), *words]
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                arguments = parse(self.parser, argv)
                # The others start processes, or write.
                if arguments.motoko_execute in (info.execute, history.execute):
                    arguments.motoko_argv, arguments.motoko_runtime = argv, SYSTEM
                    arguments.motoko_execute(arguments)
            except (MotokoError, SystemExit):
                pass


assert entry_point  # the commands of `motoko`: load their modules at the start


class _Garbling:
    """A scheduler with damaged answers."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng

    async def run(self, *_: object, **__: object) -> CommandResult:
        given = damaged(self._rng.choice(SLURM_TEXTS), self._rng)
        return CommandResult(self._rng.choice((0, 0, 0, 1)), given, damaged("error\n", self._rng))


def _record(rng: random.Random) -> RunRecord:
    started = rng.random() < 0.5
    history: tuple[Transition, ...] = (
        Transition(1.0, "CREATED", "", 0),
        Transition(2.0, "SUBMITTED", "", 1),
    )
    if started:
        history = (*history, Transition(3.0, "START", "", 1))
    return RunRecord(
        "a", 1, 1, "r", b"x", {}, lifecycle=Lifecycle.START if started else Lifecycle.SUBMITTED,
        attempt=1, token=TOKEN, history=history,
        process=rng.choice((None, (2**22 - 1, 1, "boot"), (1, 1, "boot", 5, "host"))),
    )  # fmt: skip


OUTBOXES: Final = (
    (
        '\n{"t":0,"op":"set","field":"y","value":1.5}\n\n'
        '{"t":1,"op":"push","name":"q","step":3,"value":[[1,2],[3,4]]}\n'
        '{"t":1,"op":"state","label":"DONE"}\n{"t":1,"op":"fail","reason":"x"}\n'
        '{"t":1,"op":"finish"}\n{"t":0,"op":"set","field":"z","value":{"a":[true,null,"s"]}}\n'
    ),
    '\n{"t":0,"op":"set","field":"w","value":{"$datetime":"2020-01-01T00:00:00+00:00"}}\n',
    *(
        f'\n{{"t":0,"op":"set","field":"z","value":{json.dumps(encode(value))}}}\n'
        for value in ({1: 2.5, "a": float("inf")}, {1, (2, b"x")})
    ),
)
SLURM_TEXTS: Final = (
    "123|0-4,7,9-20%3|PENDING|Priority|motoko:mark:token|x\n124|N/A|RUNNING|None|motoko:mark:b|n\n",
    "123_4|COMPLETED|0:0|None|0\n125_[1-4]|PENDING|0:0|None|1\n",
    (
        "JobId=123 ArrayJobId=120 ArrayTaskId=3 JobName=x UserId=a(1) GroupId=a(1) MCS_label=N/A "
        "Priority=1 Nice=0 Account=a QOS=normal JobState=FAILED Reason=NonZeroExitCode "
        "Dependency=(null) "
        "Requeue=0 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=3:0 NodeList=n1 \n"
    ),
    (
        "MaxArraySize = 1001\nSchedulerParameters = a,max_array_tasks=500\nMinJobAge = 300 sec\n"
        "AccountingStorageType = accounting_storage/none\nMaxJobCount = 10000\n"
    ),
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation\n",
)
OPTIONS: Final = (
    "--mem=1G", "-p debug", "--time=10", "--wrap=id", "-J x", "--export=ALL,A=$(id)", "array=1-3",
    "--output=x", "-n4", "chdir /", "-a 1-3", "--gres gpu:1",
)  # fmt: skip
WORKFLOWS: Final = (
    (
        "task_managers:\n  a:\n    nproc: 2\norchestrator: steps.main\naliases: {b: a}\n"
        "max_concurrent: 3\ntimeout: 1h 30min\nslurm_options: [--mem=1G]\nretries: 2\n"
    ),
    (
        "task_managers: {a: {timeout: 10, retry_delay: 5s}}\norchestrator: o.main\nslurm:\n"
        "  max_queued: 10\n  array_size: 5\n"
    ),
)
STUDY: Final = (
    "study: s\njob:\n  x: int\n  y: list\n  t: datetime\njob_space:\n  x: [1,2]\n  y: [1]\n"
    "  t: 2020-01-01\nrun:\n  e: float\nrun_params:\n  e: 1.5\n  nproc: 2\nexec_file: launch.sh\n"
    "config_files: [launch.sh]\ntimeout: 01:30:00\nbash_options: [-e]\n"
)
CONSTRAINTS: Final = (
    "state = FINISHED and x > 0.5", "not (state = FAILED or x <= -1e-3)", "runs.id < 3",
    'jobs.x = 2 or runs.y != "two words"', "mesh in (coarse, fine) and x not in (1, 2)",
    'mesh ~ "^co" and mesh !~* "FINE"', 't > "2020-01-01"',
)  # fmt: skip
RECORDS: Final = (
    RunRecord("a", 1, 1, "r", b"x", {"x": 1, "mesh": "co" * 40 + "!", "l": [1], "t": 1},
              fields={"y": float("nan"), "d": {}}),
    RunRecord("a", 2, 2, "r", b"y", {"x": 2**70, "mesh": "", "l": [], "t": None}),
)  # fmt: skip
COMMANDS: Final = (
    "info --verbose --constraints x>1 --bd_study a --run_name n",
    "history a.1 --run_name n",
    "history --constraints state=FAILED",
    "info --json --run_name n",
    "retry --constraints state=FAILED",
    "cancel --bd_study a --run_name n --constraints x=1",
    "clean --delete --constraints x=1",
    "run --run_name n --retry-failed",
    "launcher --generator bash --machine_name m",
    "orchestrator start --run_name n",
    "orchestrator status --run_name n",
    "kill --stop-runs",
    "backup file",
    "--verbose info",
)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Limit the CPU time and the waiting time of one input."""

    def late(_: int, __: FrameType | None) -> None:
        raise TimeoutError(f"it took {SECONDS:g} s of the processor, or {PATIENCE:g} s in all")

    signals = (signal.SIGPROF, signal.SIGALRM)
    former = [signal.signal(number, late) for number in signals]
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(signals, former, strict=True):
            signal.signal(number, handler)


class Faults:
    """Unexpected exceptions of readers, by their origin."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, str] = {}

    def note(self, name: str, seed: str, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/motoko/" in frame.filename] or frames
        where = f"{ours[-1].filename.rpartition('/motoko/')[2]}:{ours[-1].lineno}"
        kind = f"{name}: {type(error).__name__} at {where}"
        self.counts[kind] += 1
        self.examples.setdefault(kind, f"seed {seed!r}: {str(error)[:SHOWN]!r}")


def fuzz(
    inputs: int, seed: str, only: str | None = None, seconds: float = math.inf
) -> tuple[Counter[str], Faults]:
    """Give readers this number of inputs, or as many as the time allows.

    Return the number of inputs for each, and the faults.
    """
    done: Counter[str] = Counter()
    faults = Faults()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with contextlib.ExitStack() as stack:
        directory = tempfile.TemporaryDirectory(prefix="motoko-fuzz-", dir=memory)
        name = stack.enter_context(directory)
        readers = stack.enter_context(contextlib.closing(Readers(Path(name))))
        chosen = [kind for kind in SHARES if only in (None, kind)]
        shares = [SHARES[kind] for kind in chosen]
        rng = random.Random(seed)
        started = told = time.monotonic()
        for number in range(inputs):
            kind = rng.choices(chosen, shares)[0]
            own = f"{seed}-{number}"
            try:
                with bounded():
                    readers.read(kind, random.Random(own))
            except Exception as error:  # noqa: BLE001 - they are what is looked for
                faults.note(kind, own, error)
            done[kind] += 1
            if time.monotonic() - started > seconds:
                break
            if time.monotonic() - told > 30:
                told = time.monotonic()
                rate = (number + 1) / (told - started)
                figures = f"{number + 1:,} inputs, {rate:.0f} a second"
                print(
                    f"  {figures}, {faults.counts.total()} tracebacks", file=sys.stderr, flush=True
                )
    return done, faults


def main(arguments: Sequence[str]) -> int:
    """Fuzz, print the statistics, and return 1 after any fault."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument(
        "--seed", default=str(time.time_ns()), help="repeat the inputs of an earlier run"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, help="stop after this time")
    parser.add_argument("--only", choices=SHARES, help="only this kind of input")
    given = parser.parse_args(arguments)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    logging.disable()  # logs of damaged input are not relevant here
    print(f"seed {given.seed}", flush=True)
    done, faults = fuzz(given.inputs, given.seed, given.only, given.seconds)
    for kind, count in done.most_common():
        bad = sum(n for where, n in faults.counts.items() if where.startswith(f"{kind}: "))
        print(f"{kind:28} {count:>10,} inputs {bad:>8,} tracebacks")
    print(f"{'all':28} {done.total():>10,} inputs {faults.counts.total():>8,} tracebacks")
    for where, count in faults.counts.most_common():
        print(f"\n{count:,} x {where}\n  {faults.examples[where]}")
    return 1 if faults.counts else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
