"""Methods with settings, as users and comparisons write them: ``name:setting=value,...``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SEPARATOR = ":"

FIELD = "settings"
"""Of a record's parameters: those settings that are not the method's own, by name."""


def method_text(name: str, settings: Mapping[str, Any]) -> str:
    """A method and its settings in one word.

    Args:
        name: Of the method.
        settings: Values by name; may be empty.

    Returns:
        Such as ``"power_iteration:tolerance=1e-05"``, or the name alone.
    """
    if not settings:
        return name
    return name + SEPARATOR + ",".join(f"{key}={value}" for key, value in settings.items())


def split_method(text: str) -> tuple[str, dict[str, str]]:
    """What `method_text` has put together.

    Args:
        text: A method's name, and perhaps settings.

    Returns:
        Name, and settings as they are written.

    Raises:
        ValueError: A setting has no value, or two.
    """
    name, separator, rest = text.partition(SEPARATOR)
    settings: dict[str, str] = {}
    for part in rest.split(",") if separator else ():
        key, equals, value = part.partition("=")
        if not (key and equals and value) or key in settings:
            raise ValueError(
                f"expected settings as in {name}:name=value,name=value, each once, got {text!r}"
            )
        settings[key] = value
    return name, settings
