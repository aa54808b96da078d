from pathlib import Path
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from dynawatt.adapters.kubernetes.client import (
    API_ERRORS,
    MERGE_PATCH,
    api_client,
    describe_error,
    is_conflict,
    is_not_found,
    request_json,
    resource_path,
)
from dynawatt.errors import InvalidInputError, OperationError


def test_without_kubeconfig_outside_a_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(OperationError, match="give --kubeconfig"):
        api_client(None)


def test_missing_kubeconfig(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="No such file"):
        api_client(tmp_path / "config")


@pytest.mark.parametrize("text", [None, "", "a: [", "apiVersion: v1\nkind: Config\n"])
def test_unusable_kubeconfig(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"--kubeconfig .*config: .+; give a readable kubeconfig") as caught:
        api_client(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ({"api_version": "v1", "plural": "nodes"}, "/api/v1/nodes"),
        ({"api_version": "v1", "plural": "pods", "namespace": "a", "name": "p"}, "/api/v1/namespaces/a/pods/p"),
        (
            {"api_version": "dynawatt.dev/v1alpha1", "plural": "gpunodes", "name": "n"},
            "/apis/dynawatt.dev/v1alpha1/gpunodes/n",
        ),
    ],
)
def test_resource_path(arguments: dict[str, str], path: str) -> None:
    assert resource_path(**arguments) == path


def test_request_carries_token_query_body_and_content_type(serve: Any) -> None:
    seen: list[Any] = []

    def answer(handler: Any, body: Any) -> tuple[int, Any]:
        seen.append((handler.command, handler.path, handler.headers["Authorization"], body))
        seen.append(handler.headers["Content-Type"])
        return 200, {"ok": True}

    api = serve(answer)
    body = {"status": {"gpus": []}}
    answered = request_json(api, "PATCH", "/x/status", query={"dryRun": "All"}, body=body, content_type=MERGE_PATCH)
    assert answered == {"ok": True}
    assert seen == [("PATCH", "/x/status?dryRun=All", "Bearer secret-token", body), MERGE_PATCH]


@pytest.mark.parametrize(
    ("status", "conflict", "missing"), [(409, True, False), (404, False, True), (422, False, False)]
)
def test_refusals_are_told_apart_and_described(serve: Any, status: int, conflict: bool, missing: bool) -> None:
    api = serve(lambda handler, body: (status, {"message": "says why"}))
    with pytest.raises(ApiException) as caught:
        request_json(api, "GET", "/x")
    assert (is_conflict(caught.value), is_not_found(caught.value)) == (conflict, missing)
    assert describe_error(caught.value) == f"{status}: says why"


def test_silent_server_costs_no_more_than_the_timeout(serve: Any) -> None:
    api = serve(lambda handler, body: (200, [5.0]))
    with pytest.raises(API_ERRORS) as caught:
        request_json(api, "GET", "/x", read_s=0.2)
    assert "timed out" in describe_error(caught.value)
