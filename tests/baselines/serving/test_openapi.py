"""Requests made from the API's own description never meet a fault of the server."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from tiny_server import IDS, Serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of schemathesis's own libraries
]
ROUTES = 10


def test_no_request_that_fits_or_breaks_the_description_is_a_fault(serve: Serve) -> None:
    server = serve()
    schema = schemathesis.openapi.from_dict(server.client.get("/openapi.json").json())
    tried, statuses = set(), set()
    for found in schema.get_all_operations():
        operation = found.ok()
        modes = list(schemathesis.GenerationMode)
        for mode in modes if operation.body else modes[:1]:  # nothing to break without a body
            strategy = operation.as_strategy(generation_mode=mode)

            @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
            @given(case=strategy)
            def ask(case: schemathesis.Case) -> None:
                answer = case.call(base_url=server.url, timeout=30)
                statuses.add(answer.status_code)
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)

            ask()
        tried.add(operation.path)
    assert len(tried) == ROUTES
    assert {200, 422} <= statuses
    assert server.post("recommend", {"history": IDS[3:6]}).status_code == 200
