"""The web page of a workflow, from its parts."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypedDict

import anyio

from motoko.api.workflow import Workflow
from motoko.runtime.processes import host
from motoko.views.live import LiveViews
from motoko.web.application import create_app
from motoko.web.listening import LOOPBACK, listener, served
from motoko.web.policy import AccessPolicy
from motoko.web.rendering import Pages
from motoko.web.screens import routes
from motoko.web.server import WebServer
from motoko.web.sessions import Sessions, ensure_secret, read_secret
from motoko.web.streams import EventStreams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence

    from motoko.runtime.ports import Random
    from motoko.server.state_dir import StateDir

INSTANCE_BYTES: Final = 8


class Address(TypedDict):
    """Where the page is: a socket, or a port and a link that opens it once."""

    host: str
    socket: str | None
    port: int | None
    link: str | None


def serve(
    workflow: Workflow,
    *,
    port: int | None = None,
    read_only: bool = False,
    hosts: Iterable[str] = (),
    graphs: Sequence[str] = (),
    ready: Callable[[Address], object] = lambda address: None,
) -> None:
    """Serve the page until SIGINT, SIGTERM or SIGHUP; call ``ready`` once it can be opened.

    ``port``: None for the socket in ``.wf``, 0 for any free port. ``hosts``: more host names that
    a proxy uses. ``graphs``: step graphs to show, as FILE.py:NAME. Raise ServerError if it is
    served already.
    """
    state, rng = workflow.store.state, workflow.store.runtime.rng
    instance = rng.token(INSTANCE_BYTES)
    with listener(state, port, instance) as bound:
        policy = AccessPolicy(
            bound.port, read_only=read_only, extra_hosts=frozenset(map(str.lower, hosts))
        )
        secret = ensure_secret(state.web_secret, rng)
        sessions = Sessions(secret, _scope(bound.port), instance, rng)
        pages = Pages(read_only, {"workflow": state.path.parent.name})
        streams = EventStreams(policy.max_streams)
        views = LiveViews(partial(_reopened, workflow))
        app = create_app(routes(), policy, sessions, pages, streams, views, graphs)
        path = None if bound.path is None else str(bound.path)

        def announce() -> None:
            ready(_address(sessions, host(), path, bound.port))

        WebServer(app, streams, state, announce, partial(_live, views)).run(bound)


def _reopened(workflow: Workflow) -> Workflow:
    """Open a workflow again, for reading."""
    return Workflow(
        workflow.config_path, read_only=True, tolerant=True, runtime=workflow.store.runtime
    )


@contextlib.asynccontextmanager
async def _live(views: LiveViews) -> AsyncIterator[None]:
    """Keep the views current within the context."""
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(views.run)
            yield
            tasks.cancel_scope.cancel()
    except ExceptionGroup as group:
        raise group.exceptions[0] from None
    finally:
        await views.close()


def new_address(state: StateDir, rng: Random) -> Address | None:
    """Return where another process serves the page, with a new link; None if none does."""
    record, secret = served(state), read_secret(state.web_secret)
    if record is None or secret is None:
        return None
    info: Mapping[str, Any] = record.info
    sessions = Sessions(secret, _scope(info["port"]), info["instance"], rng)
    return _address(sessions, record.host, info["socket"], info["port"])


def _scope(port: int | None) -> str:
    return "socket" if port is None else f"port {port}"


def _address(sessions: Sessions, machine: str, socket: str | None, port: int | None) -> Address:
    link = None
    if port is not None:
        link = f"http://{LOOPBACK}:{port}/?token={sessions.issue_link_token()}"
    return Address(host=machine, socket=socket, port=port, link=link)
