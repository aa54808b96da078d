"""docs/llmservice.md: every field of an LLMService."""

from collections.abc import Iterator
from typing import Any, Final

from dynawatt.api.crd import crd_documents
from dynawatt.api.group import GROUP, LLMSERVICE_KIND, VERSION
from dynawatt.reference.fields import objects
from dynawatt.reference.markdown import GENERATED, table

_INTRODUCTION: Final = f"""# LLMService

{GENERATED}

`{GROUP}/{VERSION}`, namespaced, short name `llmsvc`. One LLMService looks after one vLLM Deployment in its namespace.
Only `deploymentRef` and `slo` are needed:

```yaml
apiVersion: {GROUP}/{VERSION}
kind: {LLMSERVICE_KIND}
metadata: {{name: llama-8b, namespace: default}}
spec:
  deploymentRef: {{name: llama-8b}}
  slo:
    interTokenMilliseconds: 100
    timeToFirstToken:
    - {{maxInputTokens: 1024, milliseconds: 400}}
    - {{milliseconds: 2000}}
```

`kubectl explain llmservice.spec` shows the same in a cluster. The API server refuses what breaks a rule, and kubectl
what it does not know. What the fields do together is in [concepts.md](concepts.md) and [adoption.md](adoption.md).
"""

_STATUS: Final = """## status

Written by the operator. Conditions and their reasons are in [troubleshooting.md](troubleshooting.md); numbers that
change fast are metrics, in [metrics.md](metrics.md).
"""


def llmservice_page() -> str:
    """The whole page as Markdown."""
    [document] = [each for each in crd_documents() if each["spec"]["names"]["kind"] == LLMSERVICE_KIND]
    [version] = document["spec"]["versions"]
    properties = version["schema"]["openAPIV3Schema"]["properties"]
    parts = [_INTRODUCTION, *_sections(properties["spec"], "spec"), _STATUS, *_sections(properties["status"], "status")]
    return "\n".join([*parts, _columns(version["additionalPrinterColumns"])])


def _sections(schema: dict[str, Any], root: str) -> Iterator[str]:
    # Whether a field of the status is required concerns nobody but its writer.
    row = _spec_row if root == "spec" else _status_row
    head = ["field", "type", *(["default"] if root == "spec" else []), ""]
    for each in objects(schema, root):
        rules = "".join(f"\n- {rule}" for rule in each.rules)
        body = table(head, [row(*fields) for fields in each.rows]) + "\n" + (f"{rules}\n" if rules else "")
        if each.path == "status":  # its heading says more
            yield body
        else:
            level = "##" if each.path == root else "###"
            yield f"{level} {each.path}\n\n{each.description}\n\n{body}"


def _spec_row(name: str, type_: str, default: str, description: str) -> list[str]:
    return [f"`{name}`", type_, default, description]


def _status_row(name: str, type_: str, _default: str, description: str) -> list[str]:
    return [f"`{name}`", type_, description]


def _columns(columns: list[dict[str, Any]]) -> str:
    rows = [
        [f"`{each['name']}`", each.get("description", ""), "yes" if each.get("priority") else ""] for each in columns
    ]
    return f"""## Columns

What `kubectl get llmsvc` prints:

{table(["column", "", "only with `-o wide`"], rows)}
"""
