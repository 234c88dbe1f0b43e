"""Which headers are believed, and from which web pages calls may come."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from serve_apps.api_error import ApiError
from serve_apps.guard.settings import is_loopback

Headers = Iterable[tuple[bytes, bytes]]
"""As ASGI gives them: names in lower case, values as bytes."""


OF_PAGES = frozenset((b"origin", b"referer", b"sec-fetch-site"))
"""Headers by which a browser says which page calls."""
_JSON = b"application/json"


def check_body_headers(headers: Headers) -> None:
    """Before a body is read: only plain JSON, so that nothing unfolds into more than was sent.

    A content type that a web form can send is refused too: pages of other sites could send it
    without asking the browser's leave.

    Raises:
        ApiError: 415.
    """
    for name, value in headers:
        if name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            shown = value[:40].decode("latin-1")
            raise ApiError(
                415,
                f"content-encoding {shown!r} is not taken here; send the body uncompressed",
                code="unsupported_encoding",
            )
        if name == b"content-type" and value != _JSON and not _is_json(value):
            shown = value[:60].decode("latin-1")
            raise ApiError(
                415,
                f"content-type {shown!r} is not taken here; expected application/json",
                code="unsupported_media_type",
            )


def check_origin(headers: Headers, allowed: Collection[str] = ()) -> None:
    """Whether a call comes from no web page, or from one of our own or of ``allowed``.

    Raises:
        ApiError: 403, a foreign Origin or Referer, or the browser says it is another site's.
    """
    headers = list(headers)
    for name, _ in headers:
        if name in OF_PAGES:
            break
    else:
        return
    told = {name: value.decode("latin-1").strip() for name, value in headers}
    site = told.get(b"sec-fetch-site", "none")
    own = told.get(b"host", "").casefold()
    for name in (b"origin", b"referer"):
        if (page := told.get(name)) is None:
            continue
        if not _same(page, own, allowed):
            raise _foreign(f"{name.decode()} {page[:100]!r}")
    named = b"origin" in told or b"referer" in told
    if not named and site not in ("none", "same-origin"):
        raise _foreign(f"sec-fetch-site {site[:20]!r}")


def check_local_page(headers: Headers, allowed: Collection[str] = ()) -> None:
    """Whether a page that calls was itself loaded from this machine, by the name it calls.

    Its origin equals the host it calls even where it has pointed a name of its own at 127.0.0.1
    (DNS rebinding), so the name must be this machine's.

    Raises:
        ApiError: 403.
    """
    told = dict(headers)
    if b"origin" not in told or told[b"origin"].decode("latin-1") in allowed:
        return
    if not is_loopback(_hostname(told.get(b"host", b"").decode("latin-1"))):
        raise _foreign(f"host {told.get(b'host', b'')[:100].decode('latin-1')!r}")


def is_local(headers: Headers, host: str | None) -> bool:
    """Whether a call comes from this machine, by its ``host`` and by the name it was made to.

    The name matters: a page can point a name of its own at 127.0.0.1 (DNS rebinding). A call
    that passed a proxy is not local, whoever the proxy is.
    """
    if host is None or not is_loopback(host):
        return False
    names = dict(headers)
    if any(n == b"forwarded" or n.startswith((b"x-forwarded-", b"x-real-ip")) for n in names):
        return False
    return is_loopback(_hostname(names.get(b"host", b"").decode("latin-1")))


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(page: str, own: str, allowed: Collection[str]) -> bool:
    try:
        parts = urlsplit(page)
    except ValueError:
        return False
    if f"{parts.scheme}://{parts.netloc}" in allowed:
        return True
    return parts.scheme in ("http", "https") and bool(own) and parts.netloc.casefold() == own


def _is_json(content_type: bytes) -> bool:
    return content_type.partition(b";")[0].strip().lower() == _JSON


def _foreign(what: str) -> ApiError:
    return ApiError(
        403,
        f"this call may not come from another site's page ({what})",
        kind="permission_error",
        code="foreign_origin",
    )
