from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from openapi_spec_validator import validate

from secretsd.api.guards import GUARDS
from secretsd.api.routes import ROUTES, document
from secretsd.api.routing import ClientRoute, Router
from secretsd.errors import PROBLEM_STATUS
from tests.unit.api.conftest import Ask

WRITTEN = Path(__file__).parents[3] / "docs" / "openapi.json"


def test_the_document_is_valid_openapi() -> None:
    parsed = json.loads(document())
    assert parsed["openapi"] == "3.1.0"
    validate(parsed)


def test_the_written_document_is_what_the_code_says() -> None:
    assert document() == WRITTEN.read_bytes(), "run `python -m secretsd.api.openapi > docs/openapi.json`"


def test_the_module_prints_the_document() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "secretsd.api.openapi"], capture_output=True, check=True, timeout=60
    )
    assert (printed.stdout, printed.stderr) == (document(), b"")


def test_the_document_and_the_router_hold_the_same_calls() -> None:
    paths = json.loads(document())["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    routed = Router(ROUTES).pairs()
    assert described == {pair for pair in routed if pair[0] != "HEAD"}
    assert {path for method, path in routed if method == "HEAD"} == {
        path for method, path in described if method == "GET"
    }


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_route_names_known_problems_and_describes_its_name(route: ClientRoute) -> None:
    assert set(route.problems) <= PROBLEM_STATUS.keys()
    assert ("{name}" in route.path) == any(one.where == "path" for one in route.parameters)
    assert ("too-large" in route.problems) == (route.body is not None)


def test_every_call_may_find_that_its_refusal_cannot_be_audited() -> None:
    for path, methods in json.loads(document())["paths"].items():
        for method, operation in methods.items():
            assert "audit-unavailable" in operation["responses"]["503"]["description"], (method, path)


def test_health_is_told_in_its_own_form_and_a_refusal_of_it_as_a_problem() -> None:
    health = json.loads(document())["paths"]["/healthz"]["get"]["responses"]["503"]
    assert health["content"].keys() == {"application/json", "application/problem+json"}


def test_actions_are_told_apart() -> None:
    assert len({route.action for route in ROUTES}) == len(ROUTES)


async def test_the_document_is_served(ask: Ask) -> None:
    reply = await ask("GET", "/openapi.json", client=None)
    assert reply.body == document()
    assert reply.headers["content-type"] == "application/json"


def test_the_reference_names_every_call_guard_and_slug() -> None:
    page = (WRITTEN.parent / "http.md").read_text()
    for route in ROUTES:
        assert f"`{route.method} {route.path}" in page
    for guard in GUARDS:
        assert f"`{guard.__name__}`" in page
    assert page.index("`target_is_a_path`") < page.index("`body_is_json`") < page.index("`identify`")
    for slug in PROBLEM_STATUS:
        assert f"`{slug}`" in page
