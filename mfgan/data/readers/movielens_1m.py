"""MovieLens-1M (and 10M, laid out alike), with what is known of its movies elsewhere.

Three logs are read: ``ratings.dat``; ``ratings.parquet``, whose column ``chron_rank`` gives the
order where times are lacking; and the ``user item`` file of SASRec's authors, whose own ids two
files beside it map to MovieLens's.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from mfgan.data.columns import ITEM_ID, ORDER, RATING, TIMESTAMP, USER_ID
from mfgan.data.graph import train_vectors
from mfgan.data.readers.delimited import Layout
from mfgan.data.readers.items import (
    CATEGORICAL,
    MULTI,
    TITLE,
    YEAR_IN_TITLE,
    Items,
    assemble,
    split_labels,
)
from mfgan.data.readers.raw_log import AttributeRule, RawLog, Request, SourceFile
from mfgan.data.readers.sources import find, find_log, read_bytes
from mfgan.data.readers.text_log import item_text, text_log
from mfgan.errors import MfganError

# The two-character separator of the files becomes one that occurs in none of them.
_SEPARATOR, _ONE = b"::", "\x1f"
_RATINGS = Layout(_ONE, (USER_ID, ITEM_ID, RATING, TIMESTAMP), quoted=False)
_MOVIES = Layout(_ONE, (ITEM_ID, TITLE, "genre"), quoted=False)
_DETAILS = Layout(
    _ONE,
    (
        ITEM_ID,
        TITLE,
        "year",
        "rating_board",
        "released",
        "genre",
        "director",
        "writer",
        "actors",
        "plot",
        "poster",
    ),
    quoted=False,
)
_PAIRS = Layout(" ", (USER_ID, ITEM_ID), quoted=False)
_MAP = Layout(" ", ("sas", "original"), quoted=False)
_TAB = Layout("\t", (ITEM_ID, "entity"), quoted=False)
_TRIPLES = Layout("\t", ("entity", "relation", "tail"), quoted=False)
_UNKNOWN = ["", "nan", "N/A"]


def read(request: Request) -> RawLog:
    """Read a log of MovieLens-1M and every table of its movies that lies beside it.

    Raises:
        MfganError: See :func:`mfgan.data.readers.read_log`.
    """
    names = ("ratings.dat", "ratings.parquet", "sasrec.txt")
    path = find_log(request.format, request.source, *names)
    if path.suffix == ".parquet":
        from mfgan.data.readers.table import table_log

        log, sources = table_log(request, str(path), {ITEM_ID: "movie_id", ORDER: "chron_rank"})
    elif ".txt" in path.suffixes:
        log, sources = _sasrec(path, request)
    else:
        text = read_bytes(path).replace(_SEPARATOR, _ONE.encode())
        log, source = text_log(path, _RATINGS, request, text=text)
        sources = [source]
    return assemble(log, _movies(path.parent, request), request, sources)


def _sasrec(path: Path, request: Request) -> tuple[pl.DataFrame, list[SourceFile]]:
    # Every id is looked up, so that a plan would be of no use.
    log, source = text_log(path, _PAIRS, replace(request, again=None))
    sources = [source]
    assert isinstance(log, pl.DataFrame)
    for column, name in ((USER_ID, "users"), (ITEM_ID, "items")):
        ids = find(path.parent, f"sas_to_original_{name}.txt")
        if ids is None:
            request.reporter.note(
                f"sas_to_original_{name}.txt is not beside {path.name}: its own {name} ids are kept"
            )
            continue
        frame, source = item_text(ids, _MAP, request)
        frame = frame.select(pl.col("sas", "original").cast(pl.Int64, strict=False))
        original = log[column].replace_strict(frame["sas"], frame["original"], default=None)
        if (absent := original.is_null()).any():
            first = log[column].filter(absent)[0]
            raise MfganError(f"prepare: {ids.name} must map every id, got none for {first}")
        log = log.with_columns(original)
        sources.append(source)
    return log, sources


def _movies(folder: Path, request: Request) -> Items | None:
    path = find(folder, "movies.dat")
    if path is None:
        return None
    frame, source = item_text(path, _MOVIES, request, separator=_SEPARATOR)
    frame = frame.with_columns(
        split_labels("genre", "|", drop="(no genres listed)"),
        pl.col(TITLE).str.extract(YEAR_IN_TITLE).alias("year"),
    )
    items = Items(frame, {"genre": MULTI, "year": CATEGORICAL}, [source])
    for further in (_details, _knowledge_graph):
        for place in (folder, folder / "factors"):
            if place.is_dir() and (found := further(place, request)) is not None:
                items = Items(
                    items.frame.join(found.frame, on=ITEM_ID, how="left"),
                    items.rules | found.rules,
                    [*items.sources, *found.sources],
                )
                break
    return items


def _details(folder: Path, request: Request) -> Items | None:
    path = find(folder, "movies_extrainfos.dat")
    if path is None:
        return None
    frame, source = item_text(path, _DETAILS, request, separator=_SEPARATOR)
    known = pl.col("rating_board", "director", "actors")
    frame = frame.with_columns(pl.when(~known.is_in(_UNKNOWN)).then(known)).select(
        ITEM_ID,
        "rating_board",
        split_labels("director", ",").alias("director"),
        split_labels("actors", ",").alias("actors"),
    )
    rules = {"rating_board": CATEGORICAL, "director": MULTI, "actors": MULTI}
    return Items(frame.unique(ITEM_ID, keep="first"), rules, [source])


def _knowledge_graph(folder: Path, request: Request) -> Items | None:
    triples, entities = find(folder, "mkr_kg.txt"), find(folder, "mkr_item_index2entity_id.txt")
    if triples is None or entities is None:
        return None
    graph, graph_source = item_text(triples, _TRIPLES, request)
    names, names_source = item_text(entities, _TAB, request)
    label = pl.concat_str(pl.col("relation").str.replace(r"^.*\.", ""), pl.lit(":"), "tail")
    frame = names.join(graph.with_columns(label.alias("label")), on="entity")
    frame = frame.group_by(ITEM_ID).agg(pl.col("label").unique().sort().alias("knowledge_graph"))
    frame = frame.join(names.join(_entity_vectors(graph), on="entity").drop("entity"), on=ITEM_ID)
    rules = {
        "knowledge_graph": AttributeRule(
            "multi", note="relation:tail of each triple whose head is the movie"
        ),
        "graph_vector": AttributeRule("dense", note="the movie's entity by TransE on all triples"),
    }
    return Items(frame, rules, [graph_source, names_source])


def _entity_vectors(graph: pl.DataFrame) -> pl.DataFrame:
    """``entity`` and its ``graph_vector``, in the order of the entities' names."""
    entities = pl.concat([graph["entity"], graph["tail"].alias("entity")]).unique().sort()
    relations = graph["relation"].unique().sort()

    def numbers(names: pl.Series, known: pl.Series) -> pl.Series:
        return names.replace_strict(known, pl.int_range(len(known), eager=True))

    triples = np.stack(
        [
            numbers(graph["entity"], entities).to_numpy(),
            numbers(graph["relation"], relations).to_numpy(),
            numbers(graph["tail"], entities).to_numpy(),
        ],
        axis=1,
    )
    vectors = train_vectors(triples, len(entities), len(relations))
    return pl.DataFrame({"entity": entities, "graph_vector": vectors})
