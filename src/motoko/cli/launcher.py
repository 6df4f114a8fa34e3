"""Start the launcher, which runs created tasks; in the background, unless told otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse

    from motoko.workflow import Workflow

HELP = "start the launcher, which runs created tasks"


class Served(NamedTuple):
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
        "--log", action="store_true", help="print the log as it grows; Ctrl-C ends the printing"
    )


def execute(args: argparse.Namespace) -> int:
    """Start a launcher here or in the background."""
    from motoko.cli import exit_status
    from motoko.cli.opening import open_workflow
    from motoko.config import generator_name
    from motoko.operations.services import keep
    from motoko.storage.server import ensure_server

    workflow = open_workflow(args)
    state = workflow.store.state
    study = None if args.bd_study is None else workflow.task_manager(args.bd_study).name
    generator = None if args.generator is None else generator_name(args.generator)
    served = Served(generator, None if study is None else (study,), args.machine_name)
    ensure_server(state)
    keep(state)
    if args.do_not_detach:
        _serve(workflow, served)
    else:
        _start(workflow, served, follow=args.log)
    return exit_status.OK


def _serve(workflow: Workflow, served: Served) -> None:
    import logging
    from pathlib import Path

    from motoko.cli import logs
    from motoko.launcher.daemon import serve

    logs.show(logging.INFO)
    serve(
        Path(workflow.directory),
        generator=served.generator,
        studies=served.studies or (),
        machine_name=served.machine_name,
    )


def _start(workflow: Workflow, served: Served, *, follow: bool) -> None:
    from motoko.cli.logs import print_logs
    from motoko.launcher.daemon import start_launcher
    from motoko.runtime.processes import is_alive

    state = workflow.store.state
    log = state.logs / "launcher.log"
    running = start_launcher(
        state,
        generator=served.generator,
        studies=served.studies,
        machine_name=served.machine_name,
    )
    word = "started" if running.here else "runs already"
    print(f"launcher {word}: process {running.process.pid}, log {log}", flush=True)
    if follow:
        print_logs([log], lambda _: is_alive(running.process))
