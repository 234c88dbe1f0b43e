"""The OpenAPI description is valid, and says what needs a key and what the limits are."""

from __future__ import annotations

import pytest

from serve_apps.guard.settings import BodyLimits
from serve_apps.openapi import ADMIN, SECURITY, openapi


def test_the_description_is_openapi_and_says_what_needs_a_key() -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator
    for document in (openapi("1.2"), openapi("1.2", keys=True, limits=BodyLimits(max_n=3))):
        for schema in document["components"]["schemas"].values():
            validator.check_schema(schema)
    assert document["paths"]["/health"]["get"]["security"] == []
    assert document["paths"]["/metrics"]["get"]["security"] == [{ADMIN: []}]
    assert document["security"] == [{SECURITY: []}]
    chat = document["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
    assert chat["application/json"]["schema"]["properties"]["n"]["maximum"] == 3
