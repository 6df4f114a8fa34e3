"""Start the launcher, which executes created tasks. It runs in the background.

If it stops, its runs keep running, and the next launcher records their results.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motoko.cli.output import echo

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from motoko.api.workflow import Workflow

HELP = "start the launcher, which executes created tasks"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--generator", metavar="G", help="how to execute runs: bash or slurm")
    parser.add_argument("--bd_study", "-bd", metavar="S", help="serve this study only")
    parser.add_argument(
        "--machine_name", metavar="M", help="serve the runs of this machine (default: this host)"
    )
    parser.add_argument("--do_not_detach", action="store_true", help="stay in the foreground")
    parser.add_argument(
        "--stop-runs",
        action="store_true",
        help="stop its runs when the launcher stops; they return to CREATED",
    )
    parser.add_argument(
        "--log", action="store_true", help="print the log as it grows, until Ctrl-C"
    )


def execute(args: argparse.Namespace) -> None:
    """Start a launcher here or in the background."""
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.core.run_options import generator_name

    workflow = open_workflow(args)
    options: dict[str, Any] = {"machine_name": args.machine_name, "stop_runs": args.stop_runs}
    if args.bd_study is not None:
        options["studies"] = [workflow.task_manager(args.bd_study).name]
    if args.generator is not None:
        options["generator"] = generator_name(args.generator)
    if args.do_not_detach:
        _serve(workflow, options)
    else:
        _start(args, workflow, options)


def _serve(workflow: Workflow, options: Mapping[str, Any]) -> None:
    import logging
    from pathlib import Path

    from motoko.cli.log_output import show_log
    from motoko.launcher.daemon import serve
    from motoko.launcher.services import persistent_launcher

    show_log(logging.INFO)
    with persistent_launcher(workflow.store.state) as ready:
        serve(Path(workflow.directory), ready=ready, **options)


def _start(args: argparse.Namespace, workflow: Workflow, options: Mapping[str, Any]) -> None:
    from motoko.cli.log_printer import print_logs
    from motoko.launcher.services import start_persistent_launcher
    from motoko.runtime.processes import suspension

    state = workflow.store.state
    log = state.logs / "launcher.log"
    launcher = start_persistent_launcher(state, **options)
    status = "started" if launcher.started_here else "is already running"
    place = f"process {launcher.process.pid}, log {log}"
    echo(f"launcher {status}: {place}{suspension(launcher.process)}", flush=True)
    if args.log:
        print_logs([log], lambda _: launcher.is_running(), args.motoko_runtime.clock)
