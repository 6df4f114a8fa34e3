"""Export the workflow as an RO-Crate: a directory with its files, results and provenance.

The crate holds motoko.yaml, the orchestrator, the scripts of all studies, the results of each study
as CSV, and the attempts of its runs. ro-crate-metadata.json describes them for archives and
registries. Runs and their values are written as they are; paths of this machine are reported.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "export the workflow as an RO-Crate, to share or archive it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--crate", required=True, metavar="DIR", help="write the crate into this new directory"
    )
    parser.add_argument("--run_name", "-n", metavar="N", help="export runs of this run name only")
    parser.add_argument(
        "--license",
        metavar="URL",
        help="the license of the crate (default: the LICENSE file of the workflow's directory)",
    )
    parser.add_argument(
        "--author",
        action="append",
        default=[],
        metavar="NAME",
        help="an author, such as 'Ada Lovelace <https://orcid.org/...>'; repeatable",
    )


def execute(args: argparse.Namespace) -> None:
    """Write the crate and print its directory."""
    import contextlib
    import sys
    from pathlib import Path

    from motoko.cli.output import echo
    from motoko.cli.workflow_arguments import open_workflow
    from motoko.operations.crate.content import Author
    from motoko.operations.crate.writing import export_crate

    with contextlib.closing(open_workflow(args, read_only=True)) as workflow:
        crate = export_crate(
            workflow,
            Path(args.crate),
            run_name=args.run_name,
            license_url=args.license,
            authors=[Author.parse(text) for text in args.author],
        )
    for note in crate.notes:
        echo(f"note: {note}", file=sys.stderr)
    echo(crate.directory)
