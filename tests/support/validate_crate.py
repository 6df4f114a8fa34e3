"""Validate an RO-Crate without network: ``python validate_crate.py CRATE PROFILE SEVERITY``.

The Python of the program ``rocrate-validator`` executes this file, so it needs nothing of Motoko.
It prints the issues as a JSON array. The validator loads the JSON-LD context of RO-Crate 1.1 from
the web; this file answers with the terms below, which are those that Motoko's crates use.
"""

from __future__ import annotations

import email.message
import io
import json
import sys
import urllib.request
import urllib.response
from importlib import import_module
from typing import Any

import requests

CONTEXT_URL = "https://w3id.org/ro/crate/1.1/context"
SCHEMA_ORG = (
    "ComputerLanguage", "CreateAction", "CreativeWork", "Dataset", "Person", "PropertyValue",
    "SoftwareSourceCode", "about", "actionStatus", "agent", "author", "contentSize",
    "datePublished", "description", "encodingFormat", "endTime", "error", "hasPart", "identifier",
    "instrument", "license", "mainEntity", "mentions", "name", "object", "programmingLanguage",
    "result", "startTime", "url", "value", "version",
)  # fmt: skip
OTHERS = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "File": "http://schema.org/MediaObject",
    "conformsTo": "http://purl.org/dc/terms/conformsTo",
}
TERMS = {**{term: f"http://schema.org/{term}" for term in SCHEMA_ORG}, **OTHERS}


def context(url: str) -> bytes:
    """Return the context; refuse other addresses."""
    if url != CONTEXT_URL:
        raise OSError(f"no network for {url}")
    return json.dumps({"@context": TERMS}).encode()


def answer(_: Any, request: Any, **__: Any) -> Any:
    """Answer a request of the library requests."""
    response = requests.Response()
    response.status_code, response.url, response.request = 200, request.url, request
    response.headers["Content-Type"] = "application/ld+json"
    response.raw = io.BytesIO(context(request.url))
    return response


class Answers(urllib.request.HTTPSHandler):
    """Answers requests of the standard library."""

    def https_open(self, req: urllib.request.Request) -> Any:
        headers = email.message.Message()
        headers["Content-Type"] = "application/ld+json"
        body = io.BytesIO(context(req.full_url))
        response = urllib.response.addinfourl(body, headers, req.full_url, 200)
        response.msg = "OK"  # type: ignore[attr-defined]  # urllib reads it
        return response


def main(crate: str, profile: str, severity: str) -> None:
    """Print the issues."""
    models = import_module("rocrate_validator.models")
    services = import_module("rocrate_validator.services")
    requests.adapters.HTTPAdapter.send = answer  # type: ignore[assignment]
    urllib.request.install_opener(urllib.request.build_opener(Answers))
    settings = services.ValidationSettings(
        rocrate_uri=crate,
        profile_identifier=profile,
        requirement_severity=models.Severity[severity],
        no_cache=True,
    )
    result = services.validate(settings)
    json.dump(
        [f"{issue.severity.name} {issue.message}" for issue in result.get_issues()], sys.stdout
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
