"""The workflow that a command works on, and the options of its orchestrator."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from motoko.cli.output import echo

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from motoko.api.workflow import Workflow
    from motoko.errors import OrchestratorLoadError
    from motoko.orchestrator.end_recorder import Origin
    from motoko.server.state_dir import StateDir
    from motoko.storage.store import WorkflowStore


def workflow_file(directory: str | None) -> Path:
    """Return the ``motoko.yaml`` of a directory, or that of the nearest parent."""
    from pathlib import Path  # imports slowly

    from motoko.config import WORKFLOW_FILE, find_workflow, misnamed_hint
    from motoko.errors import NotAWorkflowError

    if directory is None:
        return find_workflow(Path.cwd())
    file = Path(directory) / WORKFLOW_FILE
    if not file.is_file():
        hint = misnamed_hint(file.parent, WORKFLOW_FILE)
        raise NotAWorkflowError(
            f"{directory} has no {WORKFLOW_FILE}",
            hint=hint or "Create a workflow there with `motoko init`.",
        )
    return file


def open_workflow(
    args: argparse.Namespace,
    *,
    read_only: bool = False,
    tolerant: bool = False,
    direct: bool = False,
) -> Workflow:
    """Return the workflow; with ``read_only``, never start a server.

    ``direct``: read the database file even if a server is running. If ``tolerant``, warn about
    studies with an invalid configuration.
    """
    from motoko.api.workflow import Workflow

    workflow = Workflow(
        workflow_file(args.workflow_dir),
        read_only=read_only,
        tolerant=tolerant,
        runtime=args.motoko_runtime,
    )
    workflow.store.direct = direct
    for fault in workflow.config.faults.values():
        echo(f"warning: {fault}", file=sys.stderr)
    return workflow


def state_directory(args: argparse.Namespace) -> StateDir:
    """Return the state directory, without reading ``motoko.yaml``."""
    from motoko.server.state_dir import StateDir

    return StateDir.of(workflow_file(args.workflow_dir).parent)


def open_store(args: argparse.Namespace) -> WorkflowStore:
    """Return the store for reading, without reading ``motoko.yaml`` or starting a server."""
    from motoko.storage.store import WorkflowStore

    return WorkflowStore(state_directory(args), {}, read_only=True, runtime=args.motoko_runtime)


def add_execution_options(parser: argparse.ArgumentParser, *, stop_runs: str) -> None:
    """Add the options of commands that run an orchestrator; ``stop_runs``: when to stop runs."""
    parser.add_argument(
        "--run_name", "-n", required=True, metavar="N", help="the name of this execution"
    )
    parser.add_argument(
        "--retry-failed", action="store_true", help="first send failed runs back to CREATED"
    )
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help=f"also stop its runs {stop_runs}; by default they keep running",
    )
    parser.add_argument(
        "--detach", "-d", action="store_true", help="run in the background, with a log in .wf/logs"
    )
    parser.extend = add_orchestrator_options  # type: ignore[attr-defined]  # of cli.parser.Parser


def add_orchestrator_options(parser: Any, argv: Sequence[str]) -> None:
    """Add the options that the orchestrator's ``populate_arg_parser`` defines.

    Keep the workflow, which is loaded for this, as ``args.motoko_workflow``.
    """
    from pathlib import Path

    from motoko.errors import MotokoError

    own = {action.dest for action in parser._actions}  # noqa: SLF001 - argparse offers no other way
    try:
        workflow, module = _load(argv)
    except MotokoError as error:
        if not {"-h", "--help"} & set(argv):
            raise
        parser.epilog = f"(The orchestrator's own options are not shown: {error.message})"
        return
    populate = getattr(module, "populate_arg_parser", None)
    if populate is not None:
        _populate(parser, populate, Path(module.__file__), own)
    parser.set_defaults(motoko_workflow=workflow, motoko_own=frozenset(own))


def _load(argv: Sequence[str]) -> tuple[Workflow, Any]:
    from motoko.runtime.ports import SYSTEM

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--workflow", dest="workflow_dir")
    args = argparse.Namespace(workflow_dir=None, motoko_runtime=SYSTEM)
    try:
        early.parse_known_args(list(argv), args)
    except argparse.ArgumentError:
        args.workflow_dir = None  # the command's own parser reports the error
    workflow = open_workflow(args)
    return workflow, workflow.load_orchestrator_module()


def _populate(parser: Any, populate: Any, file: Path, own: set[str]) -> None:
    from motoko.errors import OrchestratorLoadError
    from motoko.orchestrator.actions import location

    known = len(parser._actions)  # noqa: SLF001
    try:
        populate(parser)
    except argparse.ArgumentError as error:
        hint = "Motoko has this option itself; choose another name."
        raise _load_error(file, str(error), error, hint=hint) from error
    except Exception as error:
        raise _load_error(file, f"{type(error).__name__}: {error}", error) from error
    taken = {action.dest for action in parser._actions[known:]} & own  # noqa: SLF001
    if taken:
        raise OrchestratorLoadError(
            f"{location(populate)}: {min(taken)!r} is the name of one of Motoko's own options",
            hint="Give your option another name, or another dest=.",
        )


def _load_error(
    file: Path, what: str, error: Exception, *, hint: str | None = None
) -> OrchestratorLoadError:
    """Return the error for options that could not be added, with the line that raised it."""
    from motoko.errors import OrchestratorLoadError
    from motoko.orchestrator.loading import locate_line

    return OrchestratorLoadError(
        f"populate_arg_parser: {what}", file=str(file), line=locate_line(error, file), hint=hint
    )


def check_main(args: argparse.Namespace) -> None:
    """Raise an error if the orchestrator function is invalid or lacks an argument."""
    from motoko.orchestrator.loading import main_arguments

    workflow: Workflow = args.motoko_workflow
    main_arguments(workflow.get_orchestrator_function(), workflow, orchestrator_params(args))


def command_origin(args: argparse.Namespace) -> Origin:
    """Return the record of a command that executes the workflow."""
    from motoko.operations.orchestrator_process import log_file
    from motoko.orchestrator.end_recorder import Origin

    log = None
    if args.detach:
        log = log_file(args.motoko_workflow.store.state, args.run_name).name
    command = ("motoko", *args.motoko_argv)
    return Origin(command, alone=True, detached=args.detach, log=log)


def orchestrator_params(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parsed options of the orchestrator."""
    return {
        name: value
        for name, value in vars(args).items()
        if name not in args.motoko_own and not name.startswith("motoko_")
    }
