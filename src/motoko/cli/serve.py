"""Serve a web page that shows the workflow and acts on it, until Ctrl-C.

  motoko serve                  on the Unix socket .wf/web.sock, which only you can reach
  motoko serve --port 8080      on this port of this machine; the printed link opens it once
  motoko serve --detach         in the background, until `motoko serve --stop`
  motoko serve --link           print how to open the page that is served already

From another machine, forward a port to the socket and open http://localhost:8080 there:

  ssh -L 8080:/path/to/workflow/.wf/web.sock user@host

Everybody who can connect to your end of that port can use the page. On a machine that you share,
use --port at both ends: a link opens a session for one browser.

The page needs `motoko[web]`. It starts no launcher and holds no lock that runs need. To show it in
JupyterHub, see docs/how-to.md.
"""

from __future__ import annotations

from motoko.cli.output import echo

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` costs milliseconds
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any

    from motoko.api.workflow import Workflow
    from motoko.server.state_dir import StateDir

HELP = "serve a web page that shows the workflow and acts on it"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--port",
        type=_port,
        metavar="N",
        help="listen on this port of the loopback interface (0: any free one), not on a socket",
    )
    parser.add_argument("--read-only", action="store_true", help="the page changes nothing")
    parser.add_argument(
        "--allow-host",
        type=_host_name,
        action="append",
        default=[],
        metavar="NAME",
        help="a host name under which a proxy publishes the page; may be repeated",
    )
    parser.add_argument(
        "--graph",
        action="append",
        default=[],
        metavar="FILE.py:NAME",
        help="also show this step graph: a Graph, a WorkflowRunner, or a task function of assets; "
        "may be repeated",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--detach",
        "-d",
        action="store_true",
        help="serve it in the background, with a log in .wf/logs",
    )
    how.add_argument("--stop", action="store_true", help="stop the server of the page")
    how.add_argument(
        "--link", action="store_true", help="print how to open the page that is served already"
    )


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port < 65536:
        raise ValueError
    return port


def _host_name(text: str) -> str:
    if not text or "/" in text or "*" in text:  # neither an address nor a pattern
        raise ValueError
    return text


_port.__name__ = "port"  # argparse names it in errors
_host_name.__name__ = "host name"


def execute(args: argparse.Namespace) -> None:
    """Serve the page, stop its server, or print how to open it."""
    from motoko.cli.background import announcing_failure, shall_detach
    from motoko.cli.workflow_arguments import open_workflow, state_directory

    if args.link:
        _print_link(args, state_directory(args))
    elif args.stop:
        _stop(args, state_directory(args))
    elif shall_detach(args):
        from motoko.cli.optional import required
        from motoko.web.background import start_detached

        required("serve", "motoko.web.site", "serve", extra="web")
        state = state_directory(args)
        daemon = start_detached(state, args.motoko_argv)
        _print_link(args, state)
        echo(f"Process {daemon.process.pid} serves it, log {daemon.log}; stop: motoko serve --stop")
    else:
        import contextlib

        with (
            announcing_failure(),
            contextlib.closing(open_workflow(args, read_only=True, tolerant=True)) as workflow,
        ):
            _serve(args, workflow)


def _serve(args: argparse.Namespace, workflow: Workflow) -> None:
    import logging

    from motoko.cli.log_output import show_log
    from motoko.cli.optional import required
    from motoko.runtime.daemons import announce_ready

    show_log(logging.WARNING)

    def ready(address: Mapping[str, Any]) -> None:
        if args.detach:
            announce_ready()
        else:
            _print_address(address)

    required("serve", "motoko.web.site", "serve", extra="web")(
        workflow,
        port=args.port,
        read_only=args.read_only,
        hosts=args.allow_host,
        graphs=args.graph,
        ready=ready,
    )


def _stop(args: argparse.Namespace, state: StateDir) -> None:
    from motoko.web.background import stop

    pid = stop(state, args.motoko_runtime.clock)
    echo("no process serves the page" if pid is None else f"stopped process {pid}")


def _print_link(args: argparse.Namespace, state: StateDir) -> None:
    from motoko.cli.optional import required
    from motoko.errors import ServerError

    address = required("serve", "motoko.web.site", "new_address", extra="web")(
        state, args.motoko_runtime.rng
    )
    if address is None:
        raise ServerError("no process serves the page", hint="Start one with `motoko serve`.")
    _print_address(address)


def _print_address(address: Mapping[str, Any]) -> None:
    """Print how to open the page in a browser, here and on another machine."""
    import os
    import pwd
    import shlex

    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # some containers have no names of users
        user = "USER"
    there = f"{user}@{address['host']}"
    port = address["port"]
    if port is not None:
        forward = f"{port}:127.0.0.1:{port}"
        echo(f"Open this link, which works once:\n  {address['link']}")
        echo(f"From another machine, first run there:\n  ssh -L {forward} {shlex.quote(there)}")
        echo("Another link for another browser: motoko serve --link", flush=True)
        return
    forward = f"8080:{address['socket']}"
    echo(f"The page is at the socket {address['socket']}")
    echo(f"On your machine, run:\n  ssh -L {shlex.quote(forward)} {shlex.quote(there)}")
    echo("and open http://localhost:8080", flush=True)
