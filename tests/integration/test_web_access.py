"""Who can open the page of a real ``motoko serve``, and what each response carries."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from motoko.errors import ExitStatus
from motoko.runtime.daemons import PidFile
from motoko.server.state_dir import StateDir
from motoko.web import listening
from motoko.web.headers import CONTENT_SECURITY_POLICY
from tests.support.command_line import MODULE, Shell, small_workflow, wait_until
from tests.support.web import Served, csrf_token, token_in
from tests.support.web_server import SECRET_TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

NOBODY = 65534
PORT = ("--port", "0")
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return small_workflow(tmp_path / "w")


@pytest.fixture
def by_socket(shell: Shell) -> Iterator[Served]:
    with Served(shell.directory) as served:
        yield served


@pytest.fixture
def by_port(shell: Shell) -> Iterator[Served]:
    with Served(shell.directory, *PORT) as served:
        yield served


def mode(path: Path) -> str:
    return stat.filemode(path.lstat().st_mode)


# --- the socket -------------------------------------------------------------------------------


def test_the_socket_is_private_and_disappears_with_its_server(by_socket: Served) -> None:
    assert mode(by_socket.socket) == "srw-------"
    assert mode(by_socket.socket.parent) == "drwx------"
    assert by_socket.socket.lstat().st_uid == os.getuid()
    assert f"ssh -L 8080:{by_socket.socket}" in by_socket.output
    with by_socket.client() as client:
        assert client.get("/").status_code == 200
    assert by_socket.stop() == 0
    assert not by_socket.socket.exists()
    assert not StateDir.of(by_socket.directory).web_record.exists()


def test_a_directory_that_others_can_enter_is_refused(shell: Shell) -> None:
    state = shell.directory / ".wf"
    state.mkdir(0o700)
    state.chmod(0o750)
    done = shell.run("serve")
    assert done.returncode == 1
    assert "mode 750" in done.stderr
    assert f"chmod 700 {state}" in done.stderr
    assert list(state.iterdir()) == []


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory to another user")
def test_a_directory_of_another_user_is_refused(shell: Shell) -> None:
    state = shell.directory / ".wf"
    state.mkdir(0o700)
    os.chown(state, NOBODY, NOBODY)
    done = shell.run("serve")
    assert done.returncode == 1
    assert "belongs to another user" in done.stderr


def test_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    shell = small_workflow(tmp_path / ("long" * 25))
    with Served(shell.directory) as served:
        record = PidFile(StateDir.of(shell.directory).web_record).read()
        assert record is not None
        path = record.info["socket"]
        assert len(path) <= 107
        assert str(path) in served.output
        transport = httpx.HTTPTransport(uds=path)
        with httpx.Client(transport=transport, base_url="http://localhost") as client:
            assert client.get("/").status_code == 200
        served.stop()
        assert not os.path.lexists(path)


def test_the_socket_of_a_dead_server_is_replaced(shell: Shell) -> None:
    with Served(shell.directory) as served:
        served.stop(signal.SIGKILL)
        assert served.socket.exists()
    with Served(shell.directory) as served, served.client() as client:
        assert client.get("/").status_code == 200


@pytest.mark.parametrize("arguments", [(), PORT])
def test_a_second_server_names_the_first(by_socket: Served, arguments: tuple[str, ...]) -> None:
    done = Shell(by_socket.directory).run("serve", *arguments)
    assert done.returncode == 1
    assert f"already served at {by_socket.socket} by process {by_socket.process.pid}" in done.stderr
    assert "motoko serve --link" in done.stderr
    with by_socket.client() as client:
        assert client.get("/").status_code == 200


def test_link_prints_how_to_reach_the_socket(by_socket: Served) -> None:
    assert str(by_socket.socket) in Shell(by_socket.directory).ok("serve", "--link")


def test_link_needs_a_server(shell: Shell) -> None:
    done = shell.run("serve", "--link")
    assert done.returncode == 1
    assert "no process serves the page" in done.stderr
    assert not (shell.directory / ".wf").exists()


def test_a_port_in_use_is_an_error(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = shell.run("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "--port 0" in done.stderr


def test_an_address_is_no_host_name(shell: Shell) -> None:
    done = shell.run("serve", "--allow-host", "https://hub.example.org/")
    assert done.returncode == 2
    assert "invalid host name value" in done.stderr


@pytest.mark.parametrize("port", ["-1", "65536", "x", "0.0.0.0:80"])
def test_an_invalid_port_is_an_error(shell: Shell, port: str) -> None:
    assert shell.run("serve", "--port", port).returncode == 2


# --- another user -----------------------------------------------------------------------------

CONNECT = """
import socket, sys
place = sys.argv[1]
connection = socket.socket(socket.AF_UNIX if place[0] == "/" else socket.AF_INET)
try:
    connection.connect(place if place[0] == "/" else ("127.0.0.1", int(place)))
except PermissionError:
    sys.exit("no permission")
head = "GET / HTTP/1.1\\r\\nHost: 127.0.0.1:%s\\r\\nConnection: close\\r\\n\\r\\n"
connection.sendall((head % place).encode())
while data := connection.recv(100000):
    print(data.decode())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_cannot_connect_to_the_socket(by_socket: Served) -> None:
    for directory in by_socket.directory.parents:  # pytest's own directories are private too
        if directory.stat().st_mode & 0o077 == 0:
            directory.chmod(0o755)
    by_socket.socket.chmod(0o666)  # as uvicorn would: the directory alone protects
    done = as_nobody(str(by_socket.socket))
    assert "no permission" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_is_denied_at_the_port(by_port: Served) -> None:
    done = as_nobody(str(by_port.port))
    assert done.stdout.startswith("HTTP/1.1 403 ")
    assert "motoko serve --link" in done.stdout


def as_nobody(place: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["python3", "-c", CONNECT, place],
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin:/usr/local/bin"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


# --- links and cookies ------------------------------------------------------------------------


def test_the_port_is_bound_to_the_loopback_interface_only(by_port: Served) -> None:
    tables = "".join(Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6"))
    listening = [line.split() for line in tables.splitlines() if f":{by_port.port:04X} " in line]
    places = {fields[1] for fields in listening if fields[3] == "0A"}
    assert places == {f"0100007F:{by_port.port:04X}"}


def test_a_link_opens_the_page_once(by_port: Served) -> None:
    with by_port.client() as first, by_port.client() as second:
        opened = first.get(by_port.link)
        assert opened.status_code == 303
        assert "token" not in opened.headers["location"]
        cookie = opened.headers["set-cookie"]
        assert cookie.startswith(f"motoko-{by_port.port}=")
        assert "; Path=/; HttpOnly; SameSite=Strict" in cookie
        assert by_port.link.partition("token=")[2] not in cookie
        page = first.get(opened.headers["location"])
        assert page.status_code == 200
        again = second.get(by_port.link)
        assert again.status_code == 403
        assert "motoko serve --link" in again.text
        assert second.get("/").status_code == 403
        assert first.get(by_port.link).status_code == 303, "the browser that has a session"


def test_another_browser_gets_another_link(by_port: Served) -> None:
    with by_port.signed_in(), by_port.client() as second:
        printed = Shell(by_port.directory).ok("serve", "--link")
        link = next(word for word in printed.split() if "token=" in word)
        assert link != by_port.link
        assert second.get(link).status_code == 303
        assert second.get("/").status_code == 200


@pytest.mark.parametrize("token", ["", "x", "x.y", "0" * 65])
def test_a_wrong_token_opens_nothing(by_port: Served, token: str) -> None:
    with by_port.client() as client:
        response = client.get("/", params={"token": token})
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
        assert "not valid" in response.text


def test_looking_at_a_link_does_not_use_it(by_port: Served) -> None:
    with by_port.client() as client:
        assert client.head(by_port.link).status_code == 403
        assert client.post(by_port.link).status_code == 403
        assert client.get(by_port.link).status_code == 303


def test_a_session_survives_a_restart_at_the_same_port(shell: Shell) -> None:
    with Served(shell.directory, *PORT) as first, first.signed_in() as client:
        token = csrf_token(client)
        first.stop()
        old_link, port = first.link, first.port
        with Served(shell.directory, "--port", str(port)) as second, second.client() as other:
            assert client.get("/").status_code == 200
            assert client.post("/change", data={"csrf_token": token}).status_code == 303
            assert other.get(old_link).status_code == 403, "links do not"


def test_nothing_but_the_style_is_readable_without_a_session(by_port: Served) -> None:
    with by_port.client() as client:
        for path in ("/", "/runs", "/text", "/stream", "/nothing", "/deep/page"):
            response = client.get(path)
            assert response.status_code == 403
            assert SECRET_TEXT not in response.text
        assert client.get("/static/motoko.css").status_code == 200
        for path in (
            "/static/../templates/base.html",
            "/static/%2e%2e/site.py",
            "/static/..%2fsite.py",
        ):
            with by_port.connect() as connection:
                head = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{by_port.port}\r\n\r\n"
                connection.sendall(head.encode())
                assert connection.recv(100).split()[1] in {b"403", b"404"}


# --- hosts, origins and CSRF tokens -----------------------------------------------------------


def test_a_foreign_host_name_is_denied(by_port: Served) -> None:
    with by_port.signed_in() as client:
        for host in ("evil.example", f"evil.example:{by_port.port}", "localhost:1"):
            assert client.get("/text", headers={"Host": host}).status_code == 421
        assert client.get("/text").status_code == 200


def test_a_proxy_may_have_another_name_and_a_prefix(shell: Shell) -> None:
    hub = {"Host": "hub.example.org", "X-Forwarded-Prefix": "/user/me/motoko"}
    with Served(shell.directory, "--allow-host", "hub.example.org") as served:
        with served.client(headers=hub) as client:
            page = client.get("/deep/page")
            assert page.status_code == 200
            assert 'href="../static/motoko.css"' in page.text
            cookie = page.headers["set-cookie"]
            assert "; Path=/user/me/motoko;" in cookie
            headers = {
                "Cookie": cookie.partition(";")[0],
                "Origin": "https://hub.example.org",
                "Sec-Fetch-Site": "same-origin",
            }
            data = {"csrf_token": token_in(page)}
            changed = client.post("/change", data=data, headers=headers)
            assert changed.status_code == 303
            assert changed.headers["location"] == "./deep/page"
            headers["Origin"] = "https://other.example.org"
            assert client.post("/change", data=data, headers=headers).status_code == 403
        with served.client(headers={"Host": "other.example.org"}) as client:
            assert client.get("/").status_code == 421


@pytest.mark.parametrize("prefix", ["evil", "/x; Domain=example.org", "/x\u00e9", "//x", "/a, /b"])
def test_an_invalid_prefix_is_ignored(by_socket: Served, prefix: str) -> None:
    with by_socket.client() as client:
        page = client.get("/", headers={b"X-Forwarded-Prefix": prefix.encode("latin-1")})
        assert "; Path=/; HttpOnly" in page.headers["set-cookie"]


@pytest.mark.parametrize("kind", ["by_port", "by_socket"])
def test_a_change_needs_cookie_and_token_and_the_same_origin(
    kind: str, request: pytest.FixtureRequest
) -> None:
    served: Served = request.getfixturevalue(kind)
    with served.signed_in() as client, served.client() as stranger:
        token = csrf_token(client)
        data = {"csrf_token": token, "x": "1"}
        assert client.post("/change", data=data).status_code == 303
        assert client.post("/change", data=data, headers={"Origin": served.base}).status_code == 303
        header = {"X-CSRF-Token": token, "Accept": "application/json"}
        assert client.post("/change", json={}, headers=header).status_code == 200

        assert stranger.post("/change", data=data).status_code == 403
        assert client.post("/change").status_code == 403
        assert client.post("/change", data={"csrf_token": token[:-1]}).status_code == 403
        assert client.post("/change", json=data).status_code == 403
        assert client.post("/change", files={"csrf_token": token}).status_code == 403
        assert client.post("/change", params=data).status_code == 403, "not in the address"
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert client.post("/change", data=data, headers=headers).status_code == 403
            assert client.get("/stream", headers=headers).status_code == 403


def test_the_token_of_one_session_is_not_that_of_another(by_port: Served) -> None:
    link = Shell(by_port.directory).ok("serve", "--link").split()[-1]
    assert link
    with by_port.signed_in() as one, by_port.client() as other:
        printed = Shell(by_port.directory).ok("serve", "--link")
        other.get(next(word for word in printed.split() if "token=" in word))
        assert csrf_token(one) != csrf_token(other)
        assert other.post("/change", data={"csrf_token": csrf_token(one)}).status_code == 403


def test_a_read_only_page_changes_nothing(shell: Shell) -> None:
    with Served(shell.directory, "--read-only") as served, served.signed_in() as client:
        response = client.post("/change", data={"csrf_token": csrf_token(client)})
        assert response.status_code == 403
        assert "--read-only" in response.text


# --- every response ---------------------------------------------------------------------------


def test_every_response_has_the_headers(by_port: Served) -> None:
    with by_port.signed_in() as client, by_port.client() as stranger:
        token = csrf_token(client)
        css = client.get("/static/motoko.css")
        etag = {"If-None-Match": css.headers["etag"]}
        responses = {
            200: [client.get("/"), css, client.head("/"), client.get("/text")],
            303: [client.get(by_port.link), client.post("/change", data={"csrf_token": token})],
            304: [client.get("/static/motoko.css", headers=etag)],
            403: [stranger.get("/"), stranger.get("/stream"), client.post("/change")],
            404: [client.get("/nothing"), client.get("/static/nothing"), client.get("/unknown"),
                  client.get("/runs/")],
            405: [client.get("/change"), client.post("/text", data={"csrf_token": token})],
            413: [client.post("/change", content=b"x" * (2 << 20))],
            421: [stranger.get("/", headers={"Host": "evil.example"})],
            500: [client.get("/fail")],
        }  # fmt: skip
        for status, found in responses.items():
            for response in found:
                assert response.status_code == status, response.url
                for name, value in HEADERS.items():
                    assert response.headers.get_list(name) == [value], (response.url, name)
                static = "/static/m" in str(response.url)
                cache = "no-cache" if static else "no-store"
                assert response.headers["cache-control"] == cache, response.url
                assert "server" not in response.headers
        with client.stream("GET", "/stream") as stream:
            assert stream.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


def test_an_invalid_request_has_the_headers(by_port: Served) -> None:
    for invalid in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000):
        with by_port.connect() as connection:
            connection.sendall(invalid)
            answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert CONTENT_SECURITY_POLICY.encode() in answer


def received(connection: socket.socket) -> bytes:
    """Return everything until the server closes the connection."""
    content = b""
    while True:
        try:
            chunk = connection.recv(65536)
        except ConnectionResetError:
            return content
        if not chunk:
            return content
        content += chunk


def test_errors_are_pages_without_tracebacks(by_socket: Served) -> None:
    with by_socket.signed_in() as client:
        failed = client.get("/fail")
        assert "Traceback" not in failed.text
        assert "secret detail" not in failed.text
        assert "The workflow is not affected" in failed.text
        assert "secret detail" in by_socket.output, "the log has it"
        unknown = client.get("/unknown")
        assert "no run solve.9" in unknown.text
        assert "solve.&lt;8&gt;" in unknown.text
        as_json = client.get("/unknown", headers={"Accept": "application/json"})
        assert as_json.json()["hint"] == "The last one is solve.<8>."
        assert client.get("/").status_code == 200


def test_values_of_runs_are_escaped(by_socket: Served) -> None:
    with by_socket.client() as client:
        page = client.get("/deep/page")
    assert "<script>" not in page.text
    assert "&lt;script&gt;" in page.text
    assert not {"\x1b", "\x00", "\u202e"} & set(page.text)
    assert len(page.content) < 20_000


# --- limits and stuck clients -----------------------------------------------------------------


def test_a_large_body_is_refused(by_socket: Served) -> None:
    with by_socket.signed_in() as client:
        header = {"X-CSRF-Token": csrf_token(client)}
        assert client.post("/change", content=b"x" * (1 << 20), headers=header).status_code == 303
        too_large = b"x" * ((1 << 20) + 1)
        assert client.post("/change", content=too_large, headers=header).status_code == 413
        chunks = (b"x" * 1000 for _ in range(2000))
        assert client.post("/change", content=chunks, headers=header).status_code == 413


def test_the_number_of_streams_is_limited(by_socket: Served) -> None:
    with by_socket.signed_in() as client, by_socket.signed_in() as other:
        streams = [client.stream("GET", "/stream") for _ in range(32)]
        try:
            for stream in streams:
                assert stream.__enter__().status_code == 200
            refused = other.get("/stream")
            assert refused.status_code == 503
            assert refused.headers["retry-after"] == "5"
            assert other.get("/").status_code == 200
        finally:
            for stream in streams:
                stream.__exit__(None, None, None)

        def opened() -> bool:
            with other.stream("GET", "/stream") as again:
                return again.status_code == 200

        wait_until(opened, "a closed stream makes room for another")


def test_a_silent_stream_is_kept_open(shell: Shell) -> None:
    with (
        Served(shell.directory, MOTOKO_TEST_KEEP_ALIVE="0.1") as served,
        served.signed_in() as client,
        client.stream("GET", "/silence") as stream,
    ):
        assert next(stream.iter_lines()) == ":"
        assert client.head("/silence").headers["content-type"].startswith("text/event-stream")


def test_stuck_clients_block_nobody_and_are_dropped(shell: Shell) -> None:
    with (
        Served(shell.directory, MOTOKO_TEST_IMPATIENT="1") as served,
        served.signed_in() as client,
        served.connect() as silent,
        served.connect() as slow_head,
        served.connect() as slow_body,
        served.connect() as deaf,
    ):
        slow_head.sendall(b"GET / HTTP/1.1\r\nHost: loc")
        slow_body.sendall(b"POST /change HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx")
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /stream?flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.get("/").status_code == 200
        for one in (silent, slow_head, slow_body):
            assert received(one) == b"", "dropped without an answer"

        def is_dropped() -> bool:
            try:
                deaf.sendall(b"x")
            except OSError:
                return True
            return False

        wait_until(is_dropped, "the client that reads nothing is dropped")
        assert client.get("/").status_code == 200


def test_a_dripping_head_is_dropped(shell: Shell) -> None:
    with Served(shell.directory, MOTOKO_TEST_IMPATIENT="1") as served, served.connect() as dripping:
        dripping.sendall(b"GET / HTTP/1.1\r\n")

        def is_dropped() -> bool:
            try:
                dripping.sendall(b"X: y\r\n")
            except OSError:
                return True
            return False

        wait_until(is_dropped, "more bytes give no more time")


# --- the end ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_server_and_its_streams(
    by_socket: Served, number: signal.Signals
) -> None:
    with by_socket.signed_in() as client, client.stream("GET", "/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines) == f"data: {SECRET_TEXT} 0"
        assert by_socket.stop(number) == 0
        for _ in lines:  # a proper end, otherwise httpx raises an error
            pass
    assert not by_socket.socket.exists()
    assert "Traceback" not in by_socket.output


def test_a_suspended_page_delays_no_run(by_socket: Served) -> None:
    shell = Shell(by_socket.directory)
    with by_socket.signed_in() as client, client.stream("GET", "/stream") as stream:
        assert next(stream.iter_lines())
        by_socket.process.send_signal(signal.SIGSTOP)
        try:
            shell.ok("run", "--run_name", "first")
            assert shell.counts("s", "first") == {"FINISHED": 2}
            assert "SIGSTOP" in shell.run("serve").stderr
        finally:
            by_socket.process.send_signal(signal.SIGCONT)
            shell.close()
        assert client.get("/").status_code == 200


def test_a_moved_workflow_ends_the_server(by_socket: Served) -> None:
    moved = by_socket.directory.with_name("elsewhere")
    by_socket.directory.rename(moved)
    assert by_socket.process.wait(60) == 1
    assert "moved or removed" in (moved / "serve.log").read_text()


@pytest.mark.parametrize("arguments", [(), PORT])
def test_a_detached_server_runs_until_it_is_stopped(
    shell: Shell, arguments: tuple[str, ...]
) -> None:
    printed = shell.ok("serve", "--detach", *arguments)
    record = listening.served(StateDir.of(shell.directory))
    assert record is not None
    try:
        assert f"Process {record.process.pid} serves it" in printed
        log = shell.directory / ".wf" / "logs" / "web.log"
        assert str(log) in printed
        assert mode(log) == "-rw-------"
        assert "token" not in log.read_text()
        again = shell.run("serve", "--detach")
        assert again.returncode == 1
        assert f"by process {record.process.pid}" in again.stderr
        if arguments:
            link = next(word for word in printed.split() if "token=" in word)
            assert httpx.get(link, trust_env=False).status_code == 303
        else:
            assert (shell.directory / ".wf" / "web.sock").is_socket()
    finally:
        stopped = shell.ok("serve", "--stop")
    assert f"stopped process {record.process.pid}" in stopped
    assert listening.served(StateDir.of(shell.directory)) is None
    assert "no process serves the page" in shell.ok("serve", "--stop")


def test_a_detached_server_that_cannot_start_says_why(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = shell.run("serve", "--detach", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert "cannot be used" in done.stderr


@pytest.mark.parametrize("content", ["", "abc", "0" * 63, "g" * 64])
def test_a_damaged_secret_is_replaced(shell: Shell, content: str) -> None:
    file = StateDir.of(shell.directory).web_secret
    file.parent.mkdir(0o700)
    file.write_text(content)
    with Served(shell.directory):
        assert len(file.read_text()) == 64
        assert file.read_text() != content
        assert mode(file) == "-rw-------"


def test_a_reader_of_the_output_that_exits_ends_the_server(shell: Shell) -> None:
    with subprocess.Popen(
        [*MODULE, "serve"], cwd=shell.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == ExitStatus.BROKEN_PIPE
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert not (shell.directory / ".wf" / "web.sock").exists()


def test_serve_without_the_extra_names_it(shell: Shell) -> None:
    hide = "import sys; sys.modules['starlette'] = None\nfrom motoko.cli import main\n"
    program = (sys.executable, "-c", f"{hide}sys.exit(main(sys.argv[1:]))")
    done = shell.run_fresh("serve", program=program)
    assert done.returncode == 1
    assert "serve needs starlette" in done.stderr
    assert "pip install 'motoko[web]'" in done.stderr
