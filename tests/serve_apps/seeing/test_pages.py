"""Who may look in sees metrics, targets, explanations and the live page; nobody else does."""

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from serve_apps.openai_api import ApiError
from serve_apps.seeing.pages import routes
from serve_apps.seeing.paths import DASHBOARD_PATH, LIVE_PATH, METRICS_PATH
from serve_apps.seeing.seeing import Seeing
from serve_apps.seeing.targets import ingress_targets, scrape_config
from tests.seeing_builders import record, snapshot


def client(admin=lambda _headers, _peer: None):
    seeing = Seeing(snapshot, ingress="i0")
    seeing.started(told := record("req_7"))
    seeing.finished(told)

    def refuse(_request, error):
        return JSONResponse(error.body, error.status)

    app = Starlette(routes=routes(seeing, admin), exception_handlers={ApiError: refuse})
    return TestClient(app)


def keyed(headers, _peer):
    if (b"authorization", b"Bearer secret") not in list(headers):
        raise ApiError(401, "an admin key is needed")


def test_metrics_are_prometheus_text():
    answer = client().get(METRICS_PATH)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert list(text_string_to_metric_families(answer.text))


def test_a_request_is_explained_by_its_id():
    found = client().get("/orchestrator/explain/req_7").json()
    assert found["group"] == "a"
    assert found["words"]


def test_an_unknown_request_says_where_it_was_looked_for():
    answer = client().get("/orchestrator/explain/nobody")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert error["code"] == "unknown_request"
    assert "'i0'" in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        METRICS_PATH,
        LIVE_PATH,
        "/orchestrator/targets/ingress",
        "/orchestrator/targets/engines",
        "/orchestrator/explain/req_7",
        "/orchestrator/explain/nobody",
    ],
)
def test_data_is_shown_to_those_with_the_key_alone(path):
    guarded = client(keyed)
    assert guarded.get(path).status_code == 401
    assert "req_7" not in guarded.get(path).text
    assert guarded.get(path, headers={"authorization": "Bearer secret"}).status_code != 401


def test_targets_are_every_ingress_and_every_engine_found():
    pool = client()
    (ingress,) = pool.get("/orchestrator/targets/ingress").json()
    assert ingress["targets"] == ["10.0.0.2:9001", "10.0.0.3:9001"]
    engines = pool.get("/orchestrator/targets/engines").json()
    assert [e["targets"] for e in engines] == [["10.0.0.7:8000"], ["10.0.0.8:8000"]]
    assert engines[0]["labels"]["group"] == "a"
    assert engines[0]["labels"]["model"] == "m1"
    assert engines[0]["labels"]["__metrics_path__"] == "/metrics"


def test_a_single_ingress_is_found_where_it_was_asked():
    (found,) = ingress_targets(snapshot(ingresses=()), METRICS_PATH, "pool:8000")
    assert found["targets"] == ["pool:8000"]


def test_the_admin_key_is_never_sent_to_engines():
    ingress, engines = scrape_config("http://pool:8000/", "/etc/key")["scrape_configs"]
    assert ingress["authorization"] == {"credentials_file": "/etc/key"}
    assert "authorization" not in engines
    assert engines["http_sd_configs"][0]["authorization"] == {"credentials_file": "/etc/key"}
    paths = [job["http_sd_configs"][0]["url"] for job in (ingress, engines)]
    pool = client()
    assert all(pool.get(url.removeprefix("http://pool:8000")).status_code == 200 for url in paths)


def test_the_page_runs_its_own_script_alone():
    answer = client(keyed).get(DASHBOARD_PATH)  # it holds no data, so it needs no key
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    nonce = re.fullmatch(r"'nonce-([\w-]{20,})'", policy["script-src"])[1]
    assert policy["style-src"] == f"'nonce-{nonce}'"
    tags = re.findall(r"<(?:script|style)[^>]*>", answer.text)
    assert tags
    assert all(f'nonce="{nonce}"' in tag for tag in tags)
    assert client().get(DASHBOARD_PATH).text != answer.text  # a nonce is used once


def test_the_page_needs_nothing_else_and_breaks_none_of_its_rules():
    page = client().get(DASHBOARD_PATH).text
    assert not re.search(
        r"""(?:src|href)\s*=|@import|url\(|https?://(?!www\.w3\.org/2000/svg)""", page
    )
    assert not re.search(r"\sstyle\s*=|\son\w+\s*=|javascript:", page)
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert sink not in page  # data reaches the page as text only
    assert "prefers-color-scheme:dark" in page


def test_the_page_reads_only_what_the_feed_has():
    pool = client()
    page, feed = pool.get(DASHBOARD_PATH).text, pool.get(LIVE_PATH).json()
    (group, *_), (decision,) = feed["groups"], feed["decisions"]
    for name, data in (("n", feed["now"]), ("d", feed), ("h", feed["history"]), ("g", group),
                       ("r", decision), ("slo", feed["slo"])):  # fmt: skip
        body = page.split("function explain")[0]
        used = set(re.findall(rf"(?<![\w.$]){name}\.([a-z]\w*)", body)) - {"toLocaleString"}
        assert used, name
        assert used <= set(data), (name, used - set(data))
