"""Start the launcher, which runs created tasks; in the background, unless told otherwise.

When it is stopped its runs go on, and the next launcher takes their results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from motoko.cli.output import say

if TYPE_CHECKING:
    import argparse

    from motoko.api.workflow import Workflow

HELP = "start the launcher, which runs created tasks"


class ServedStudies(NamedTuple):
    """Which runs a launcher is for, and by what they are executed. None: no restriction."""

    generator: str | None
    studies: tuple[str, ...] | None
    machine_name: str | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--generator", metavar="G", help="what starts runs: bash or slurm")
    parser.add_argument("--bd_study", "-bd", metavar="S", help="serve this study only")
    parser.add_argument(
        "--machine_name", metavar="M", help="serve the runs of this machine; otherwise of this host"
    )
    parser.add_argument("--do_not_detach", action="store_true", help="stay in the foreground")
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="stop its runs, too, when it is stopped; they go back to CREATED",
    )
    parser.add_argument(
        "--log", action="store_true", help="print the log as it grows; Ctrl-C ends the printing"
    )


def execute(args: argparse.Namespace) -> int:
    """Start a launcher here or in the background."""
    from motoko.cli import exit_status
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.core.run_options import generator_name

    workflow = open_workflow(args)
    study = None if args.bd_study is None else workflow.task_manager(args.bd_study).name
    generator = None if args.generator is None else generator_name(args.generator)
    served = ServedStudies(generator, None if study is None else (study,), args.machine_name)
    if args.do_not_detach:
        _serve(args, workflow, served)
    else:
        _start(args, workflow, served)
    return exit_status.OK


def _serve(args: argparse.Namespace, workflow: Workflow, served: ServedStudies) -> None:
    import logging
    from pathlib import Path

    from motoko.cli import logs
    from motoko.launcher.daemon import serve
    from motoko.operations.services import persistent_launcher

    logs.show(logging.INFO)
    with persistent_launcher(workflow.store.state) as ready:
        serve(
            Path(workflow.directory),
            generator=served.generator,
            studies=served.studies or (),
            machine_name=served.machine_name,
            stop_runs=args.stop_runs,
            ready=ready,
        )


def _start(args: argparse.Namespace, workflow: Workflow, served: ServedStudies) -> None:
    from motoko.cli.logs import print_logs
    from motoko.operations.services import start_persistent_launcher

    state = workflow.store.state
    log = state.logs / "launcher.log"
    running = start_persistent_launcher(
        state,
        generator=served.generator,
        studies=served.studies,
        machine_name=served.machine_name,
        stop_runs=args.stop_runs,
    )
    word = "started" if running.started_here else "runs already"
    say(f"launcher {word}: process {running.process.pid}, log {log}", flush=True)
    if args.log:
        print_logs([log], lambda _: running.is_running())
