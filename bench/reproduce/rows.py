"""What each row of the table of record is: data, settings, stages, and what is scored."""

from dataclasses import dataclass

from mfgan.errors import MfganError, nearest

# Scored without a stage of its own.
POPULARITY, ITEM_KNN, CORRECTED = "popularity", "item-knn", "with-discriminators"
CONTROL = "continue-mle"


@dataclass(frozen=True)
class Data:
    """A data set of the table.

    Args:
        source: Below the folder of real data.
        format: Of ``mfgan prepare``.
        settings: Overrides of the preset ``tuned`` on these data; ``paper`` stays as published.
    """

    source: str
    format: str
    settings: tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        title: What the table calls it.
        run: Rows of one name share a run, and so its stages.
        stages: Trained in this order.
        start: The row from whose run the weights are taken first; none where empty.
        scored: The stage whose generator is evaluated, or one of the three names above.
        preset: Settings to start from.
        settings: Overrides.
    """

    title: str
    run: str
    stages: tuple[str, ...]
    scored: str
    start: str = ""
    preset: str = "tuned"
    settings: tuple[str, ...] = ()


# Faster where the processor has such products, and of equal accuracy (docs/experiments.md).
_COMMON = ("precision=bf16",)
DATA = {
    "ml-1m": Data(
        "ml-1m/sasrec.txt.gz",
        "ml-1m",
        (*_COMMON, "generator.factors=['genre', 'director', 'actors', 'year']"),
    ),
    "beauty": Data(
        "amazon/s3rec_Beauty.txt.gz",
        "sequences",
        (
            *_COMMON,
            *("generator.max_len=50", "generator.dropout=0.5", "generator.attention_dropout=0.2"),
            *("generator.normalize=true", "generator.temperature=0.07"),
            *("generator.factors=['attributes']", "pretrain_generator.epochs=30"),
        ),
    ),
}

_ALONE = ("pretrain-generator",)
_JUDGED = ("pretrain-discriminator", "adversarial")


def _generator(title: str, loss: str) -> Row:
    settings = (f"pretrain_generator.loss={loss}",)
    return Row(title, f"generator-{loss}", _ALONE, _ALONE[0], settings=settings)


def _tuned(title: str, run: str, *settings: str) -> Row:
    return Row(title, run, (*_JUDGED, "calibrate"), CORRECTED, start="generator", settings=settings)


ROWS = {
    "popularity": Row("popularity", "", (), POPULARITY),
    "item-knn": Row("item-kNN", "", (), ITEM_KNN),
    "generator-bce": _generator("generator, one negative (BCE)", "bce"),
    "generator-gbce": _generator("generator, gBCE", "gbce"),
    "generator": _generator("generator, full softmax", "softmax"),
    "control": Row("control: likelihood", "control", (CONTROL,), CONTROL, start="generator"),
    "paper": Row("MFGAN as published", "paper", (*_ALONE, *_JUDGED), "adversarial", preset="paper"),
    "tuned": Row("MFGAN tuned", "tuned", _JUDGED, "adversarial", start="generator"),
    "with-discriminators": _tuned("MFGAN tuned, with discriminators", "tuned"),
    "shared-discriminators": _tuned(
        "MFGAN tuned, discriminators share a tower", "shared", "discriminator.shared=true"
    ),
}
# Ablations, ``kind:value``: the tuned row with one setting changed, from the same generator.
_ABLATIONS = {
    "only": "discriminator.factors=[{value!r}]",
    "lambda": "discriminator.sharpness={value}",
    "samples": "adversarial.num_samples={value}",
}


def settings_of(row: Row, data: str) -> tuple[str, ...]:
    """What a row overrides of its preset on a data set."""
    own = DATA[data].settings if row.preset == "tuned" else ()
    return (*own, *row.settings)


def find_row(name: str, factors: list[str]) -> Row:
    """A row by name, ablations as well: ``only:genre``, ``without:genre``, ``lambda:2``,
    ``samples:8``.

    Args:
        name: The row.
        factors: Factors of the data set.

    Raises:
        MfganError: There is no such row or factor.
    """
    kind, colon, value = name.partition(":")
    if not colon:
        if name not in ROWS:
            known = ", ".join([*ROWS, *(f"{kind}:VALUE" for kind in ("without", *_ABLATIONS))])
            raise MfganError(
                f"reproduce: row must be one of {known}, got {name!r}{nearest(name, list(ROWS))}"
            )
        return ROWS[name]
    if kind in ("only", "without") and value not in factors:
        raise MfganError(f"reproduce: factor must be one of {', '.join(factors)}, got {value!r}")
    if kind == "without":
        setting = f"discriminator.factors={[factor for factor in factors if factor != value]!r}"
    elif kind in _ABLATIONS:
        setting = _ABLATIONS[kind].format(value=value)
    else:
        raise MfganError(
            f"reproduce: ablation must be one of without, {', '.join(_ABLATIONS)}, got {kind!r}"
        )
    return _tuned(f"MFGAN tuned, {kind} {value}", name.replace(":", "-"), setting)
