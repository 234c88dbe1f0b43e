"""What we applied of an object is read back from its managed fields, and nothing of others."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.deploy.kube.owned import owned
from tests.fake_kubernetes import FakeKubernetes


def live(fields: Any, **body: Any) -> dict[str, Any]:
    entry = {"manager": "llm-orchestrator", "operation": "Apply", "fieldsV1": fields}
    other = {"manager": "kuberay", "operation": "Update", "fieldsV1": {"f:spec": {"f:y": {}}}}
    meta = {"name": "a", "namespace": "n", "uid": "1", "managedFields": [other, entry]}
    return {"apiVersion": "v1", "kind": "X", "metadata": meta, **body}


def test_only_our_fields_come_back() -> None:
    obj = live({"f:spec": {"f:x": {}, "f:m": {".": {}, "f:k": {}}}},
               spec={"x": [1, 2], "y": 3, "m": {"k": 1, "theirs": 2}})  # fmt: skip
    assert owned(obj) == {
        "apiVersion": "v1",
        "kind": "X",
        "metadata": {"name": "a", "namespace": "n"},
        "spec": {"x": [1, 2], "m": {"k": 1}},
    }


def test_items_of_keyed_lists_and_values_of_sets_are_picked_one_by_one() -> None:
    key = "k:" + json.dumps({"port": 80, "protocol": "TCP"})
    fields = {"f:ports": {key: {".": {}, "f:port": {}, "f:name": {}}}, "f:verbs": {'v:"get"': {}}}
    ports = [{"port": 80, "protocol": "TCP", "name": "a"}, {"port": 81, "protocol": "TCP"}]
    found = owned(live(fields, ports=ports, verbs=["get", "list"]))
    assert found is not None
    assert found["ports"] == [{"port": 80, "name": "a"}]
    assert found["verbs"] == ["get"]


def test_an_object_that_we_never_applied_has_nothing_of_ours() -> None:
    assert owned({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}}) is None


TEXTS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"), min_size=1)


@given(TEXTS, TEXTS, TEXTS)
def test_applying_what_was_ours_restores_it_whatever_we_and_others_did(
    ours: dict[str, str], theirs: dict[str, str], later: dict[str, str]
) -> None:
    cluster = FakeKubernetes()
    key = ("ConfigMap", "default", "a")
    head = {"apiVersion": "v1", "kind": "ConfigMap"}
    meta = {"name": "a", "namespace": "default"}

    def apply(data: dict[str, str], manager: str) -> None:
        body = {**head, "metadata": dict(meta), "data": data}
        cluster.apply(key, body, manager, force=True, dry=False)

    apply(theirs, "other")
    apply(ours, "llm-orchestrator")
    before = cluster.objects[key]
    part = owned(before)
    assert part is not None
    assert part["data"] == ours
    apply(later, "llm-orchestrator")
    cluster.apply(key, part, "llm-orchestrator", force=True, dry=False)
    restored = cluster.objects[key]["data"]
    assert {k: restored[k] for k in ours} == ours
    assert set(restored) <= set(theirs) | set(ours)
