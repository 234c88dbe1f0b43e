"""Our own code as a package that a Ray cluster fetches, for images that do not have it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from orchestrator.deploy.rayserve.dashboard import Dashboard

PACKAGES = ("placement", "profiler", "serve_apps")
"""What engines and ingress import; their own requirements must be in the image."""
ROOT = Path(__file__).parents[3]
EPOCH = (1980, 1, 1, 0, 0, 0)
"""One time for all files: equal code gives an equal package."""
SUFFIXES = (".py", ".yaml", ".json")


def code_package(root: Path = ROOT) -> tuple[str, bytes]:
    """The package's name, which tells its content, and its content: a zip."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for package in PACKAGES:
            for path in sorted((root / package).rglob("*")):
                if path.suffix in SUFFIXES or path.parent.name == "data":
                    if path.is_dir() or "__pycache__" in path.parts:
                        continue
                    entry = zipfile.ZipInfo(str(path.relative_to(root)), EPOCH)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, path.read_bytes())
    data = content.getvalue()
    return f"_ray_pkg_{hashlib.sha256(data).hexdigest()[:32]}.zip", data


def code_uri(name: str) -> str:
    """What a runtime environment calls the package."""
    return f"gcs://{name}"


def ship(dashboard: Dashboard, name: str, content: bytes) -> None:
    """Upload the package where it is not there yet.

    Raises:
        ClusterError: the cluster does not take it.
    """
    if not dashboard.has_package(name):
        dashboard.upload(name, content)
