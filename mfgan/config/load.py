"""From a preset, a file and overrides to validated settings."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mfgan.config.presets import PRESETS, TEXTS
from mfgan.config.run_config import RunConfig, flatten
from mfgan.errors import MfganError, nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Settings = TypeVar("Settings", bound=BaseModel)


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
    return parse_config(resolve(TEXTS[preset], file, overrides))


def stored_config(file: str | Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The settings that a run was made with, from the file that it keeps.

    A setting that the file lacks has its default, not a preset's: it came after the run.

    Args:
        file: The run's ``config.toml``.
        overrides: As for ``load_config``.

    Raises:
        MfganError: As for ``load_config``.
    """
    return parse_config(resolve("", file, overrides))


def parse_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate a nested mapping of settings.

    Raises:
        MfganError: An unknown setting or a value out of range; the message names it.
    """
    return validated(RunConfig, values, "config")


def resolve(
    preset: str = "", file: str | Path | None = None, overrides: Sequence[str] = ()
) -> dict[str, Any]:
    """Settings from a preset's TOML text, a TOML file and ``a.b=value`` texts, the later winning.

    Raises:
        MfganError: The file cannot be read, or a text is of another form.
    """
    values = tomllib.loads(preset)
    if file is not None:
        values = _merge(values, _read_toml(Path(file)))
    for text in overrides:
        values = _merge(values, parse_override(text))
    return values


def validated(kind: type[Settings], values: Mapping[str, Any], where: str) -> Settings:
    """Settings of a kind; one line says what is wrong with them.

    Args:
        kind: All settings of the kind have defaults.
        values: Nested.
        where: What the message begins with.

    Raises:
        MfganError: An unknown setting or a value out of range; the message names it.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise MfganError(_explain(error, kind, where)) from None


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


def parse_override(text: str) -> dict[str, Any]:
    """``a.b=value`` as nested settings, the value as TOML writes it or a bare word.

    Raises:
        MfganError: It is of another form.
    """
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


def _explain(error: ValidationError, kind: type[BaseModel], where: str) -> str:
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    name = ".".join(place)
    if first["type"] == "extra_forbidden":
        return f"{where}: {name}: no such setting{_suggestion(place, kind)}"
    message = first["msg"].removeprefix("Value error, ")
    rule = message[0].lower() + message[1:]
    if first["type"] == "value_error":
        return f"{where}: {name}: {rule}" if place else f"{where}: {rule}"
    return f"{where}: {name}: {rule}, got {first['input']!r}"


def _suggestion(place: Sequence[str], kind: type[BaseModel]) -> str:
    beside = [".".join([*place[:-1], name]) for name in _settings_of(place[:-1], kind)]
    close = nearest(".".join(place), beside)
    if close:
        return close
    everywhere = [name for name, _ in flatten(kind().model_dump())]
    same = [name for name in everywhere if name.rpartition(".")[2] == place[-1]]
    return f"; did you mean {' or '.join(same)}?" if same else nearest(".".join(place), everywhere)


def _settings_of(place: Sequence[str], kind: type[BaseModel]) -> list[str]:
    section = kind
    for part in place:
        inner = section.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        section = inner
    return list(section.model_fields)
