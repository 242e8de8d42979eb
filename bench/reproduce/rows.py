"""What each row of the table of record is: settings, stages, and what is scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.reproduce.data import COMMON, Ground
from mfgan.errors import MfganError, nearest
from mfgan.names import RELATIONS

# Scored without a stage of its own.
POPULARITY, ITEM_KNN, CORRECTED = "popularity", "item-knn", "with-discriminators"
CONTROL = "continue-mle"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Args:
        title: What the table calls it.
        run: Rows of one name share a run, and so its stages.
        stages: Trained in this order.
        start: The row from whose run the weights are taken first; none where empty.
        scored: The stage whose generator is evaluated, or one of the three names above; where
            empty, other rows start from it and that is all.
        preset: Settings to start from.
        settings: Overrides.
        against: The row that it is tested against.
        relations: Those that judge beside the factors.
        related: Where the weights of relations in the generator's logits begin; where empty it has
            none.
        only: Those that it has then; both where empty.
    """

    title: str
    run: str
    stages: tuple[str, ...]
    scored: str
    start: str = ""
    preset: str = "tuned"
    settings: tuple[str, ...] = ()
    against: str = "control"
    relations: tuple[str, ...] = ()
    related: str = ""
    only: tuple[str, ...] = ()


# Here factors learn by their sum alone. That each learns by itself as well, as in the preset,
# corrects the ranking as well (docs/experiments.md).
_TOGETHER = "pretrain_discriminator.own_weight=0"
# Relations say much of what the generator says: they learn beside one that is too sure of itself.
_TEMPERED = ("pretrain_discriminator.tempered=true", "calibrate.only_sure=true")
_SURE = ("pretrain_discriminator.tempered=false", "calibrate.only_sure=true")
_PLAIN = ("pretrain_discriminator.tempered=false", "calibrate.only_sure=false")

# What ablations change, and so are tested against.
ABLATED = "with-discriminators"

# What no judges would have taught in the passes of the published turns.
SHORT_CONTROL, STOPPED_CONTROL = "control-short", "control-stopped"
_SHORT = "adversarial.turns=2"
_STOPPED = "adversarial.patience=5"

_ALONE = ("pretrain-generator",)
_JUDGED = ("pretrain-discriminator", "adversarial")


def _generator(title: str, loss: str) -> Row:
    settings = (f"pretrain_generator.loss={loss}",)
    return Row(title, f"generator-{loss}", _ALONE, _ALONE[0], settings=settings)


def _tuned(title: str, run: str) -> Row:
    return Row(title, run, (*_JUDGED, "calibrate"), CORRECTED, start="folds")


def _ablation(title: str, run: str, *settings: str) -> Row:
    return replace(_tuned(title, run), settings=settings, against=ABLATED)


def _published(title: str, run: str, *settings: str, against: str) -> Row:
    start, settings = "generator-published", (*COMMON, *settings)
    return Row(title, run, _JUDGED, "adversarial", start, "paper", settings, against)


def _published_control(title: str, run: str, setting: str) -> Row:
    """The published turns train by the full softmax, weighted by a reward; here nothing judges."""
    settings = (setting, "pretrain_generator.loss=softmax")
    made = _published(title, run, *settings, against=run)
    return replace(made, stages=(CONTROL,), scored=CONTROL)


ROWS = {
    "popularity": Row("popularity", "", (), POPULARITY),
    "item-knn": Row("item-kNN", "", (), ITEM_KNN),
    "generator-bce": _generator("generator, one negative (BCE)", "bce"),
    "generator-gbce": _generator("generator, gBCE", "gbce"),
    "generator": _generator("generator, full softmax", "softmax"),
    "folds": Row("", "folds", ("cross-fit",), "", start="generator"),
    "control": Row("control: likelihood", "control", (CONTROL,), CONTROL, start="generator"),
    "generator-published": Row(
        title="generator as published",
        run="generator-published",
        stages=_ALONE,
        scored=_ALONE[0],
        preset="paper",
        settings=COMMON,
    ),
    "paper": _published("MFGAN as published", "paper", against=STOPPED_CONTROL),
    STOPPED_CONTROL: _published_control(
        "control: likelihood instead of the turns, stopped alike", STOPPED_CONTROL, _STOPPED
    ),
    "paper-stopped": _published(
        "MFGAN as published, stopped when 5 turns in a row validate no better",
        "paper-stopped",
        _STOPPED,
        against=STOPPED_CONTROL,
    ),
    SHORT_CONTROL: _published_control(
        "control: likelihood, passes of 2 published turns", SHORT_CONTROL, _SHORT
    ),
    "paper-short": _published(
        "MFGAN as published, 2 of its 100 turns", "paper-short", _SHORT, against=SHORT_CONTROL
    ),
    "tuned": Row("MFGAN tuned", "tuned", _JUDGED, "adversarial", start="folds"),
    ABLATED: _tuned("MFGAN tuned, with discriminators", "tuned"),
    "shared-discriminators": _ablation(
        "MFGAN tuned, discriminators share a tower", "shared", "discriminator.shared=true"
    ),
}


def _ids_alone(row: Row) -> Row:
    """As published: the generator sees ids, and factors are the discriminators' alone."""
    return replace(
        row,
        title=row.title and f"{row.title}, ids alone in the generator",
        run=f"{row.run}-ids",
        start=row.start and f"{row.start}-ids",
        settings=(*row.settings, "generator.factors=[]"),
        against=f"{row.against}-ids",
    )


_FITTED, _LEARNED = "fitted", "zero"
_RELATED_CONTROL = "control-relations"
ROWS[_RELATED_CONTROL] = replace(
    ROWS["control"],
    title="control: likelihood, relations in the generator",
    run=_RELATED_CONTROL,
    related=_FITTED,
)


def _with_relations(
    row: Row, kind: str, title: str, *, related: str = "", judging: tuple[str, ...] = ()
) -> Row:
    return replace(
        row,
        title=f"{row.title}, {title}",
        run=f"{row.run}-{kind}",
        relations=judging,
        related=related,
        against=_RELATED_CONTROL if related == _FITTED else row.against,
    )


# As in the preset: factors judge, and the generator has relations, weighed as its control's are.
for _name in ("tuned", ABLATED):
    ROWS[f"{_name}-relations"] = _with_relations(
        ROWS[_name], "relations", "relations in the generator", related=_FITTED
    )
    # Relations judge too, and what they weigh in the generator is learned from them alone.
    ROWS[f"{_name}-learned-relations"] = _with_relations(
        ROWS[_name],
        "learned-relations",
        "relations in the generator learned from judges",
        related=_LEARNED,
        judging=RELATIONS,
    )
    # They judge, and the generator has none.
    ROWS[f"{_name}-judged-relations"] = _with_relations(
        ROWS[_name], "judged-relations", "relations judge alone", judging=RELATIONS
    )

_WITHOUT_FACTORS = ("generator", "folds", "control", "tuned", "with-discriminators")
ROWS |= {f"{name}-ids": _ids_alone(ROWS[name]) for name in _WITHOUT_FACTORS}
# Ablations by name, ``kind:value``: one setting changed, from the same generator.
_KINDS = ("only", "without", "lambda", "samples")


def settings_of(row: Row, ground: Ground) -> tuple[str, ...]:
    """What a row overrides of its preset on a data set; the published settings are those of none."""
    if row.preset != "tuned":
        return row.settings
    judged = _judged_by((*ground.judges, *row.relations))
    how = _TEMPERED if row.relations else _SURE if row.related else _PLAIN
    related = list(row.only or RELATIONS) if row.related else []
    begin = (f"adversarial.relation_weights={row.related}",) if row.related else ()
    settings = (_TOGETHER, judged, f"generator.relations={related!r}", *begin)
    return (*settings, *ground.settings, *how, *row.settings)


def _judged_by(factors: Sequence[str]) -> str:
    return f"discriminator.factors={list(factors)!r}"


def find_row(name: str, factors: Sequence[str]) -> Row:
    """A row by name, ablations as well: ``only:genre``, ``without:genre``, ``lambda:2``,
    ``samples:8``; of relations, ``only:transition``, they change the rows with relations.

    Args:
        name: The row.
        factors: Those that judge in the rows that are no ablations.

    Raises:
        MfganError: There is no such row or factor.
    """
    kind, colon, value = name.partition(":")
    if not colon:
        scored = [row for row, how in ROWS.items() if how.scored]
        if name not in scored:
            known = ", ".join([*scored, *(f"{kind}:VALUE" for kind in _KINDS)])
            raise MfganError(
                f"reproduce: row must be one of {known}, got {name!r}{nearest(name, scored)}"
            )
        return ROWS[name]
    title, run = f"MFGAN tuned, {kind} {value}", name.replace(":", "-")
    if kind in ("only", "without"):
        if value in RELATIONS:
            return _ablation_of_relation(run, kind, value)
        return _ablation(title, run, _judged_by(_left(kind, value, factors)))
    if kind == "lambda":
        # The weights that lambda makes instead of fitted ones. Of the log-odds they make a mean,
        # and it is their sum that corrects the ranking.
        weight = f"adversarial.policy_weight={len(factors)}"
        sharpness = f"discriminator.sharpness={value}"
        return _ablation(title, run, "adversarial.reward=log-odds", weight, sharpness)
    if kind == "samples":
        return _ablation(title, run, f"adversarial.num_samples={value}")
    raise MfganError(f"reproduce: ablation must be one of {', '.join(_KINDS)}, got {kind!r}")


def against(name: str) -> str:
    """The row that one of this name is tested against."""
    if name in ROWS:
        return ROWS[name].against
    of_relation = name.partition(":")[2] in RELATIONS
    return f"{ABLATED}-relations" if of_relation else ABLATED


def _ablation_of_relation(run: str, kind: str, relation: str) -> Row:
    """The generator has this relation alone, or the other one."""
    title = f"MFGAN tuned, relations in the generator, {kind} {relation}"
    left = tuple(name for name in RELATIONS if (name == relation) == (kind == "only"))
    base = f"{ABLATED}-relations"
    return replace(_ablation(title, run), related=_FITTED, only=left, against=base)


def _left(kind: str, value: str, factors: Sequence[str]) -> list[str]:
    if value not in factors:
        known = ", ".join([*factors, *RELATIONS])
        raise MfganError(f"reproduce: factor must be one of {known}, got {value!r}")
    left = [value] if kind == "only" else [other for other in factors if other != value]
    if not left:
        raise MfganError(f"reproduce: another factor must judge without {value}, found none")
    return left
