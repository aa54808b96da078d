"""What a container's spec means for a process: its command line and its environment.

A process shares the file system of this machine. A volume's mount path at the
beginning of an argument's or a variable's value is therefore replaced by where
the volume lies; nothing else of a container's isolation is played.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_ENTRY_POINT: Final = "dynawatt"
_REFERENCE: Final = re.compile(r"\$(\$|\((?P<name>[^)]+)\))")


class ContainerError(ValueError):
    """The spec asks for what is not played here; says what."""


@dataclass(frozen=True, slots=True)
class ContainerProcess:
    """A container as a process."""

    arguments: Sequence[str]
    """Of the program ``dynawatt``, which all of these images have as entry point."""
    environment: Mapping[str, str]


def container_process(
    container: Mapping[str, Any], *, pod: Mapping[str, Any], address: str, paths: Mapping[str, Path]
) -> ContainerProcess:
    """Read a container's spec.

    Args:
        container: Of the pod.
        pod: The Pod object, for what variables take from its fields.
        address: IP address of the pod.
        paths: Where mounted paths lie on this machine.

    Raises ContainerError.
    """
    command = list(container.get("command") or (_ENTRY_POINT,))
    if command[0].rpartition("/")[2] != _ENTRY_POINT:
        raise ContainerError(f"command {command[0]!r}: only {_ENTRY_POINT!r} can be run here")
    environment: dict[str, str] = {}
    for variable in container.get("env") or ():
        value = _value(variable, pod, address)
        environment[variable["name"]] = _placed(_expanded(value, environment), paths)
    words = [*command[1:], *(container.get("args") or ())]
    return ContainerProcess([_placed(_expanded(word, environment), paths) for word in words], environment)


def _value(variable: Mapping[str, Any], pod: Mapping[str, Any], address: str) -> str:
    source = variable.get("valueFrom")
    if source is None:
        return str(variable.get("value", ""))
    fields = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.namespace": pod["metadata"]["namespace"],
        "metadata.uid": pod["metadata"]["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.podIP": address,
    }
    path = source.get("fieldRef", {}).get("fieldPath", "")
    if path not in fields:
        raise ContainerError(f"variable {variable['name']}: valueFrom {source!r} is not played here")
    return str(fields[path])


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """With $(NAME) replaced as Kubernetes does: unknown names stay, and $$ is a dollar sign."""

    def value(found: re.Match[str]) -> str:
        return "$" if found["name"] is None else environment.get(found["name"], found[0])

    return _REFERENCE.sub(value, text)


def _placed(text: str, paths: Mapping[str, Path]) -> str:
    """With the longest mounted path that the value begins with replaced; the value of ``--option=value``, too."""
    option, equals, value = text.partition("=") if text.startswith("-") else ("", "", text)
    for mounted in sorted(paths, key=len, reverse=True):
        if value == mounted or value.startswith(f"{mounted.rstrip('/')}/"):
            rest = value[len(mounted) :].lstrip("/")
            return f"{option}{equals}{paths[mounted] / rest if rest else paths[mounted]}"
    return text
