"""docs/troubleshooting.md: every condition, and every reason with what to do about it."""

import ast
import inspect
from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise
from typing import Final

from dynawatt.api import conditions
from dynawatt.api.conditions import ConditionType, Reason
from dynawatt.api.remedies import NOTHING_TO_DO, REMEDIES
from dynawatt.reference.markdown import GENERATED, table

_INTRODUCTION: Final = f"""# Troubleshooting

{GENERATED}

Begin with `dynawatt explain NAMESPACE/NAME`: it says why an LLMService is as it is, what to do about what is wrong, and
what comes next. `dynawatt doctor` checks the installation and every service, one line each with the remedy. Both say
what this page says, with your names filled in.

`kubectl describe llmsvc NAME` and `kubectl describe gpunode NODE` show the conditions themselves: a type, a status, a
reason, and a message with the details. Below is what to do about each reason. Alerts have [runbooks](runbooks).

## Conditions
"""

_REASONS: Final = """## Reasons that call for something

Words in capitals stand for your names.
"""

_FINE: Final = """## Reasons that call for nothing

As wanted, as asked for, or over by themselves.
"""

_TRUE_IS_WRONG: Final = frozenset({ConditionType.CONFLICTING})
_NEITHER_IS_WRONG: Final = frozenset({ConditionType.PROGRESSING})


def troubleshooting_page() -> str:
    """The whole page as Markdown."""
    types, reasons = explained(ConditionType), explained(Reason)
    wanted = {type_: "False" if type_ in _TRUE_IS_WRONG else "True" for type_ in ConditionType}
    wanted |= dict.fromkeys(_NEITHER_IS_WRONG, "either")
    rows = [[f"`{type_.value}`", types[type_.name], wanted[type_]] for type_ in ConditionType]
    parts = [_INTRODUCTION, table(["condition", "what it says when True", "as it should be"], rows), "", _REASONS]
    for reason in Reason:
        if reason in REMEDIES:
            parts += [f"### {reason.value}\n", f"{reasons[reason.name]}\n", f"**Do:** {REMEDIES[reason]}\n"]
    fine = [[f"`{reason.value}`", reasons[reason.name]] for reason in Reason if reason in NOTHING_TO_DO]
    return "\n".join([*parts, _FINE, table(["reason", ""], fine), ""])


def explained(enumeration: type[StrEnum]) -> Mapping[str, str]:
    """The sentence below each member in the source, by the member's name."""
    tree = ast.parse(inspect.getsource(conditions))
    [body] = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == enumeration.__name__]
    found = {}
    for member, below in pairwise(body):
        if isinstance(member, ast.Assign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            [target] = member.targets
            found[ast.unparse(target)] = " ".join(str(below.value.value).split())
    return found
