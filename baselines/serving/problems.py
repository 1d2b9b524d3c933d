"""Refusals as problem details in JSON (RFC 9457), each with one line that says what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
_LONGEST = 1000  # characters of a line


class Problem(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status code.
        detail: What is wrong, and what to do, in one line.
        headers: Further headers of the response.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers

    def response(self) -> Response:
        """The response to send."""
        line = " ".join(self.detail.split())
        line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} ..."
        content = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": line,
        }
        # in ASCII, since a message may quote text that is no Unicode
        return Response(json.dumps(content), self.status, self.headers, MEDIA_TYPE)


class Malformed(Problem):
    """A request whose body has other fields or types than the API's.

    Args:
        error: The error found by FastAPI.
    """

    def __init__(self, error: RequestValidationError) -> None:
        first = error.errors()[0]
        if first["type"] == "json_invalid":
            reason = first.get("ctx", {}).get("error", "")
            super().__init__(400, f"expected a body in JSON, got something else: {reason}")
            return
        if isinstance(first.get("input"), bytes):
            super().__init__(415, "expected Content-Type: application/json, got another or none")
            return
        place = ".".join(str(part) for part in first["loc"][1:]) or "the body"
        super().__init__(422, f"{place}: {first['msg']}, got {_shown(first.get('input'))}")


def add_handlers(app: FastAPI) -> None:
    """Answer all errors of a request as problems."""

    async def refused(_: Request, error: Exception) -> Response:
        return problem_of(error).response()

    for kind in (Problem, RequestValidationError, HTTPException, ValueError):
        app.add_exception_handler(kind, refused)


def problem_of(error: Exception) -> Problem:
    """What to answer after an error: a ``ValueError`` tells of bad input."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, RequestValidationError):
        return Malformed(error)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, str(error.detail), error.headers)
    return Problem(422, str(error))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The description of refusals in OpenAPI."""
    schema = {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
        },
    }
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }
