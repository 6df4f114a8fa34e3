"""The rules that admit or deny a request: pure decisions on its method, path and headers.

A page of another origin must neither read nor act. Three rules ensure this: the host names this
server (against DNS rebinding), the browser reports the same origin, and a request that changes
something carries a CSRF token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SAFE_METHODS: Final = frozenset({"GET", "HEAD"})
SAME_ORIGIN: Final = frozenset({"", "same-origin", "none"})  # "": the client is no browser
STATIC: Final = "/static/"
DEFAULT_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Denial:
    """The reason why a request is denied, and the next step."""

    status: int
    title: str
    text: str
    hint: str


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The part of a request that decides on access. Headers that are absent are empty."""

    method: str
    path: str
    host: str = ""
    origin: str = ""
    site: str = ""  # Sec-Fetch-Site
    mode: str = ""  # Sec-Fetch-Mode
    destination: str = ""  # Sec-Fetch-Dest

    @classmethod
    def of(cls, method: str, path: str, headers: Mapping[str, str]) -> RequestFacts:
        """Return the facts of a request; the names of ``headers`` are in lower case."""
        return cls(
            method,
            path,
            host=headers.get("host", ""),
            origin=headers.get("origin", ""),
            site=headers.get("sec-fetch-site", ""),
            mode=headers.get("sec-fetch-mode", ""),
            destination=headers.get("sec-fetch-dest", ""),
        )

    @property
    def is_safe(self) -> bool:
        """Whether the method changes nothing."""
        return self.method in SAFE_METHODS

    @property
    def is_static(self) -> bool:
        """Whether the path is that of a static file, which everybody may read."""
        return self.is_safe and self.path.startswith(STATIC)

    @property
    def is_document(self) -> bool:
        """Whether a browser shows the response as a page of its own."""
        return self.method == "GET" and self.destination in {"", "document"}

    @property
    def is_foreign_navigation(self) -> bool:
        """Whether the user followed a link of another site."""
        foreign = self.site not in SAME_ORIGIN
        return foreign and self.is_document and self.mode == "navigate"


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """The rules of one server. ``port`` is None if it listens on a Unix socket.

    ``extra_hosts`` are names (``hub.example.org`` or ``hub.example.org:8000``) under which a proxy
    publishes the page.
    """

    port: int | None = None
    read_only: bool = False
    extra_hosts: frozenset[str] = frozenset()
    max_body: int = 1 << 20
    max_streams: int = 32

    @property
    def needs_session(self) -> bool:
        """Whether requests need a session: other users can connect to a port."""
        return self.port is not None

    def decide(self, facts: RequestFacts) -> Denial | None:
        """Return why a request is denied before its session is known, None if it is not."""
        if not self.allows_host(facts.host):
            return WRONG_HOST
        if not self._is_same_origin(facts):
            return FOREIGN_ORIGIN
        if self.read_only and not facts.is_safe:
            return READ_ONLY
        return None

    def allows_host(self, host: str) -> bool:
        """Return whether a Host header names this server."""
        name, port = split_host(host)
        if not name:
            return False
        if name in self.extra_hosts or f"{name}:{port}" in self.extra_hosts:
            return True
        # `ssh -L` gives a socket any port.
        return name in LOOPBACK and (self.port is None or port == self.port)

    @staticmethod
    def _is_same_origin(facts: RequestFacts) -> bool:
        if facts.is_foreign_navigation and not facts.origin:
            return True
        if facts.site not in SAME_ORIGIN:
            return False
        if facts.destination in {"iframe", "frame", "embed", "object"}:
            return False
        return not facts.origin or is_origin_of(facts.origin, facts.host)


def split_host(host: str) -> tuple[str, int | None]:
    """Return the name and the port of a Host header; ("", None) if it is invalid."""
    try:
        parts = urlsplit(f"//{host}")
        name, port = parts.hostname or "", parts.port
    except ValueError:
        return "", None
    if parts.netloc != host or parts.username is not None or host.endswith(":"):
        return "", None
    return name.lower().removesuffix("."), port


def is_origin_of(origin: str, host: str) -> bool:
    """Return whether an Origin header names the server of a Host header."""
    scheme, separator, rest = origin.partition("://")
    if not separator or scheme not in DEFAULT_PORTS:
        return False
    (name, port), (own_name, own_port) = split_host(rest), split_host(host)
    default = DEFAULT_PORTS[scheme]
    return bool(name) and (name, port or default) == (own_name, own_port or default)


NEW_LINK: Final = (
    "Run `motoko serve --link` in the directory of the workflow. It prints a new link, which works "
    "once."
)
RELOAD: Final = "Go back, reload the page, and repeat the action."
WRONG_HOST: Final = Denial(
    421,
    "Unknown host name",
    "This server does not serve the host name in the address.",
    "Use the address that `motoko serve` printed. For a proxy, start it with "
    "`motoko serve --allow-host NAME`.",
)
FOREIGN_ORIGIN: Final = Denial(
    403,
    "Request from another site",
    "The browser sent this request for a page of another site. Nothing was changed.",
    "Open the address that `motoko serve` printed.",
)
READ_ONLY: Final = Denial(
    403,
    "This page is read-only",
    "The server was started with --read-only, so the page cannot change anything.",
    "Use the command line, or start `motoko serve` without --read-only.",
)
NO_SESSION: Final = Denial(
    403,
    "No access from this browser",
    "This page belongs to the user who started it, and this browser has no valid session.",
    NEW_LINK,
)
WRONG_TOKEN: Final = Denial(
    403,
    "This link is not valid",
    "A link opens the page once. This one was used before, or another server printed it.",
    NEW_LINK,
)
WRONG_CSRF_TOKEN: Final = Denial(
    403,
    "This page is out of date",
    "The request does not carry the token of the current session. Nothing was changed.",
    RELOAD,
)
TOO_LARGE: Final = Denial(
    413, "Request too large", "The request has too much data.", "Select fewer runs at a time."
)
