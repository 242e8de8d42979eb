"""``mfgan doctor``: what is installed and what runs."""

from typing import Any

import rich_click as click

from mfgan.cli import options


@click.command("doctor")
@options.as_json
def command(as_json: bool) -> None:
    """Show versions, which compiled libraries serve and why others do not, processor and GPUs."""
    import json

    from mfgan.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in _lines(found):
        click.echo(f"{name:14} {value}")


def _lines(found: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("mfgan", found["mfgan"]), ("python", f"{found['python']}, {found['platform']}")]
    lines += [(name, version or "missing") for name, version in found["packages"].items()]
    lines += [
        (f"extra {extra}", f"lacks {', '.join(lacks)}" if lacks else "complete")
        for extra, lacks in found["extras"].items()
    ]
    for device, library in found["libraries"].items():
        serves = f"{library['name']} serves"
        falls = f"plain PyTorch serves; {library['name']}: {library['reason']}"
        lines.append((f"{device} kernels", serves if library["loaded"] else falls))
    lines.append(("log parser", "compiled" if found["native"] else "plain Python: not built"))
    cpu = found["cpu"]
    lines.append(("processor", f"{cpu['name']}, {cpu['cores']} cores, {cpu['threads']} threads"))
    lines.append(("instructions", f"{cpu['kernels']}, bf16 products: {cpu['bf16']}"))
    lines.append(("GPUs", ", ".join(found["gpus"]) or "none"))
    return lines
