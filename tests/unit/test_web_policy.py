"""The rules that admit requests, sessions and links, and the text of pages."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from motoko.runtime.ports import SYSTEM
from motoko.web.exchange import SESSION, Exchange
from motoko.web.headers import SECURITY_HEADERS, secured
from motoko.web.policy import AccessPolicy, RequestFacts, is_origin_of, split_host
from motoko.web.rendering import Pages, environment, root_of
from motoko.web.sessions import Sessions
from motoko.web.streams import event_text

pytestmark = pytest.mark.unit

BY_PORT = AccessPolicy(8080)
BY_SOCKET = AccessPolicy()


def facts(method: str = "GET", path: str = "/", **headers: str) -> RequestFacts:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestFacts.of(method, path, {"host": "localhost:8080", **given})


def status(policy: AccessPolicy, request: RequestFacts) -> int | None:
    denial = policy.decide(request)
    return None if denial is None else denial.status


@pytest.mark.parametrize(
    "host", ["localhost:8080", "127.0.0.1:8080", "[::1]:8080", "LOCALHOST.:8080"]
)
def test_loopback_names_with_the_port_are_allowed(host: str) -> None:
    assert BY_PORT.allows_host(host)
    assert BY_SOCKET.allows_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:8080", "localhost.evil.example:8080",
        "127.0.0.1.nip.io:8080", "user@localhost:8080", "localhost:8080/x", "localhost:99999",
        "localhost:x", "[::1", "0.0.0.0:8080", "localhost:8080:8080", "localhost:8080#",
        "localhost:",
    ],
)  # fmt: skip
def test_other_host_names_are_denied(host: str) -> None:
    for policy in (BY_PORT, BY_SOCKET):
        assert not policy.allows_host(host)
        assert status(policy, facts(host=host)) == 421


def test_ssh_gives_a_socket_any_port() -> None:
    for host in ("localhost", "localhost:1", "127.0.0.1:50000"):
        assert BY_SOCKET.allows_host(host)
        assert not BY_PORT.allows_host(host)


def test_a_proxy_has_other_host_names() -> None:
    policy = AccessPolicy(extra_hosts=frozenset({"hub.example.org", "other:8000"}))
    for host in ("hub.example.org", "HUB.example.org:444", "other:8000"):
        assert policy.allows_host(host)
    for host in ("other", "other:8001", "x.hub.example.org"):
        assert not policy.allows_host(host)


def test_requests_of_the_page_and_of_programs_are_admitted() -> None:
    own = "http://localhost:8080"
    for policy in (BY_PORT, BY_SOCKET):
        for method in ("GET", "POST", "DELETE"):
            assert status(policy, facts(method)) is None
            assert status(policy, facts(method, origin=own, sec_fetch_site="same-origin")) is None
        assert status(policy, facts(sec_fetch_site="none", sec_fetch_mode="navigate")) is None


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:8081"},
        {"origin": "http://127.0.0.1:8080"},
        {"origin": "file://localhost:8080"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "iframe"},
        {"sec_fetch_site": "same-origin", "sec_fetch_dest": "iframe"},
    ],
)
def test_requests_of_another_site_are_denied(method: str, headers: dict[str, str]) -> None:
    for policy in (BY_PORT, BY_SOCKET):
        assert status(policy, facts(method, **headers)) == 403


def test_a_link_on_another_site_may_be_followed_but_not_submitted() -> None:
    link = {
        "sec_fetch_site": "cross-site",
        "sec_fetch_mode": "navigate",
        "sec_fetch_dest": "document",
    }
    assert status(BY_PORT, facts(**link)) is None
    assert status(BY_PORT, facts("POST", **link)) == 403


def test_a_read_only_page_changes_nothing() -> None:
    policy = AccessPolicy(read_only=True)
    assert status(policy, facts()) is None
    assert status(policy, facts("HEAD")) is None
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get"):
        assert status(policy, facts(method)) == 403


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://localhost", "localhost:80", True),
        ("https://hub.example.org", "hub.example.org", True),
        ("https://hub.example.org:443", "hub.example.org", True),
        ("https://hub.example.org", "hub.example.org:443", True),
        ("http://[::1]:80", "[::1]", True),
        ("https://hub.example.org", "hub.example.org:80", False),
        ("https://hub.example.org.evil", "hub.example.org", False),
        ("", "localhost", False),
        ("http://", "", False),
    ],
)
def test_an_origin_is_compared_with_the_host(origin: str, host: str, same: bool) -> None:
    assert is_origin_of(origin, host) is same


def test_hosts_are_split() -> None:
    assert split_host("[::1]:80") == ("::1", 80)
    assert split_host("a.b.") == ("a.b", None)
    assert split_host("a:-1") == ("", None)


# --- sessions and links -----------------------------------------------------------------------


def sessions(scope: str = "socket", instance: str = "a", secret: bytes = b"s" * 64) -> Sessions:
    return Sessions(secret, scope, instance, SYSTEM.rng)


def test_a_session_is_found_by_its_cookie_only() -> None:
    made = sessions()
    session = made.issue()
    assert made.find(session.cookie) == session
    assert made.issue() != session
    nonce, _, signature = session.cookie.partition(".")
    for wrong in ("", ".", nonce, signature, f"{nonce}.", f".{signature}", session.csrf_token,
                  f"{nonce}.{signature[:-1]}", f"{nonce}x.{signature}", "é.ü",
                  "\ud800."):  # fmt: skip
        assert made.find(wrong) is None


def test_sessions_survive_a_restart_but_not_another_secret_or_scope() -> None:
    session = sessions().issue()
    assert sessions(instance="b").find(session.cookie) == session
    assert sessions(secret=b"t" * 64).find(session.cookie) is None
    assert sessions(scope="port 8080").find(session.cookie) is None


def test_a_link_opens_one_session() -> None:
    made = sessions()
    token = made.issue_link_token()
    assert made.find(token) is None
    assert made.redeem(token)
    assert not made.redeem(token)
    assert made.redeem(made.issue_link_token())
    assert not made.redeem(made.issue().cookie)


def test_links_do_not_survive_a_restart() -> None:
    token = sessions().issue_link_token()
    assert not sessions(instance="b").redeem(token)
    assert sessions().redeem(token), "another process of the user prints links"


# --- pages ------------------------------------------------------------------------------------


def request(path: str = "/", **headers: str) -> Request:
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    return Request(scope)


def test_every_value_is_escaped_and_bounded() -> None:
    template = environment().from_string("<p title='{{ x }}'>{{ x }}</p>")
    shown = template.render(x="<script>'\"&\x1b]52;c;x\x07\u202e")
    assert "<script>" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b]52" in shown
    assert shown.count("'") == 2
    assert len(template.render(x="y" * 10_000_000)) < 10_000
    assert len(template.render(x="y\n" * 10_000_000)) < 300_000


def test_an_object_is_escaped_like_its_text() -> None:
    class Hostile:
        def __str__(self) -> str:
            return "<b>\x1b"

    template = environment().from_string("{{ x }}|{{ y }}|{{ [x] }}|{{ none }}|{{ 1.5 }}")
    assert template.render(x=Hostile(), y=Exception("<i>")).startswith("&lt;b&gt;\\x1b|&lt;i&gt;|")


@pytest.mark.parametrize(
    ("path", "root"),
    [("/", "./"), ("/runs", "./"), ("/run/solve", "../"), ("/a/b/c", "../../"), ("/a/", "../"),
     ("/a%2Fb", "./"), ("/a//b", "../../")],
)  # fmt: skip
def test_the_root_is_relative_to_the_page(path: str, root: str) -> None:
    assert root_of(request(path)) == root


def test_the_address_without_the_token_is_relative_too() -> None:
    async def nothing(*_: object) -> None:
        raise AssertionError

    scope = {**request("/run/solve").scope, "query_string": b"a=1&token=x&b=%20y"}
    exchange = Exchange.of(scope, nothing, nothing)  # type: ignore[arg-type]
    assert exchange.own_address(without="token") == "./solve?a=1&b=+y"


def test_a_response_has_one_header_of_each_kind() -> None:
    headers = secured([(b"X-Frame-Options", b"ALLOW"), (b"cache-control", b"max-age=1")])
    assert sorted(name for name, _ in headers) == sorted(
        [name for name, _ in SECURITY_HEADERS] + [b"cache-control"]
    )
    assert (b"x-frame-options", b"DENY") in headers
    assert (b"cache-control", b"max-age=1") in headers


def test_scripts_get_errors_as_json() -> None:
    denial = BY_PORT.decide(facts(host="x"))
    assert denial is not None
    response = Pages().denial(request(accept="application/json"), denial)
    assert response.media_type == "application/json"
    assert b"Unknown host name" in response.body


def test_code_in_a_hint_is_marked_and_escaped() -> None:
    shown = environment().from_string("{{ x | with_code }}").render(x="Run `a <b>\x1b` or <i>.")
    assert shown == "Run <code>a &lt;b&gt;\\x1b</code> or &lt;i&gt;."


def test_strangers_do_not_learn_the_name_of_the_workflow() -> None:
    pages = Pages(shared={"workflow": "secret project"})
    denial = BY_PORT.decide(facts(host="x"))
    assert denial is not None
    assert b"secret project" not in pages.denial(request(), denial).body
    known = request()
    known.scope[SESSION] = sessions().issue()
    assert b"secret project" in pages.denial(known, denial).body


def test_an_event_cannot_contain_another() -> None:
    text = event_text("a\n\nevent: b\rdata: c", name="count", number="7")
    assert text == "event: count\nid: 7\ndata: a\ndata: \ndata: event: b\ndata: data: c\n\n"
    assert event_text("") == "data: \n\n"
