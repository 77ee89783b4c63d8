"""The parts of the configuration: YAML files with `${name}` where a value goes.

A parameter is a whole scalar, `${name}`, and its value may be anything that YAML can
hold, so nothing is ever quoted or indented by hand. A part gets exactly the values
that it names: one too few or one too many is an error.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final, cast

import yaml

_PARAMETER: Final = re.compile(r"\$\{([a-z][a-z0-9_]*)\}")
_PACKAGE: Final = Path(__file__).resolve().parent.parent


class PartError(ValueError):
    """A part and the values for it do not fit."""


def folder() -> Path:
    """Return the folder of the parts: in an installed wheel, or in a checkout."""
    for candidate in (_PACKAGE / "_gateway", _PACKAGE.parent.parent / "gateway"):
        if (candidate / "bootstrap.yaml").is_file():
            return candidate
    msg = f"the gateway's parts are neither in {_PACKAGE / '_gateway'} nor in a checkout"
    raise FileNotFoundError(msg)


def load(part: str, /, **values: Any) -> Any:
    """Load a part and put values in the places of its parameters.

    Parameters
    ----------
    part
        The file, relative to the folder of the parts, without `.yaml`.
    **values
        A value for each of its parameters.

    Returns
    -------
    Any
        What the YAML holds.

    Raises
    ------
    PartError
        If a parameter has no value, a value no parameter, or a scalar holds a
        parameter among other text.
    """
    used: set[str] = set()
    content = _fill(yaml.safe_load((folder() / f"{part}.yaml").read_text()), values, used, part)
    if unused := values.keys() - used:
        msg = f"{part}: no such parameter: {', '.join(sorted(unused))}"
        raise PartError(msg)
    return content


def text(part: str) -> str:
    """Return the text of a part that is no YAML; its name is relative to the folder of the parts."""
    return (folder() / part).read_text()


def names(directory: str) -> list[str]:
    """Return the names of the parts in a directory, in order."""
    return [f"{directory}/{path.stem}" for path in sorted((folder() / directory).glob("*.yaml"))]


def _fill(node: Any, values: dict[str, Any], used: set[str], part: str) -> Any:
    if isinstance(node, dict):
        mapping = cast("dict[str, Any]", node)
        return {key: _fill(value, values, used, part) for key, value in mapping.items()}
    if isinstance(node, list):
        return [_fill(item, values, used, part) for item in cast("list[Any]", node)]
    if isinstance(node, str):
        return _value(node, values, used, part)
    return node


def _value(scalar: str, values: dict[str, Any], used: set[str], part: str) -> Any:
    match = _PARAMETER.fullmatch(scalar)
    if match is None:
        if "${" in scalar:
            msg = f"{part}: a parameter must be the whole of a value: {scalar!r}"
            raise PartError(msg)
        return scalar
    name = match[1]
    if name not in values:
        msg = f"{part}: no value for the parameter {name}"
        raise PartError(msg)
    used.add(name)
    return values[name]
