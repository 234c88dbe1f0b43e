"""Asking a running pool what it sees: over HTTP, with errors that say how to mend them."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from orchestrator.watch_report import frame
from orchestrator.watching import explain, look, pool_url
from profiler.errors import ClusterError, InputError
from serve_apps.seeing.plain import finite
from serve_apps.seeing.seeing import Seeing
from tests.seeing_builders import record, snapshot


def feed():
    seeing = Seeing(snapshot, ingress="i0")
    seeing.started(told := record("req_7", model_asked="[red]auto[/red]"))
    seeing.finished(told)
    seeing.tick()
    return finite(seeing.look()), finite(seeing.explain("req_7"))


@pytest.fixture
def pool():
    """A server that gives these answers in turn, and keeps giving the last."""
    servers = []

    def serve(*answers):
        left, seen = list(answers), []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                seen.append((self.path, dict(self.headers.items())))
                status, body, headers = (*(left.pop(0) if len(left) > 1 else left[0]), {})[:3]
                text = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True, args=(0.01,)).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", seen

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


UNKNOWN = (
    404,
    {"error": {"message": "no request 'x' among the last 5", "code": "unknown_request"}},
)


def test_the_key_goes_with_the_question(pool):
    url, seen = pool((200, feed()[0]))
    assert look(url, "s3cret")["service"] == "chat"
    path, headers = seen[0]
    assert path == "/orchestrator/live"
    assert {k.casefold(): v for k, v in headers.items()}["authorization"] == "Bearer s3cret"


def test_another_ingress_may_know_the_request(pool):
    url, seen = pool(UNKNOWN, UNKNOWN, (200, feed()[1]))
    assert explain(url, "req_7")["group"] == "a"
    assert len(seen) == 3


def test_a_request_that_nobody_knows_is_the_users_mistake(pool):
    url, _ = pool(UNKNOWN)
    with pytest.raises(InputError, match="no request 'x'"):
        explain(url, "x")


def test_an_id_cannot_change_the_path(pool):
    url, seen = pool((200, feed()[1]))
    explain(url, "../live?x=1#y")
    assert seen[0][0] == "/orchestrator/explain/..%2Flive%3Fx%3D1%23y"


def test_a_refusal_says_which_key_is_needed(pool):
    url, _ = pool((401, {"error": {"message": "no admin key", "code": "no_key"}}))
    with pytest.raises(ClusterError, match=r"401: no admin key; give .* ORCHESTRATOR_ADMIN_KEY"):
        look(url)


@pytest.mark.parametrize("answer", [(200, b"<html>"), (200, [1]), (500, b"oops"), (404, b"{}")])
def test_what_is_no_pool_is_said_to_be_none(pool, answer):
    url, _ = pool(answer)
    with pytest.raises(ClusterError, match="/orchestrator/live"):
        look(url)


def test_the_key_is_not_carried_to_where_a_redirect_points(pool):
    elsewhere, seen = pool((200, feed()[0]))
    url, _ = pool((302, b"", {"location": elsewhere + "/orchestrator/live"}))
    with pytest.raises(ClusterError, match="302"):
        look(url, "s3cret")
    assert seen == []


def test_nobody_there():
    with pytest.raises(ClusterError, match=r"http://127\.0\.0\.1:9/orchestrator/live: "):
        look("http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("given", "base"),
    [
        ("http://h:1", "http://h:1"),
        ("http://h:1/v1", "http://h:1"),
        ("https://h/pool/v1/", "https://h/pool"),
    ],
)
def test_an_address_may_be_the_clients_one(given, base):
    assert pool_url(None, given) == base


@pytest.mark.parametrize("given", ["h:1", "ftp://h", "http://", "file:///etc/passwd"])
def test_other_addresses_are_refused(given):
    with pytest.raises(InputError, match="--url"):
        pool_url(None, given)


def test_without_any_pool_the_mend_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(InputError, match="none runs on this machine; name one, or give --url"):
        pool_url(None, None)
    with pytest.raises(InputError, match="no service 'chat' runs"):
        pool_url("chat", None)


def test_top_looks_once_without_a_terminal(pool, orchestrate):
    url, _ = pool((200, feed()[0]))
    done = orchestrate("top", "--url", url)
    assert done.returncode == 0, done.stderr
    for told in ("chat", "ejected", "[red]auto[/red]", "200 ok", "$1.90"):
        assert told in done.stdout


def test_top_gives_data_to_scripts(pool, orchestrate):
    url, _ = pool((200, feed()[0]))
    done = orchestrate("top", "--url", url, "--once", "-o", "json")
    assert json.loads(done.stdout)["groups"][0]["name"] == "a"


def test_explain_request_tells_it_in_words(pool, orchestrate):
    url, _ = pool((200, feed()[1]))
    done = orchestrate("explain", "request", "req_7", "--url", url)
    assert "Model m1 in group a was chosen" in done.stdout
    assert "chosen" in done.stdout.splitlines()[-2]
    done = orchestrate("explain", "request", "req_7", "--url", url, "-o", "json")
    assert json.loads(done.stdout)["request_id"] == "req_7"


def test_a_frame_can_be_drawn_before_anything_happened():
    from rich.console import Console

    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(frame(finite(Seeing(snapshot).look())))
        assert "–" in console.export_text()
