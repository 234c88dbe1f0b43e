"""A Ray cluster's dashboard: its REST API, with what goes wrong there in words."""

from __future__ import annotations

import http.client
import json
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode, urlsplit

from orchestrator.watching import opener
from profiler.errors import ClusterError, InputError

Object = dict[str, Any]

ADDRESS_VARIABLE = "RAY_DASHBOARD_ADDRESS"
TOKEN_VARIABLE = "RAY_AUTH_TOKEN"
TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN_PATH"
TOKEN_FILE = Path("~/.ray/auth_token")
LEAST_VERSION = (2, 60)
"""Older ones pass over fields that place replicas, without a word."""
TIMEOUT_S = 30.0
SLOW_TIMEOUT_S = 180.0
"""The first question about Serve connects the dashboard to Ray; the first application starts it."""
APPLICATIONS = "/api/serve/applications/"
AGENT = "llm-orchestrator"
"""Not a browser's: those get Ray's configs with their secrets blanked out."""
MANY = 10_000


class RefusedError(ClusterError):
    """The dashboard answered with an error; ``status`` is its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


class AwayError(ClusterError):
    """The dashboard, or what is behind it, does not answer now."""


class Dashboard:
    """One cluster's dashboard. Every method raises ClusterError where it cannot do its work."""

    def __init__(self, url: str, token: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s

    @classmethod
    def connect(cls, address: str | None = None) -> Self:
        """The dashboard at an address, else at RAY_DASHBOARD_ADDRESS; the token as Ray finds it.

        Raises:
            InputError: no address, or none of a dashboard.
            ClusterError: nobody answers there, the token is refused, or its Ray is too old.
        """
        found = cls(checked_address(address or os.environ.get(ADDRESS_VARIABLE)), ray_token())
        found.check_version()
        return found

    @property
    def host(self) -> str:
        """The machine of the dashboard."""
        return urlsplit(self.url).hostname or ""

    def check_version(self) -> None:
        """
        Raises:
            ClusterError: this is no dashboard, or one of a Ray that is too old.
        """
        told = self._get("/api/version")
        version = told.get("ray_version", "") if isinstance(told, dict) else ""
        parts = version.split(".")
        if len(parts) < 2 or not all(p.isdigit() for p in parts[:2]):
            raise ClusterError(f"{self.url} is no Ray dashboard")
        if (int(parts[0]), int(parts[1])) < LEAST_VERSION:
            least = ".".join(map(str, LEAST_VERSION))
            raise ClusterError(f"{self.url} runs Ray {version}; {least} or newer is needed")

    def serving(self) -> Object:
        """What Serve says of itself and of all applications; none where it does not run."""
        return self._object(APPLICATIONS, SLOW_TIMEOUT_S)

    def put(self, config: Mapping[str, Any]) -> None:
        """Make these the applications of the cluster that are deployed by config.

        Raises:
            RefusedError: Serve found fault with it.
        """
        self._call("PUT", APPLICATIONS, json.dumps(config).encode(), timeout_s=SLOW_TIMEOUT_S)

    def scale(self, application: str, deployment: str, replicas: int) -> None:
        """Set a deployment's number of replicas; none is allowed.

        Raises:
            RefusedError: it is not there, or not scaled from outside.
        """
        path = f"/api/v1/applications/{quote(application)}/deployments/{quote(deployment)}/scale"
        self._call("POST", path, json.dumps({"target_num_replicas": replicas}).encode())

    def nodes(self) -> list[Object]:
        """All nodes, dead ones too, with labels and resources."""
        told = self._object("/api/v0/nodes?" + urlencode({"detail": 1, "limit": MANY}))
        found: list[Object] = told["data"]["result"]["result"]
        return found

    def used(self) -> dict[str, Object]:
        """Resources in use by node, [used, total] each; empty where Ray does not tell."""
        data = self._object("/api/cluster_status").get("data") or {}
        report = (data.get("clusterStatus") or {}).get("loadMetricsReport") or {}
        return report.get("usageByNode") or {}

    def has_package(self, name: str) -> bool:
        """Whether a package is there; it is then kept for some minutes without being used."""
        try:
            self._call("GET", f"/api/packages/gcs/{quote(name)}")
        except RefusedError as error:
            if error.status == http.HTTPStatus.NOT_FOUND:
                return False
            raise
        return True

    def upload(self, name: str, content: bytes) -> None:
        """Put a package where every node finds it."""
        self._call("PUT", f"/api/packages/gcs/{quote(name)}", content, timeout_s=SLOW_TIMEOUT_S)

    def log_tail(self, node_id: str, file: str, lines: int = 40) -> str:
        """The end of a log file of Ray's on a node; empty where it cannot be had."""
        query = urlencode({"node_id": node_id, "filename": file, "lines": lines})
        try:
            text = self._call("GET", f"/api/v0/logs/file?{query}").decode("utf-8", "replace")
        except ClusterError:
            return ""
        return text.removeprefix("1")  # how Ray marks that it worked

    def _object(self, path: str, timeout_s: float | None = None) -> Object:
        told = self._get(path, timeout_s)
        if not isinstance(told, dict):
            raise ClusterError(f"{self.url} is no Ray dashboard")
        return told

    def _get(self, path: str, timeout_s: float | None = None) -> Any:
        content = self._call("GET", path, timeout_s=timeout_s)
        try:
            return json.loads(content)
        except ValueError:
            raise ClusterError(f"{self.url} is no Ray dashboard") from None

    def _call(
        self, method: str, path: str, body: bytes | None = None, timeout_s: float | None = None
    ) -> bytes:
        headers = {"User-Agent": AGENT, "Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        asked = urllib.request.Request(self.url + path, body, headers, method=method)
        try:
            with opener(self.url).open(asked, timeout=timeout_s or self._timeout_s) as answer:
                content: bytes = answer.read()
                return content
        except urllib.error.HTTPError as error:
            raise self._refused(error) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise AwayError(
                f"no Ray dashboard answers at {self.url}: {reason}; to mend: give its address with "
                f"--address or {ADDRESS_VARIABLE}, and see that it runs and can be reached"
            ) from None

    def _refused(self, error: urllib.error.HTTPError) -> ClusterError:
        text = error.read().decode("utf-8", "replace").strip()
        if error.code in (401, 403):
            given = "was refused" if self._token else "is missing"
            return RefusedError(
                error.code,
                f"{self.url}: the token {given}; to mend: set {TOKEN_VARIABLE} to the cluster's "
                "token",
            )
        if error.code == 501:
            return RefusedError(501, f"{self.url}: Ray Serve is not installed there: {text}")
        if error.code in (502, 503, 504):
            return AwayError(f"{self.url} cannot answer now: {text or error.reason}")
        return RefusedError(error.code, f"{self.url} refused: {text or error.reason}")


def checked_address(address: str | None) -> str:
    """The dashboard's URL.

    Raises:
        InputError: none is given, or it is Ray's own port or another scheme's.
    """
    mend = "give the dashboard's, such as --address http://HEAD:8265"
    if not address:
        raise InputError(f"no address of a Ray cluster: {mend}, or set {ADDRESS_VARIABLE}")
    parts = urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"address {address!r} is no dashboard's; {mend}")
    return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")


def ray_token() -> str | None:
    """The token, where Ray's own programs look for it."""
    if token := os.environ.get(TOKEN_VARIABLE):
        return token.strip()
    named = os.environ.get(TOKEN_PATH_VARIABLE)
    path = Path(named) if named else TOKEN_FILE.expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None
