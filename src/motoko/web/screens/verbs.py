"""The verbs: a preview of what a command would do, and the command itself."""

from __future__ import annotations

import os
import pwd
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.routing import Route

from motoko.operations.bulk_edit import RunSelection
from motoko.operations.verbs import Verb, VerbResult, perform_alone, preview_verb
from motoko.web.forms import read_form

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from motoko.views.connection import ReadConnection
    from motoko.views.live import LiveViews
    from motoko.web.rendering import Pages

PART = "part"  # the parameter of a request that shows the answer in a dialog
FIELDS = ("runs", "where", "run_name")


def verb_route() -> BaseRoute:
    """Return the route of the verbs."""
    return Route("/do/{verb}", _respond, methods=["GET", "POST"])


async def _respond(request: Request) -> Response:
    try:
        verb = Verb(request.path_params["verb"])
    except ValueError:
        raise HTTPException(404) from None
    views: LiveViews = request.app.state.views
    if request.method == "POST":
        form = await read_form(request)
        selection = _selection(form)
        work = partial(
            perform_alone, views.workflow.config_path, verb, selection, f"page ({user_name()})"
        )
        result: VerbResult = await anyio.to_thread.run_sync(work)
        return _render(request, form, verb=verb, result=result)
    arguments = {name: request.query_params.getlist(name) for name in FIELDS}
    work_preview = partial(_preview, verb=verb, selection=_selection(arguments))
    preview = await views.query(work_preview)
    return _render(request, arguments, verb=verb, preview=preview, result=None)


def _preview(connection: ReadConnection, *, verb: Verb, selection: RunSelection) -> Any:
    with connection.read():  # connect again if necessary
        return preview_verb(connection.workflow, verb, selection)


def _render(request: Request, values: Mapping[str, Sequence[str]], **variables: Any) -> Response:
    pages: Pages = request.app.state.pages
    shown = "parts/verb.html" if PART in request.query_params else "verb.html"
    fields = [(name, value) for name in FIELDS for value in values.get(name, ()) if value]
    run_name = next(iter(values.get("run_name", ())), "")
    return pages.render(
        request, shown, title=str(variables["verb"]), fields=fields, run_name=run_name,
        problem="", campaign=None, now=0.0, **variables,
    )  # fmt: skip


def _selection(values: Mapping[str, Sequence[str]]) -> RunSelection:
    runs = [one for one in values.get("runs", ()) if one]
    where = [one for one in values.get("where", ()) if one.strip()]
    run_name = next((one for one in values.get("run_name", ()) if one), None)
    if not (runs or where or run_name):
        raise HTTPException(404)  # never all runs by accident
    return RunSelection.parse_texts(runs, where, run_name)


def user_name() -> str:
    """Return the name of the user whose process this is."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
