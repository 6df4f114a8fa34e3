"""The fields of a submitted form, without the package that Starlette needs for file uploads."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from starlette.requests import Request

FORM = "application/x-www-form-urlencoded"


def is_form(content_type: str) -> bool:
    """Return whether a Content-Type header is that of a form without files."""
    return content_type.partition(";")[0].strip().lower() == FORM


def parse_form(body: bytes) -> dict[str, list[str]]:
    """Return the values of each field."""
    return parse_qs(body.decode("latin-1"), keep_blank_values=True)


async def read_form(request: Request) -> dict[str, list[str]]:
    """Return the values of each field of a request; empty if it carries no form."""
    if not is_form(request.headers.get("content-type", "")):
        return {}
    return parse_form(await request.body())
