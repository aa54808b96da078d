"""The cluster-wide switch: a ConfigMap by which anyone who may edit it turns dynawatt off at once.

``kubectl -n dynawatt-system create configmap dynawatt-switch --from-literal=enabled=false``

With ``giveBack: "true"`` instead, everything that was changed is brought back first, as for an uninstall.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from dynawatt.api.base import shorten

SWITCH_NAME: Final = "dynawatt-switch"
"""The ConfigMap, in the operator's namespace."""
_KEY: Final = "enabled"
_GIVE_BACK: Final = "giveBack"
GIVE_BACK_DATA: Final[Mapping[str, str]] = MappingProxyType({_KEY: "true", _GIVE_BACK: "true"})
"""Of the ConfigMap by which all services are given back: the operator must be on to do it."""


def switched_off(config_map: Mapping[str, Any] | None) -> str:
    """Why everything must be let go of; empty while dynawatt is switched on.

    It is on without a ConfigMap, and while ``enabled`` is "true". Whoever edits the ConfigMap wants it off, so
    every other value counts as off, a typing error included.
    """
    data = (config_map or {}).get("data") or {}
    if config_map is None or str(data.get(_KEY, "true")).strip().lower() == "true":
        return ""
    return f"ConfigMap {SWITCH_NAME} has {_KEY}: {shorten(repr(str(data[_KEY])), 40)}"


def gives_back(config_map: Mapping[str, Any] | None) -> bool:
    """Whether every LLMService is to be treated as if its ``mode`` were Off."""
    data = (config_map or {}).get("data") or {}
    return str(data.get(_GIVE_BACK, "false")).strip().lower() == "true"
