"""Change the job parameters of runs that were made before bd.yaml changed.

--set gives a parameter that is new in bd.yaml to the runs that lack it; --drop removes one that is
no longer declared. Requests with these values then find the runs, which are not executed again.
Results, states and directories stay as they are.

All runs change in one commit, or none. The command refuses active runs, runs of a running
orchestrator, and changes after which two runs would have the same parameters.
"""

from __future__ import annotations

from motoko.cli.output import count_runs, echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

    from motoko.api.workflow import Workflow
    from motoko.operations.preview import Preview

HELP = "give runs of an earlier bd.yaml its present parameters"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import add_options

    add_options(parser)
    parser.add_argument(
        "--set",
        dest="given",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="give this value to the runs without the parameter; may be repeated",
    )
    parser.add_argument(
        "--drop",
        dest="dropped",
        action="append",
        default=[],
        metavar="NAME",
        help="remove this parameter from the runs; may be repeated",
    )
    confirmation.add_options(parser)


def execute(args: argparse.Namespace) -> None:
    """Preview the runs; change them unless they are only shown."""
    from motoko.cli.selection_arguments import open_for_selection, selection_of

    names = {target.study for target in selection_of(args).targets}
    if len(names) != 1:
        args.motoko_parser.error("motoko adopt needs the runs of one study: STUDY or STUDY.3-9")
    if not (args.given or args.dropped):
        args.motoko_parser.error("motoko adopt needs --set NAME=VALUE or --drop NAME")
    with open_for_selection(args, writes=not args.dry_run) as workflow:
        _adopt(args, workflow, workflow.task_manager(names.pop()).name)


def _adopt(args: argparse.Namespace, workflow: Workflow, study: str) -> None:
    from motoko.cli import confirmation
    from motoko.cli.selection_arguments import selection_of
    from motoko.core.adoption import ParameterChange
    from motoko.operations import adopt

    types = workflow.task_managers[study].bd_config.job
    change = ParameterChange.parse(study, types, args.given, args.dropped)
    plans: list[adopt.AdoptionPlan] = []

    def plan() -> Preview:
        selected = selection_of(args).find(workflow)
        plans.append(adopt.plan_adoption(workflow, study, selected, change))
        return plans[-1].preview

    found, effect = plan(), f"adopt {change}"
    if args.dry_run:
        confirmation.show(found, effect)
        return
    confirmed = {record.key for record in confirmation.confirm(args, found, effect, plan)}
    adoptions = [one for one in plans[-1].adoptions if one.run.key in confirmed]
    keys = adopt.adopt(workflow, adoptions, f"motoko adopt {change}")
    if not keys:
        echo("nothing to change: the selected runs have the parameters that bd.yaml declares")
    else:
        echo(f"{count_runs(len(keys))} adopted {change}")
