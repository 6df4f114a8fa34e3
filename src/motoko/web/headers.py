"""The headers that every response carries."""

from __future__ import annotations

from typing import Final

CONTENT_SECURITY_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ]
)
SECURITY_HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    # Not no-referrer: with it, browsers send "Origin: null" with the forms of the page itself.
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
CACHE_CONTROL: Final = b"cache-control"
NO_STORE: Final = b"no-store"
REVALIDATE: Final = b"no-cache"  # keep, but ask with the ETag


def secured(
    headers: list[tuple[bytes, bytes]], *, static: bool = False
) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response with those that every response carries."""
    fixed = {name for name, _ in SECURITY_HEADERS}
    names = {name.lower() for name, _ in headers}
    kept = [(name, value) for name, value in headers if name.lower() not in fixed]
    if CACHE_CONTROL not in names:
        kept.append((CACHE_CONTROL, REVALIDATE if static else NO_STORE))
    return [*kept, *SECURITY_HEADERS]
