"""The screen of one run, and the parts of its output that the page asks for."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from motoko.core.records import RunKey
from motoko.errors import UnknownRunError
from motoko.operations.run_output import STREAMS
from motoko.views.output import read_output
from motoko.views.run import RunView, read_run
from motoko.web.screen import Screen, Visit

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute

    from motoko.views.live import LiveViews


class RunScreen(Screen):
    """One run."""

    name = "run"
    path = "/runs/{run}"
    parts = ("run",)

    async def load(self, visit: Visit, state: dict[str, Any]) -> dict[str, Any]:
        """Read the run; raise UnknownRunError if it never existed."""
        key = RunKey.parse(visit.request.path_params["run"])
        commit = "" if visit.campaign is None else visit.campaign.commit
        if state.get("commit") != commit or "run" not in state:
            state["run"] = await visit.views.read(partial(read_run, key=key))
            state["commit"] = commit
        run: RunView | None = state["run"]
        outputs = {}
        if not state.get("shown"):
            state["shown"] = True
            if run is None:
                raise UnknownRunError(f"run {key} does not exist")
            for stream in STREAMS:
                outputs[stream] = await visit.views.read(
                    partial(read_output, key=key, stream=stream)
                )
        return {
            "title": str(key), "key": key, "run": run, "outputs": outputs,
            "command": f"motoko why {key}; motoko logs {key}",
        }  # fmt: skip


def output_route() -> BaseRoute:
    """Return the route of the output of a run, in parts."""
    return Route("/runs/{run}/output", _output)


async def _output(request: Request) -> Response:
    views: LiveViews = request.app.state.views
    arguments = request.query_params
    stream = arguments.get("stream", "")
    if stream not in STREAMS:
        raise UnknownRunError(f"{stream!r} is no stream", hint="Known: stdout, stderr.")
    found = await views.read(
        partial(
            read_output,
            key=RunKey.parse(request.path_params["run"]),
            stream=stream,
            position=_number(arguments.get("position")),
            follows=_number(arguments.get("attempt")),
        )
    )
    return JSONResponse(asdict(found))


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 16 else None
