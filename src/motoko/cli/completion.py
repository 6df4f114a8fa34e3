"""Print a script that lets a shell complete commands, options, studies, runs and run names.

  bash   add to ~/.bashrc:  eval "$(motoko completion bash)"
  zsh    add to ~/.zshrc, after compinit:  eval "$(motoko completion zsh)"
  fish   motoko completion fish > ~/.config/fish/completions/motoko.fish

Completion reads files only; it starts no process. It reads the options of an orchestrator from the
source of its populate_arg_parser, without executing it.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse

HELP = "print a script for completion in bash, zsh or fish"
PROGRAMS = ("motoko", "orchestrator")
INSTALL = {
    "bash": 'Add this line to ~/.bashrc: eval "$(motoko completion bash)"',
    "zsh": 'Add this line to ~/.zshrc, after compinit: eval "$(motoko completion zsh)"',
    "fish": "Install it: motoko completion fish > ~/.config/fish/completions/motoko.fish",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the argument."""
    parser.add_argument("shell", choices=sorted(INSTALL), help="the shell")


def execute(args: argparse.Namespace) -> None:
    """Print the script."""
    from argcomplete.shell_integration import shellcode

    script = shellcode(PROGRAMS, shell=args.shell)
    sys.stdout.write(f"# Completion of motoko. {INSTALL[args.shell]}\n{script}\n")
