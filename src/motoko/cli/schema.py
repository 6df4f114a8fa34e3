"""Print the JSON Schema (draft 7) of a file or of the output of a command; without NAME, list them.

Editors use those of motoko.yaml and bd.yaml to complete and check keys. `motoko init` writes them
to `.schema`, and names them in the first line of each file. For an existing workflow:

  mkdir -p .schema
  motoko schema motoko.yaml > .schema/motoko.json
  motoko schema bd.yaml > .schema/bd.json

The first line of motoko.yaml is then `# yaml-language-server: $schema=.schema/motoko.json`, that of
each bd.yaml `# yaml-language-server: $schema=../.schema/bd.json`.
"""

from __future__ import annotations

import sys

from motoko.cli.output import echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "print the JSON Schema of a file or of a command's output"
NAMES = ("motoko.yaml", "bd.yaml", "info", "why", "doctor", "notify", "results", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument(
        "schema", nargs="?", choices=NAMES, metavar="NAME", help=f"one of {', '.join(NAMES)}"
    )


def execute(args: argparse.Namespace) -> None:
    """Print a schema, or the names of all."""
    from motoko.cli.json_schemas import OUTPUTS
    from motoko.config.json_schema import SCHEMAS, schema_text

    name: str | None = args.schema
    if name is None:
        echo("\n".join(NAMES))
    else:
        sys.stdout.write(schema_text(SCHEMAS[name]() if name in SCHEMAS else OUTPUTS[name]))
