"""A logging filter that keeps secrets out of every line, tracebacks too."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from profiler.secret_text import HIDDEN, redact

SECRET_NAMES = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api_key",
     "api-key", "password", "token", "hf_token", "secret"}
)  # fmt: skip
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class Redacting(logging.Filter):
    """Rewrites a record before a handler formats it. Put it on handlers: a logger's own filters
    do not see what comes from its children."""

    _formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true; the record is changed."""
        record.msg, record.args = redact(_message(record)), None
        if record.exc_info:
            record.exc_text = self._formatter.formatException(record.exc_info)
            record.exc_info = None  # formatters print exc_text; none of them makes its own
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        for name, value in vars(record).items():
            if name not in _STANDARD:
                setattr(record, name, redacted(value, name))
        return True


def redacted(value: Any, name: str = "") -> Any:
    """Plain data without secrets: by the name they stand under, or by what they look like."""
    if isinstance(value, str | bytes):
        if name.casefold() in SECRET_NAMES:
            return HIDDEN
        return redact(value if isinstance(value, str) else value.decode("utf-8", "replace"))
    if isinstance(value, dict):
        return {k: redacted(v, _text(k)) for k, v in value.items()}
    if isinstance(value, tuple | list):
        pair = len(value) == 2 and _text(value[0]).casefold() in SECRET_NAMES  # a header
        items = (value[0], HIDDEN) if pair else map(redacted, value)
        return tuple(items) if isinstance(value, tuple) else list(items)
    return value


def guard_logs(loggers: Iterable[logging.Logger] | None = None) -> None:
    """Put the filter on every handler of these loggers, by default the root's; once each."""
    for logger in loggers if loggers is not None else [logging.getLogger()]:
        for handler in logger.handlers:
            if not any(isinstance(f, Redacting) for f in handler.filters):
                handler.addFilter(Redacting())


def _message(record: logging.LogRecord) -> str:
    """The message with its arguments, each redacted by itself where it is plain data."""
    if isinstance(record.args, tuple):
        plain = (dict, list, tuple)
        record.args = tuple(redacted(a) if isinstance(a, plain) else a for a in record.args)
    elif record.args:
        record.args = redacted(dict(record.args))
    try:
        return record.getMessage()
    except (TypeError, ValueError):
        return f"{record.msg} {record.args}"


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
