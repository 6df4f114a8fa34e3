"""Start the launcher, which runs created tasks; in the background, unless told otherwise.

When it is stopped its runs go on, and the next launcher takes their results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from motoko.workflow import Workflow

HELP = "start the launcher, which runs created tasks"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--generator", metavar="G", help="what starts runs: bash")
    parser.add_argument("--bd_study", "-bd", metavar="S", help="serve this study only")
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
    from motoko.cli.opening import open_workflow
    from motoko.config import generator_name

    workflow = open_workflow(args)
    study = None if args.bd_study is None else workflow.task_manager(args.bd_study).name
    generator = None if args.generator is None else generator_name(args.generator)
    if args.do_not_detach:
        _serve(args, workflow, generator, study)
    else:
        _start(args, workflow, generator, study)
    return exit_status.OK


def _serve(
    args: argparse.Namespace, workflow: Workflow, generator: str | None, study: str | None
) -> None:
    import logging
    from pathlib import Path

    from motoko.cli import logs
    from motoko.launcher.daemon import serve
    from motoko.operations.services import lasting_launcher

    logs.show(logging.INFO)
    with lasting_launcher(workflow.store.state) as ready:
        serve(
            Path(workflow.directory),
            generator=generator,
            studies=() if study is None else (study,),
            stop_runs=args.stop_runs,
            ready=ready,
        )


def _start(
    args: argparse.Namespace, workflow: Workflow, generator: str | None, study: str | None
) -> None:
    from motoko.cli.logs import print_logs
    from motoko.operations.services import start_lasting_launcher
    from motoko.runtime.processes import is_alive

    state = workflow.store.state
    log = state.logs / "launcher.log"
    running = start_lasting_launcher(
        state, generator=generator, studies=study and [study], stop_runs=args.stop_runs
    )
    word = "started" if running.here else "runs already"
    print(f"launcher {word}: process {running.process.pid}, log {log}", flush=True)
    if args.log:
        print_logs([log], lambda _: is_alive(running.process))
