"""Send one POST request: ``python -m motoko.runtime.webhook``, a process that can be killed.

A request in a thread could not be ended: the search for an address has no time limit, and a server
can send its answer one byte at a time. The URL comes on standard input, where other users of the
machine cannot read it: JSON with ``url``, ``content`` and ``seconds``.
"""

from __future__ import annotations

import json
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib import request
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

SENT: Final = 0
REFUSED: Final = 1  # the message was certainly not accepted
UNKNOWN: Final = 2


class _NoRedirects(request.HTTPRedirectHandler):
    """Treats a redirection as an error: it could lead to another host or scheme."""

    def redirect_request(self, *_: Any) -> None:
        """Follow no redirection."""


def post(url: str, content: Mapping[str, Any], seconds: float) -> tuple[int, str]:
    """Send a request; return SENT, REFUSED or UNKNOWN, and the problem without the URL."""
    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        _NoRedirects(),
    ):
        opener.add_handler(handler)
    headers = {"Content-Type": "application/json", "User-Agent": "motoko"}
    try:
        # Only the handlers above exist, so only http and https are possible.
        message = request.Request(url, json.dumps(content).encode(), headers)  # noqa: S310
        with opener.open(message, timeout=seconds):
            return SENT, ""
    except HTTPError as error:
        with error:
            return REFUSED, _status(error.code)
    except URLError as error:  # before or while the request was sent
        return REFUSED, _without(url, f"cannot connect: {error.reason}")
    except Exception as error:  # noqa: BLE001 - the answer can be anything
        return UNKNOWN, _without(url, f"no valid answer: {type(error).__name__}: {error}")


def _status(code: int) -> str:
    try:
        return f"HTTP {code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"HTTP {code}"


def _without(url: str, text: str) -> str:
    parts = urlsplit(url)
    for secret in (url, f"{parts.path}?{parts.query}", parts.path, parts.query):
        text = text.replace(secret, "...") if len(secret) > 1 else text
    return text


def main() -> int:
    """Send the request on standard input; print a problem."""
    given = json.loads(sys.stdin.buffer.read())
    result, problem = post(given["url"], given["content"], given["seconds"])
    sys.stdout.write(problem)
    return result


if __name__ == "__main__":
    sys.exit(main())
