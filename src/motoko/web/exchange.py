"""One request with its body, its cookie and the channel for its response."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.requests import Request

from motoko.web.forms import is_form, parse_form
from motoko.web.headers import secured
from motoko.web.policy import RequestFacts, split_host

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from motoko.web.sessions import Session

CSRF_FIELD: Final = "csrf_token"
CSRF_HEADER: Final = "x-csrf-token"
SESSION: Final = "motoko.session"  # the key of the session in the scope of a request
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~%@+-]+)+/?")


@dataclass(slots=True)
class Exchange:
    """A request and the channel for its response."""

    scope: Scope
    receive: Receive
    send: Send
    headers: Headers
    facts: RequestFacts
    query: dict[str, str]
    new_cookie: str | None = None
    body: bytes | None = None

    @classmethod
    def of(cls, scope: Scope, receive: Receive, send: Send) -> Exchange:
        """Return the exchange of an ASGI call."""
        headers = Headers(scope=scope)
        facts = RequestFacts.of(scope["method"], scope["path"], headers)
        query = dict(parse_qsl(_text(scope["query_string"]), keep_blank_values=True))
        return cls(scope, receive, send, headers, facts, query)

    @property
    def request(self) -> Request:
        """The request, for pages and templates."""
        return Request(self.scope)

    def own_address(self, *, without: str | None = None) -> str:
        """Return the address of this request, relative to itself: proxies may add a prefix."""
        last = _text(self.scope.get("raw_path") or b"/").rpartition("/")[2]
        pairs = parse_qsl(_text(self.scope["query_string"]), keep_blank_values=True)
        query = urlencode([(name, value) for name, value in pairs if name != without])
        return f"./{last}?{query}" if query else f"./{last}"

    # --- cookies -------------------------------------------------------------------------------

    @property
    def cookie_name(self) -> str:
        """The name of the cookie: browsers share cookies between the ports of a host."""
        return f"motoko-{split_host(self.facts.host)[1] or 'web'}"

    def cookie(self) -> str | None:
        """Return the value of the session's cookie, None if it is absent."""
        return self.request.cookies.get(self.cookie_name)

    def set_cookie(self, session: Session) -> None:
        """Set the cookie with the response, for the prefix of a proxy if it reports one."""
        prefix = self.headers.get("x-forwarded-prefix", "")
        path = prefix if _PREFIX.fullmatch(prefix) else "/"
        self.new_cookie = (
            f"{self.cookie_name}={session.cookie}; Path={path}; HttpOnly; SameSite=Strict"
        )

    # --- the body ------------------------------------------------------------------------------

    async def read_body(self, limit: int) -> bytes | None:
        """Return the body; None if it is larger than ``limit``, or the client disconnected."""
        declared = self.headers.get("content-length", "0")
        if not declared.isdecimal() or int(declared) > limit:
            return None
        content = bytearray()
        while len(content) <= limit:
            message = await self.receive()
            if message["type"] != "http.request":
                return None
            content += message.get("body", b"")
            if not message.get("more_body", False):
                self.body = bytes(content)
                return self.body if len(content) <= limit else None
        return None

    def csrf_token(self, body: bytes) -> str:
        """Return the CSRF token of a request: a header, or a field of a form."""
        header = self.headers.get(CSRF_HEADER)
        if header is not None:
            return header
        if not is_form(self.headers.get("content-type", "")):
            return ""
        return parse_form(body).get(CSRF_FIELD, [""])[-1]

    # --- the response --------------------------------------------------------------------------

    async def run(self, app: ASGIApp) -> None:
        """Let an application answer."""
        await app(self.scope, self._receive, self._send)

    async def _receive(self) -> Message:
        if self.body is None:
            return await self.receive()
        body, self.body = self.body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            static = self.facts.is_static and message["status"] < 400
            headers = secured(list(message.get("headers", ())), static=static)
            message = {**message, "headers": headers}
            if self.new_cookie is not None:
                headers.append((b"set-cookie", self.new_cookie.encode("latin-1")))
        await self.send(message)


def _text(data: bytes) -> str:
    return data.decode("latin-1")
