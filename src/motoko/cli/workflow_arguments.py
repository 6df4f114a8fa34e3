"""Finding the workflow that a command is about, and the options of its orchestrator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from motoko.api.workflow import Workflow
    from motoko.errors import OrchestratorLoadError
    from motoko.server.state_dir import StateDir


def workflow_file(directory: str | None) -> Path:
    """Return the ``motoko.yaml`` of a directory, or the one found from here upwards."""
    from motoko.config import WORKFLOW_FILE, find_workflow, misnamed_hint
    from motoko.errors import NotAWorkflowError

    if directory is None:
        return find_workflow(Path.cwd())
    file = Path(directory) / WORKFLOW_FILE
    if not file.is_file():
        raise NotAWorkflowError(
            f"{directory} has no {WORKFLOW_FILE}",
            hint=misnamed_hint(file.parent, WORKFLOW_FILE)
            or "Make a workflow there with `motoko init`.",
        )
    return file


def open_workflow(
    args: argparse.Namespace, *, look: bool = False, tolerant: bool = False
) -> Workflow:
    """Return the workflow that a command is about; ``look``: never start a server.

    ``tolerant``: studies may be wrong, which is said.
    """
    from motoko.api.workflow import Workflow

    workflow = Workflow(workflow_file(args.workflow_dir), look=look, tolerant=tolerant)
    for fault in workflow.config.faults.values():
        say(f"warning: {fault}", file=sys.stderr)
    return workflow


def state_directory(args: argparse.Namespace) -> StateDir:
    """Return the state directory, without reading what ``motoko.yaml`` says."""
    from motoko.server.state_dir import StateDir

    return StateDir.of(workflow_file(args.workflow_dir).parent)


def add_orchestrator_options(parser: Any, argv: Sequence[str]) -> None:
    """Have the orchestrator's ``populate_arg_parser`` add its options to the parser.

    The workflow is loaded for that and kept as ``args.motoko_workflow``.
    """
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
    import argparse

    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    early.add_argument("--workflow", dest="workflow_dir")
    try:
        args, _ = early.parse_known_args(list(argv))
    except argparse.ArgumentError:
        args = argparse.Namespace(workflow_dir=None)  # the parser proper will complain
    workflow = open_workflow(args)
    return workflow, workflow.load_orchestrator_module()


def _populate(parser: Any, populate: Any, file: Path, own: set[str]) -> None:
    import argparse

    from motoko.errors import OrchestratorLoadError
    from motoko.orchestrator.actions import location

    known = len(parser._actions)  # noqa: SLF001
    try:
        populate(parser)
    except argparse.ArgumentError as error:
        hint = "Motoko has this option itself; choose another name."
        raise _failed(file, str(error), error, hint=hint) from error
    except Exception as error:
        raise _failed(file, f"{type(error).__name__}: {error}", error) from error
    taken = {action.dest for action in parser._actions[known:]} & own  # noqa: SLF001
    if taken:
        raise OrchestratorLoadError(
            f"{location(populate)}: {min(taken)!r} is the name of one of Motoko's own options",
            hint="Give your option another name, or another dest=.",
        )


def _failed(
    file: Path, what: str, error: Exception, *, hint: str | None = None
) -> OrchestratorLoadError:
    """Return the error for options that could not be added, with the line that tried to."""
    from motoko.errors import OrchestratorLoadError
    from motoko.orchestrator.loading import locate_line

    return OrchestratorLoadError(
        f"populate_arg_parser: {what}", file=str(file), line=locate_line(error, file), hint=hint
    )


def orchestrator_params(args: argparse.Namespace) -> dict[str, Any]:
    """Return the parsed options that are the orchestrator's own."""
    return {
        name: value
        for name, value in vars(args).items()
        if name not in args.motoko_own and not name.startswith("motoko_")
    }
