"""From a preset, a file and overrides to validated settings."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mfgan.config.presets import PRESETS, TEXTS
from mfgan.config.run_config import RunConfig, flatten
from mfgan.errors import MfganError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_config(
    preset: str = "tuned", file: str | Path | None = None, overrides: Sequence[str] = ()
) -> RunConfig:
    """Resolve the settings of a run.

    Args:
        preset: ``tuned`` or ``paper``.
        file: A TOML file whose settings replace the preset's.
        overrides: Texts ``a.b=value``, the value as TOML writes it; a bare word is a string.

    Returns:
        The validated settings.

    Raises:
        MfganError: An unknown preset or setting, a value out of range, an unreadable file.

    Example:
        >>> load_config("paper", overrides=["generator.hidden_dim=64"]).generator.hidden_dim
        64
    """
    if preset not in TEXTS:
        raise MfganError(
            f"config: preset must be one of {', '.join(PRESETS)}, got {preset!r}"
            f"{nearest(preset, list(PRESETS))}"
        )
    values = tomllib.loads(TEXTS[preset])
    if file is not None:
        values = _merge(values, _read_toml(Path(file)))
    for text in overrides:
        values = _merge(values, _parse_override(text))
    return parse_config(values)


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate a nested mapping of settings.

    Raises:
        MfganError: An unknown setting or a value out of range; the message names it.
    """
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise MfganError(_explain(error)) from None


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        old = merged.get(name)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        merged[name] = _merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MfganError(f"{path}: must be TOML, got {error}") from None


def _parse_override(text: str) -> dict[str, Any]:
    name, equals, written = text.partition("=")
    parts = name.strip().split(".")
    if not equals or not all(parts):
        raise MfganError(f"config: --set must be name.name=value, got {text!r}")
    try:
        value = tomllib.loads(f"value = {written}")["value"]
    except tomllib.TOMLDecodeError:
        value = written.strip()
    for part in reversed(parts):
        value = {part: value}
    result: dict[str, Any] = value
    return result


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        return f"config: {name}: no such setting{_suggestion(place)}"
    message = first["msg"].removeprefix("Value error, ")
    rule = message[0].lower() + message[1:]
    if first["type"] == "value_error":
        return f"config: {name}: {rule}"
    return f"config: {name}: {rule}, got {first['input']!r}"


def _suggestion(place: Sequence[str]) -> str:
    close = nearest(place[-1], _settings_of(place[:-1]))
    if close:
        return close
    everywhere = [name for name, _ in flatten(RunConfig().model_dump())]
    same = [name for name in everywhere if name.rpartition(".")[2] == place[-1]]
    return f"; did you mean {' or '.join(same)}?" if same else nearest(".".join(place), everywhere)


def _settings_of(place: Sequence[str]) -> list[str]:
    section: type[BaseModel] = RunConfig
    for part in place:
        inner = section.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        section = inner
    return list(section.model_fields)
