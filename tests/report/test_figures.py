from xml.etree import ElementTree

import pytest

from mfgan.report.charts import Interval, Series, interval_chart, line_chart
from mfgan.report.figures import adaptation_figure, comparison_figure, sheet

SVG = "{http://www.w3.org/2000/svg}"


def inner(text):
    return ElementTree.fromstring(text).findall(f"{SVG}svg")


def box(chart):
    return [float(chart.get(name)) for name in ("x", "y", "width", "height")]


def test_charts_lie_side_by_side_without_overlap():
    rows = [Interval("a", 1.0, 0.5, 1.5)]
    tall = interval_chart("tall", rows * 8)
    flat = interval_chart("flat", rows)
    charts = inner(sheet([flat, tall, flat]))
    (x1, y1, w1, _), (x2, y2, _, h2), (x3, y3, _, _) = map(box, charts)
    assert (x1, y1, x3) == (x3, y2, x1)
    assert x2 >= x1 + w1
    assert y3 >= y2 + h2
    whole = ElementTree.fromstring(sheet([flat, tall, flat]))
    assert float(whole.get("height")) >= y3 + box(charts[2])[3]
    assert ".dot" in whole.find(f"{SVG}style").text


def summary(chosen):
    cell = {
        "P@1": {"mean": 0.6, "interval": [0.5, 0.7]},
        "P@2": {"mean": 0.8, "interval": [0.8] * 2},
    }
    alone = {name: {"mean": 0.4, "interval": [float("nan")] * 2} for name in cell}
    models = {"64-64": {"test": cell}, "L2 & more": {"test": alone}}
    return {"models": models, "chosen on validation by P@1": chosen}


def test_the_comparison_shows_models_floors_and_the_choice():
    floors = {"random": {"metrics": {"P@1": 0.3, "P@2": 0.5}}}
    result = {"summary": {"yelp": summary("L2 & more")}, "floors": {"yelp": floors}}
    charts = inner(comparison_figure(result))
    assert [chart.find(f"{SVG}title").text for chart in charts] == [
        "yelp: test P@1",
        "yelp: test P@2",
    ]
    dots = [g for g in charts[0].iter(f"{SVG}g") if "dot" in g.get("class", "")]
    figures = [dot.find(f"{SVG}title").text for dot in dots]
    assert figures == [
        "random: 0.3000 (0.3000 to 0.3000)",
        "64-64: 0.6000 (0.5000 to 0.7000)",
        "L2 & more: 0.4000 (0.4000 to 0.4000)",
    ]
    assert [dot.get("class") for dot in dots] == ["dot", "dot", "dot strong"]
    ticks = [float(one.text) for one in charts[0].findall(f"{SVG}text[@class='middle']")]
    assert min(ticks) > 0  # the axis follows the values


def test_the_adaptation_curve_is_the_mean_of_the_policies():
    points = [
        [{"displays a user": 0.0, "reward": low}, {"displays a user": 50.0, "reward": low + 2}]
        for low in (1.0, 3.0)
    ]
    names = ("random", "greedy", "cascading DQN")
    recommenders = {name: {"reward": {"mean": 1.5}} for name in names}
    (chart,) = inner(adaptation_figure({"adaptation": points, "recommenders": recommenders}))
    said = chart.find(f"{SVG}desc").text
    assert "cascading DQN, adapting: from 2 to 4" in said
    assert said.count("from 1.5 to 1.5") == 2


def test_an_axis_that_need_not_reach_nought():
    rows = [Interval("a", 10.0, 9.0, 11.0)]
    assert ">0<" in interval_chart("t", rows).replace(">0.0<", ">0<")
    assert ">0<" not in interval_chart("t", rows, reach=()).replace(">0.0<", ">0<")


def test_one_line_alone():
    chart = line_chart("t", [Series("a", [(0, 1.0), (1, 2.0)])], x_label="x")
    assert box(inner(sheet([chart], columns=3))[0])[2] == pytest.approx(460)
