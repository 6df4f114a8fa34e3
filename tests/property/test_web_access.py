"""No request without a valid session and token reaches the application, whatever it contains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from motoko.runtime.ports import SYSTEM
from motoko.web.access import Access
from motoko.web.headers import SECURITY_HEADERS
from motoko.web.policy import AccessPolicy
from motoko.web.rendering import Pages
from motoko.web.sessions import Sessions

if TYPE_CHECKING:
    from starlette.types import Message, Scope

pytestmark = pytest.mark.property

SESSIONS = Sessions(b"s" * 64, "port 8080", "instance", SYSTEM.rng)
SESSION = SESSIONS.issue()
PAGES = Pages()
OWN = "http://127.0.0.1:8080"

texts = st.text(st.characters(max_codepoint=255), max_size=40)
hosts = st.sampled_from(["127.0.0.1:8080", "localhost:8080", "evil.example", "[::1"]) | texts
origins = st.sampled_from([OWN, "null", "http://evil.example", "http://"]) | texts
cookies = (
    st.sampled_from([f"motoko-8080={SESSION.cookie}", f"a=b; motoko-8080={SESSION.cookie}", "=;;"])
    | texts
)
tokens = st.sampled_from([SESSION.csrf_token, SESSION.cookie, ""]) | texts
headers = st.fixed_dictionaries(
    {"host": hosts},
    optional={
        "origin": origins,
        "cookie": cookies,
        "x-csrf-token": tokens,
        "sec-fetch-site": st.sampled_from(["same-origin", "cross-site", "same-site", "none"])
        | texts,
        "sec-fetch-mode": st.sampled_from(["navigate", "cors", "no-cors"]) | texts,
        "sec-fetch-dest": st.sampled_from(["document", "iframe", "empty"]) | texts,
        "x-forwarded-prefix": st.sampled_from(["/user/me", "/x; a"]) | texts,
        "content-type": st.sampled_from(["application/x-www-form-urlencoded", "text/plain"])
        | texts,
        "content-length": st.sampled_from(["0", "5", "-1", "9" * 30, "²"]),
        "accept": st.sampled_from(["application/json", "text/html"]),
    },
)
bodies = st.sampled_from([b"", f"csrf_token={SESSION.csrf_token}".encode()]) | st.binary(
    max_size=99
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "x"])
paths = st.sampled_from(["/", "/runs", "/static/x", "/static/../runs"]) | texts.map("/".__add__)
queries = st.sampled_from([b"", b"token=", b"token=x&token=y", b"a=%ff&token"]) | st.binary(
    max_size=40
)


async def respond(
    policy: AccessPolicy, scope: Scope, body: bytes
) -> tuple[list[Message], list[Scope]]:
    """Return the messages of the response, and the scopes that reached the application."""
    sent: list[Message] = []
    reached: list[Scope] = []

    async def app(inner: Scope, receive: Any, send: Any) -> None:
        reached.append(inner)
        await PlainTextResponse("admitted")(inner, receive, send)

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    await Access(app, policy, SESSIONS, PAGES)(scope, receive, send)
    return sent, reached


@given(
    method=methods, path=paths, query=queries, given=headers, body=bodies, read_only=st.booleans()
)
@example(
    method="POST",
    path="/",
    query=b"",
    given={
        "host": "localhost:8080",
        "cookie": f"motoko-8080={SESSION.cookie}",
        "x-csrf-token": SESSION.csrf_token,
    },
    body=b"",
    read_only=False,
)
def test_only_valid_requests_reach_the_application(
    method: str, path: str, query: bytes, given: dict[str, str], body: bytes, *, read_only: bool
) -> None:
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("latin-1"),
        "query_string": query,
        "headers": [(n.encode(), value.encode("latin-1")) for n, value in given.items()],
    }
    policy = AccessPolicy(8080, read_only=read_only, max_body=64)
    sent, reached = anyio.run(respond, policy, scope, body)

    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert len(starts) == 1
    names = [name for name, _ in starts[0]["headers"]]
    for header in SECURITY_HEADERS:
        assert header in starts[0]["headers"]
        assert names.count(header[0]) == 1
    assert b"cache-control" in names
    for _, value in starts[0]["headers"]:
        assert not {b"\r", b"\n", b"\0"} & {value[i : i + 1] for i in range(len(value))}
    safe = method in {"GET", "HEAD"}
    is_valid = given["host"].lower().rstrip(".").endswith(":8080")
    assert not reached or is_valid
    if reached and not (safe and path.startswith("/static/")):
        assert SESSION.cookie in given.get("cookie", "")
        assert safe or not read_only
        carried = given.get("x-csrf-token", "") + body.decode("latin-1")
        assert safe or SESSION.csrf_token in carried
        assert given.get("origin", "") in {"", OWN, "http://localhost:8080"}
