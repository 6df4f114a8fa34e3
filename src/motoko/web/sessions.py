"""Sessions, links and CSRF tokens: random numbers, signed with a secret of the workflow.

The secret is in a private file. So sessions survive a restart of the server, and another process of
the same user can print a link. The server remembers only which links were used.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from motoko.runtime.files import write_atomic
from motoko.runtime.untrusted_files import read_file

if TYPE_CHECKING:
    from pathlib import Path

    from motoko.runtime.ports import Random

SECRET_BYTES: Final = 32
NONCE_BYTES: Final = 16
_SECRET: Final = re.compile(f"[0-9a-f]{{{2 * SECRET_BYTES}}}")


@dataclass(frozen=True, slots=True)
class Session:
    """One browser: the value of its cookie, and the token that its changes must carry."""

    cookie: str
    csrf_token: str


def read_secret(file: Path) -> bytes | None:
    """Return the secret in a private file; None if the file is missing or damaged."""
    text = read_file(file).text
    return text.encode() if _SECRET.fullmatch(text) else None


def ensure_secret(file: Path, rng: Random) -> bytes:
    """Return the secret in a private file; write a new one if there is none."""
    found = read_secret(file)
    if found is None:
        found = rng.token(SECRET_BYTES).encode()
        write_atomic(file, found)
    return found


@dataclass(slots=True)
class Sessions:
    """Issues and verifies the sessions and links of one server.

    ``scope`` separates sessions by socket from those by port. ``instance`` is a random name of the
    server process: links do not outlive it.
    """

    secret: bytes
    scope: str
    instance: str
    rng: Random
    _used: set[str] = field(default_factory=set)

    def issue(self) -> Session:
        """Return a new session."""
        return self._session(self._issue(f"session:{self.scope}"))

    def find(self, cookie: str) -> Session | None:
        """Return the session of a cookie; None if it is not valid."""
        valid = self._verify(f"session:{self.scope}", cookie)
        return self._session(cookie) if valid else None

    def issue_link_token(self) -> str:
        """Return a token that opens one session."""
        return self._issue(self._link)

    def redeem(self, token: str) -> bool:
        """Return whether a link token is valid; it is not afterwards."""
        if not self._verify(self._link, token) or token in self._used:
            return False
        self._used.add(token)
        return True

    @property
    def _link(self) -> str:
        return f"link:{self.scope}:{self.instance}"

    def _session(self, cookie: str) -> Session:
        return Session(cookie, self._sign(f"csrf:{self.scope}", cookie))

    def _issue(self, purpose: str) -> str:
        nonce = self.rng.token(NONCE_BYTES)
        return f"{nonce}.{self._sign(purpose, nonce)}"

    def _verify(self, purpose: str, text: str) -> bool:
        nonce, _, signature = text.partition(".")
        return is_equal(signature, self._sign(purpose, nonce))

    def _sign(self, purpose: str, text: str) -> str:
        message = f"{purpose}\0{text}".encode(errors="replace")
        return blake2b(message, key=self.secret, digest_size=16).hexdigest()


def is_equal(one: str, other: str) -> bool:
    """Compare two tokens in constant time."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))
