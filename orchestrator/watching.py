"""Asking a running pool what it sees: where it is, and its answers as data."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlsplit

from orchestrator.deploy.state import StateDir, running_names
from profiler.errors import ClusterError, InputError
from serve_apps.seeing.paths import EXPLAIN_PATH, LIVE_PATH

TIMEOUT_S = 10.0
TRIES = 16
"""Ingress processes share a port, and each remembers its own requests: ask that many times."""
MOST_BYTES = 32 * 1024 * 1024


def pool_url(service: str | None, url: str | None) -> str:
    """The address of a pool: the one given, or that of a service on this machine.

    Raises:
        InputError: there is no such pool, or several and none was named.
    """
    if url is not None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise InputError(f"--url is {url!r}, expected such as http://127.0.0.1:8000")
        return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/v1')}"
    if service is None:
        names = running_names()
        if len(names) != 1:
            found = f"{', '.join(names)} run" if names else "none runs"
            raise InputError(f"which service? {found} on this machine; name one, or give --url")
        service = names[0]
    state = StateDir(service)
    status = state.read_status() if state.supervisor() else None
    if status is None:
        raise InputError(f"no service {service!r} runs on this machine; --url names one elsewhere")
    return status.url.removesuffix("/v1")


def look(base: str, key: str | None = None) -> dict[str, Any]:
    """What goes on now in the pool.

    Raises:
        ClusterError: it cannot be reached, refuses, or answers something else.
    """
    return _get(base + LIVE_PATH, key)


def explain(base: str, request_id: str, key: str | None = None) -> dict[str, Any]:
    """One request's course.

    Raises:
        InputError: none of the ingress processes asked knows the request.
        ClusterError: the pool cannot be reached, refuses, or answers something else.
    """
    url = base + EXPLAIN_PATH.replace("{request_id}", quote(request_id, safe=""))
    told = ""
    for _ in range(TRIES):
        try:
            return _get(url, key)
        except _UnknownError as error:
            told = str(error)
    raise InputError(told)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The key is meant for the address that was named."""

    def redirect_request(self, *_args: Any, **_named: Any) -> None:
        return None


def opener(url: str) -> urllib.request.OpenerDirector:
    """Environment's proxies, but none to this machine."""
    local = (urlsplit(url).hostname or "") in ("127.0.0.1", "localhost", "::1")
    proxies = (urllib.request.ProxyHandler({}),) if local else ()
    return urllib.request.build_opener(_NoRedirect, *proxies)


class _UnknownError(Exception):
    """404 from an ingress that does not know the request."""


def _get(url: str, key: str | None) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    request = urllib.request.Request(url, headers=headers)
    try:
        # A new connection each time: another ingress process may take it.
        with opener(url).open(request, timeout=TIMEOUT_S) as answer:
            found = json.loads(answer.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        raise _refused(url, error) from None
    except (OSError, ValueError) as error:
        raise ClusterError(f"{url}: {getattr(error, 'reason', error)}") from None
    if not isinstance(found, dict):
        raise ClusterError(f"{url}: expected a JSON object; is this a pool of ours?")
    return found


def _refused(url: str, error: urllib.error.HTTPError) -> Exception:
    try:
        told = json.loads(error.read(MOST_BYTES))["error"]
        message, code = str(told["message"]), told.get("code")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        message, code = error.reason, None
    if error.code == 404 and code == "unknown_request":
        return _UnknownError(message)
    mend = "; give the admin key as ORCHESTRATOR_ADMIN_KEY" if error.code in (401, 403) else ""
    return ClusterError(f"{url}: {error.code}: {message}{mend}")
