"""Pages from Jinja2 templates. Every value is made printable and escaped, unless it is Markup."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from motoko.errors import ConflictError, MotokoError, UnknownNameError, UnknownRunError
from motoko.printable import one_line, printable, value_text
from motoko.web.exchange import SESSION
from motoko.web.filters import filters
from motoko.web.policy import Denial

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import Request

SCREENS: Final = (
    ("campaign", "Campaign", ""),
    ("runs", "Runs", "runs"),
    ("events", "Events", "events"),
    ("failures", "Failures", "failures"),
    ("flow", "Flow", "flow"),
    ("plots", "Plots", "plots"),
)
TITLES: Final = {
    403: ("Not allowed", "The server refuses this request.", "Return to the campaign."),
    404: ("Page not found", "Nothing has this address.", "Check the address, or start here:"),
    405: ("Not allowed here", "This address does not take such a request.", "Go back."),
    500: (
        "Something went wrong",
        "The page could not be made. The workflow is not affected.",
        "The log of `motoko serve` shows the error. Reload the page to try again.",
    ),
    503: ("Too busy", "Too many pages are connected at once.", "Close some tabs, then reload."),
}
_CODE: Final = re.compile(r"`([^`\n]+)`")
UNKNOWN: Final = ("Something went wrong", "The request could not be answered.", "Go back.")

log = logging.getLogger("motoko.web")


def finalize(value: Any) -> Any:
    """Return the text that a template shows for a value: without control characters, bounded."""
    if value is None:
        return ""
    if isinstance(value, Markup | int | float | Undefined):
        return value
    return printable(str(value))


def with_code(text: str) -> Markup:
    """Return a text with the parts between backquotes marked as code."""
    escaped = str(escape(printable(text)))
    return Markup(_CODE.sub(r"<code>\1</code>", escaped))  # noqa: S704 - it is escaped


def environment() -> Environment:
    """Return the templates of this package."""
    made = Environment(
        loader=PackageLoader("motoko.web"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters["one_line"] = lambda text, limit=200: one_line(str(text), limit=limit)
    made.filters["safe_text"] = lambda text, limit=64_000: printable(str(text), limit=limit)
    made.filters["with_code"] = with_code
    made.filters["value"] = value_text
    made.filters.update(filters())
    return made


def root_of(request: Request) -> str:
    """Return the relative address of the first page, which is valid behind any prefix."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return "../" * (raw.count(b"/") - 1) or "./"


@dataclass(frozen=True, slots=True)
class Pages:
    """Renders templates. ``shared`` are the variables of all pages, such as the title."""

    read_only: bool = False
    shared: Mapping[str, Any] = field(default_factory=dict)
    templates: Environment = field(default_factory=environment)

    def render(
        self, request: Request, name: str, /, *, status: int = 200, **variables: Any
    ) -> Response:
        """Return a page. Templates know ``root``, ``csrf_token``, ``read_only`` and ``request``."""
        return HTMLResponse(self.part(request, name, **variables), status)

    def part(self, request: Request, name: str, /, **variables: Any) -> str:
        """Return a template as text, with the variables of all pages."""
        session = request.scope.get(SESSION)
        known = {
            "workflow": "",
            "screens": SCREENS,
            "screen": "",
            "run_name": "",
            "keep_name": "",
            "live": "",
            "command": "",
            **self.shared,
            "request": request,
            "root": root_of(request),
            "csrf_token": "" if session is None else session.csrf_token,
            "read_only": self.read_only,
        }
        known.update(variables)
        if known["run_name"]:
            known["keep_name"] = "?" + urlencode({"run_name": known["run_name"]})
        return self.templates.get_template(name).render(known)

    def redirect(self, request: Request, target: str) -> Response:
        """Return a redirection to a page, given relative to the first one (``runs?x=1``)."""
        return RedirectResponse(root_of(request) + target, 303)

    def denial(self, request: Request, denial: Denial) -> Response:
        """Return the page, or for scripts the JSON object, of a denied or failed request."""
        if "application/json" in request.headers.get("accept", ""):
            content = {"error": denial.title, "text": denial.text, "hint": denial.hint}
            return JSONResponse(content, denial.status)
        variables = {"denial": denial, "navigation": True}
        if SESSION not in request.scope:  # strangers do not learn the name of the workflow
            variables |= {"navigation": False, "workflow": ""}
        return self.render(request, "error.html", status=denial.status, **variables)

    def error_handlers(self) -> dict[Any, Callable[[Request, Any], Response]]:
        """Return the handlers of an application's errors."""
        return {
            HTTPException: self._http_error,
            MotokoError: self._motoko_error,
            Exception: self._unexpected,
        }

    def _http_error(self, request: Request, error: HTTPException) -> Response:
        response = self.denial(
            request, Denial(error.status_code, *TITLES.get(error.status_code, UNKNOWN))
        )
        response.headers.update(error.headers or {})
        return response

    def _motoko_error(self, request: Request, error: MotokoError) -> Response:
        """Return the page of an error that the user can remedy."""
        status = 400
        if isinstance(error, UnknownRunError | UnknownNameError):
            status = 404
        elif isinstance(error, ConflictError):
            status = 409
        denial = Denial(status, "This did not work", error.message, error.hint or "")
        return self.denial(request, denial)

    def _unexpected(self, request: Request, error: Exception) -> Response:
        """Log an error; the browser does not see its traceback."""
        log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return self.denial(request, Denial(500, *TITLES[500]))
