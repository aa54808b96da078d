"""Label selectors, as queries take them."""

from collections.abc import Mapping
from typing import Any


def label_selector(selector: Mapping[str, Any]) -> str:
    """A LabelSelector object as the query parameter; an empty one matches everything."""
    terms = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, operator, values = expression["key"], expression["operator"], ",".join(expression.get("values") or ())
        terms.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[operator]
        )
    return ",".join(terms)
