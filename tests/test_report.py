"""Where a run stands, the charts, and the page."""

import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
from made import made_dataset
from made_run import calibrated, finished_run

from mfgan.errors import MfganError
from mfgan.evaluation.baselines import Popularity
from mfgan.evaluation.protocol import evaluate
from mfgan.evaluation.scorers import GeneratorScorer
from mfgan.explain import Judge
from mfgan.models.chance import ChanceCurve
from mfgan.recommend import Recommender, Session
from mfgan.report import standing, write_report
from mfgan.report.charts import Bar, Interval, Series, interval_chart, line_chart, share_chart
from mfgan.report.curves import stage_curves
from mfgan.report.factor_shares import factor_shares
from mfgan.training.log import read_rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def dataset(folder):
    return made_dataset(folder, num_users=60)


@pytest.fixture(scope="module")
def run(folder, dataset):
    return finished_run(folder / "run", dataset)


@pytest.fixture(scope="module")
def control(folder, dataset):
    stages = ("pretrain-generator", "continue-mle")
    return finished_run(folder / "<control>", dataset, stages=stages, seed=7)


@pytest.fixture(scope="module")
def found(run, control):
    return standing(run, controls=[control])


def test_ours_comes_last_after_baselines_stages_and_controls(found, control):
    names = [(row.name, row.kind) for row in found.contenders]
    assert names == [
        ("popularity", "baseline"),
        ("item-kNN", "baseline"),
        ("pretrain-generator", "stage"),
        (f"{control.path} (continue-mle)", "control"),
        ("adversarial", "stage"),
    ]


def test_every_row_is_the_evaluation_of_its_weights(found, run, control, dataset):
    sources = {
        "pretrain-generator": run.generator("pretrain-generator"),
        "adversarial": run.generator("adversarial"),
        f"{control.path} (continue-mle)": control.generator("continue-mle"),
    }
    for row in found.contenders:
        if row.name in sources:
            alone = evaluate(dataset, GeneratorScorer(sources[row.name]), max_len=10)
            assert row.evaluation.metrics == alone.metrics
    popular = evaluate(dataset, Popularity(dataset), max_len=1)
    assert found.others[0].evaluation.metrics == popular.metrics


def test_continued_likelihood_is_the_control_and_never_the_headline(folder, dataset):
    stages = ("pretrain-generator", "pretrain-discriminator", "adversarial", "continue-mle")
    both = finished_run(folder / "both", dataset, stages=stages)
    found = standing(both, baselines=False)
    assert found.ours.name == "adversarial"
    assert [(row.name, row.kind) for row in found.others] == [
        ("pretrain-generator", "stage"),
        ("continue-mle", "control"),
    ]
    assert standing(both, baselines=False, stage="continue-mle").ours.name == "continue-mle"


def test_differences_are_corrected_together(found):
    assert len(found.comparisons) == 4 * 3
    assert all(row.p_holm >= row.p_value for row in found.comparisons)


def test_stages_are_checked(run, folder, dataset):
    with pytest.raises(MfganError, match="stage must be one that is finished.*'adversial'; did"):
        standing(run, stage="adversial")
    with pytest.raises(MfganError, match="pretrain-discriminator must have trained the generator"):
        standing(run, stage="pretrain-discriminator")
    empty = finished_run(folder / "empty", dataset, stages=())
    with pytest.raises(MfganError, match="a generator must have been trained, found no finished"):
        standing(empty)


def test_a_control_must_be_of_the_same_data(run, folder):
    other = made_dataset(folder, name="other", seed=5)
    stranger = finished_run(folder / "stranger", other)
    with pytest.raises(MfganError, match="must be used with the data set it was made with"):
        standing(run, controls=[stranger])


@pytest.mark.parametrize("chance", [None, ChanceCurve((-1.0, 0.0, 1.0), (-0.2, 0.5, 3.0))])
def test_factor_shares_equal_a_plain_mean(tmp_path, chance):
    # Nobody's target was had before: the page's ranking keeps such a one, a recommender does not.
    histories = [[1, 2, 3, 4], [5, 6, 7, 8, 9], [2, 4, 6, 8]]
    dataset = made_dataset(tmp_path, name="few", num_users=3, min_len=4, max_len=5)
    dataset.items = np.concatenate(histories).astype(np.int32)
    dataset.offsets = np.array([0, 4, 9, 13])
    dataset.test = np.array([3, 4, 3])
    run = finished_run(tmp_path / "few-run", dataset)
    run.dataset = dataset
    if chance is not None:
        calibrated(run, chance)
    found = factor_shares(run)
    assert found.calibrated == (chance is not None)
    judge = Judge(run.discriminators(), correction=run.correction())
    recommender = Recommender(run)
    pairs = [(np.array(h[:-1], np.int32), np.array(h[-1:])) for h in histories]
    taken = [judge.candidates(*pair) for pair in pairs]
    tables = [recommender.rank([Session("x", history)], k=10) for history, _ in pairs]
    tops = [table["item_idx"].to_numpy().astype(np.int64) for table in tables]
    first = [judge.candidates(history, top) for (history, _), top in zip(pairs, tops, strict=True)]
    for row, judged in enumerate((taken, first)):
        for name in ("shares", "probabilities", "combined"):
            plain = np.concatenate([getattr(j, name) for j in judged]).mean(axis=0)
            np.testing.assert_allclose(getattr(found, name)[row], plain, rtol=1e-4)
        leading = np.concatenate([j.leading for j in judged])
        expected = np.bincount(leading, minlength=5) / len(leading)
        np.testing.assert_allclose(found.leads[row], expected)
    assert found.num_users == 3


def parse(svg):
    return ElementTree.fromstring(svg)


def test_lines_go_through_their_points():
    svg = parse(line_chart("a < b", [Series("x&y", [(1, 0.0), (2, 5.0), (3, 10.0)])], x_label="t"))
    path = next(p for p in svg.iter("path") if "L" in p.get("d", ""))
    points = [tuple(map(float, p.split())) for p in path.get("d")[1:].split("L")]
    xs, ys = zip(*points, strict=True)
    assert xs[1] - xs[0] == pytest.approx(xs[2] - xs[1], abs=0.11)
    assert ys[0] > ys[1] > ys[2]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.11)
    assert svg.find("title").text == "a < b"
    assert "x&y: from 0 to 10, lowest 0, highest 10" in svg.find("desc").text


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, 3.0)],
        [(1, 3.0), (2, 3.0)],
        [(1, float("nan")), (2, 1.0)],
        [(1, 1e-9), (2, 3e-9)],
        [(1, -2e7), (500, 9e7)],
        [(0, 0.0), (1, 0.0)],
    ],
)
def test_odd_lines_are_drawn(points):
    svg = parse(line_chart("odd", [Series("one", points), Series("two", points)], x_label="x"))
    text = ElementTree.tostring(svg, encoding="unicode")
    assert "nan" not in text.replace("NaN", "nan")
    ticks = [t.text for t in svg.findall("text") if t.get("class") == "end"]
    assert len(set(ticks)) == len(ticks) >= 2


def test_intervals_and_shares_are_to_scale():
    svg = parse(
        interval_chart("t", [Interval("a", 0.2, 0.1, 0.3), Interval("b", 0.4, 0.3, 0.5, True)])
    )
    first, second = (float(dot.get("cx")) for dot in svg.iter("circle"))
    left, right = next(
        tuple(float(v) for v in p.get("d")[1:].replace("H", " ").split()[::2])
        for p in svg.iter("path")
        if "H" in p.get("d") and p.get("class") is None
    )
    assert left < first < right < second
    assert first - left == pytest.approx(right - first, abs=0.11)
    svg = parse(share_chart("t", ["p", "q"], [Bar("one", [0.25, 0.75])]))
    widths = [float(r.get("width")) for r in svg.iter("rect")]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)


def test_curves_of_every_stage(run):
    stages = {stage.name: stage for stage in stage_curves(read_rows(run.metrics_path))}
    assert list(stages) == ["pretrain-generator", "pretrain-discriminator", "adversarial"]
    titles = [parse(chart).find("title").text for chart in stages["adversarial"].charts]
    assert titles == ["validation", "loss", "loss by factor", "reward"]
    assert len(stages["adversarial"].more_charts) == 1
    assert stages["pretrain-discriminator"].charts == ()
    figures = dict(stages["pretrain-discriminator"].figures)
    assert [name for name, _ in figures["loss by factor"]] == ["id", "genre"]
    # The log has NDCG@20 too; a page has room for three.
    legend = parse(stages["adversarial"].charts[0]).find("desc").text
    assert "NDCG@10" in legend
    assert "NDCG@20" not in legend


class Checker(HTMLParser):
    """Finds unclosed elements, ids that stand twice, and anything loaded from outside."""

    VOID = ("meta", "br", "link", "img", "input")

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.outside, self.text = [], [], [], []

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids += [found["id"]] if "id" in found else []
        self.outside += [v for k, v in attributes if k in ("src", "href") and v[:1] != "#"]
        self.outside += [tag] if tag in ("script", "link", "iframe") else []
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.outside += [v for k, v in attributes if k in ("src", "href") and v[:1] != "#"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(run, control):
    return write_report(run, controls=[control]).read_text()


def test_the_page_is_whole_and_loads_nothing(page):
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert checker.outside == []
    assert len(set(checker.ids)) == len(checker.ids)
    assert "<control>" in "".join(checker.text)  # escaped in the source


def test_the_page_tells_everything(page, found, dataset):
    for row in found.contenders:
        for name, value in row.evaluation.metrics.items():
            assert f"{value:.4f}<small>" in page, (row.name, name)
    for text in (
        "tags",
        "made",
        dataset.fingerprint,
        "hidden_dim = 8",
        "3 h 6 min",
        "history under",
    ):
        assert text in page


def test_chances_of_a_calibrated_run_are_those_that_explain_has(dataset, page, tmp_path):
    run = calibrated(finished_run(tmp_path / "run", dataset), ChanceCurve((0.0, 1.0), (0.5, 3.0)))
    told = write_report(run).read_text()
    shares = factor_shares(run)
    assert all(f"<td>{value:.3f}</td>" in told for value in shares.probabilities.flat)
    assert "(calibrated on validation items)" in told
    named = write_report(run, tmp_path / "named.html", stage="adversarial").read_text()
    for uncalibrated in (page, named):
        assert "(as it is, not calibrated)" in uncalibrated


def test_the_same_run_gives_the_same_page(run, control, page, tmp_path):
    again = write_report(run, tmp_path / "again.html", controls=[control])
    assert again.read_text() == page


def test_a_run_without_discriminators_or_curves(folder, dataset):
    plain = finished_run(folder / "plain", dataset, stages=("pretrain-generator",))
    plain.metrics_path.unlink()
    text = write_report(plain).read_text()
    assert 'id="factors"' not in text
    assert "no metrics.jsonl" in text


@pytest.mark.parametrize("module", ["jinja2", "matplotlib"])
def test_what_is_missing_is_named(run, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MfganError, match=f"needs {module}, .* pip install 'mfgan.report.'"):
        write_report(run, tmp_path / "x.html")
    assert not (tmp_path / "x.html").exists()
