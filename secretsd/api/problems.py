"""Errors as answers: RFC 9457, one shape for all, and nothing from the request in any of them."""

from __future__ import annotations

import logging
from pathlib import PurePath
from traceback import walk_tb
from typing import Final

from secretsd.api.answers import Answer
from secretsd.errors import Problem
from secretsd.model import ProblemDetails

log = logging.getLogger("secretsd.api")

PROBLEM_JSON: Final = "application/problem+json"

TITLES: Final = {
    "missing-client": "No client is named",
    "unknown-client": "The client is not known",
    "bad-credential": "The credential is not right",
    "forbidden": "The policy doesn't allow this",
    "foreign-request": "The request comes from elsewhere",
    "not-found": "There is no such thing",
    "version-not-found": "There is no such version",
    "method-not-allowed": "The method doesn't fit the path",
    "exists": "The secret exists",
    "behind": "The vault is behind",
    "passphrase-pending": "A changed passphrase was not used yet",
    "rotation-pending": "A rotation is under way",
    "history-gone": "That far back isn't known",
    "precondition-failed": "The current version is another",
    "too-large": "The body is too large",
    "unsupported-media-type": "The body isn't JSON",
    "value-required": "A value is needed",
    "invalid-request": "The request isn't right",
    "too-many-requests": "Too many requests",
    "internal-error": "An error of the daemon",
    "audit-unavailable": "The audit can't be written",
    "outcome-unknown": "The outcome isn't known yet",
    "vault-unavailable": "The vault can't be used",
}


def unreadable(detail: str) -> Problem:
    """Return the problem of a request that can't be read at all (400)."""
    return Problem("invalid-request", detail, status=400)


def invalid(detail: str) -> Problem:
    """Return the problem of a request in which something is wrong (422)."""
    return Problem("invalid-request", detail)


def render(problem: Problem, request_id: str) -> Answer:
    """Return `problem` as an answer, with the headers that belong to it."""
    headers = dict(problem.headers)
    if problem.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    details = ProblemDetails(
        type=problem.slug,
        title=TITLES[problem.slug],
        status=problem.status,
        detail=problem.detail,
        request_id=request_id,
    )
    answer = Answer.of(details, status=problem.status, position=problem.position, headers=headers)
    answer.content_type = PROBLEM_JSON
    return answer


def where(error: BaseException) -> str:
    """Return an error's type and the places it came through; never its message, which can hold anything."""
    frames = [(frame.f_code, line) for frame, line in walk_tb(error.__traceback__)][-8:]
    places = " > ".join(f"{PurePath(code.co_filename).name}:{line} {code.co_name}" for code, line in frames)
    return f"{type(error).__name__} at {places or 'an unknown place'}"


def unexpected(error: BaseException, request_id: str) -> Problem:
    """Log what nobody foresaw and return the problem that says nothing about it."""
    log.error("request %s failed: %s", request_id, where(error))
    return Problem(
        "internal-error",
        "Look for the request_id in the daemon's log; whether the call took effect isn't known.",
    )
