"""How the ingress says no: a status and a body that OpenAI's clients understand."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """An answer other than success, in the shape that OpenAI's clients understand."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}
