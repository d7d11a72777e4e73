"""The page of a trust run: every figure on it, offline, escaped, and readable in a real browser."""

import csv
import json
import shutil

import pytest
from command_line import run
from trust_runs import HOSTILE, figure, make_trust, trust_record

from xface.errors import UsageError
from xface.report.trust.answers import forests, rows_of
from xface.report.trust.page import write_trust_report
from xface.runs.trust import TrustRecord, read_trust
from xface.wording import sentence


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = make_trust(tmp_path_factory.mktemp("runs") / "trust")
    write_trust_report(folder)
    return folder


@pytest.fixture
def page(browser, folder):
    opened, wrong, asked = browser.new_page(viewport={"width": 1280, "height": 900}), [], []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto((folder / "report" / "index.html").as_uri())
    yield opened
    opened.close()
    assert wrong == []
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}


def test_the_verdicts_come_first_in_words(page, folder):
    record = read_trust(folder)
    rows = page.locator("#verdicts tbody tr")
    assert page.locator("main section").first.get_attribute("id") == "verdicts"
    assert rows.locator("th").all_inner_texts() == [
        "region effects", "vanilla", "gradcam at layer3", "gradcam at layer4"
    ]  # fmt: skip
    assert rows.locator(".why").all_inner_texts() == [
        sentence(each.verdict.split(": ", 1)[1]) for each in (*record.effects, *record.maps)
    ]
    assert page.locator("#verdicts .lead").inner_text().startswith("2 of 3 maps are informative")


def test_each_check_has_a_drawing_and_a_table_of_the_same_figures(page):
    swap = page.locator("#check-partial_swap")
    assert swap.locator(".forest li").count() == 6  # effects, three maps, two baselines
    best = swap.locator(".forest li", has_text="gradcam at layer3")
    assert best.locator("svg").count() == 2
    assert best.locator("rect").count() == 1
    assert "★ better than the face's centre" in best.inner_text()
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    cells = swap.locator("table").first.locator("tbody tr", has_text="gradcam at layer3").locator("td")
    expected = ["65", "72 % (60 to 84)", "the face's centre", "35 %", "+37 % (+25 to +49)", "★ better"]
    assert cells.all_inner_texts() == expected
    legends = [swap, page.locator("#check-randomisation")]
    assert [each.locator(".legend li").count() for each in legends] == [2, 1]
    assert swap.locator("table").count() == 3  # all, by region, by strength
    assert page.locator("#check-removal .curves figure").count() == 4
    assert page.locator("#check-randomisation .curves figcaption").first.inner_text() == "vanilla"
    assert page.locator("#check-region_agreement .forest li").count() == 5  # undefined for the effects


def test_examples_show_their_pictures_and_say_where_there_is_none(page):
    first, second = page.locator(".examples li").all()
    first.scroll_into_view_if_needed()
    first.locator("img").evaluate("async (image) => { image.loading = 'eager'; await image.decode(); }")
    assert first.locator("img").evaluate("image => image.naturalWidth") == 96
    assert HOSTILE in first.inner_text()
    assert second.locator("img").count() == 0
    assert "cannot be shown" in second.inner_text()


def test_nothing_from_outside_becomes_markup(folder):
    text = (folder / "report" / "index.html").read_text()
    assert "<img src=x" not in text
    assert "<script" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


@pytest.mark.parametrize("width", [1280, 420])
def test_no_text_is_cut_and_axe_finds_nothing_wrong(page, axe, reader, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(f"{axe}\n{reader}")
    page.evaluate("openAll()")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("textThatIsCut()") == []
    assert page.evaluate("textsThatOverlap()") == []
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


def test_all_figures_are_in_a_table(folder):
    with open(folder / "report" / "tables" / "checks.csv", newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    [found] = [
        row for row in rows if (row["answerer"], row["method"], row["check"], row["layer"])
        == ("maps", "gradcam", "partial_swap", "layer3")
    ]  # fmt: skip
    assert (float(found["value"]), float(found["difference_low"])) == pytest.approx((0.72, 0.25))
    assert {row["answerer"] for row in rows} == {"maps", "effects", "gaussian", "edges", "untrained"}


@pytest.mark.parametrize(
    ("better", "interval", "expected"),
    [("higher", [0.1, 0.2], "★ better"), ("lower", [0.1, 0.2], "worse"), ("lower", [-0.2, -0.1], "★ better"),
     ("higher", [0.0, 0.1], "not shown to be better"), ("higher", None, "not tested")],
)  # fmt: skip
def test_only_an_interval_beyond_0_is_better(better, interval, expected):
    content = trust_record()
    content["checks"]["partial_swap"]["better"] = better
    content["maps"][0]["checks"]["partial_swap"]["simultaneous_interval"] = interval
    row = rows_of(TrustRecord.model_validate(content), "partial_swap")[1]
    assert (row.answer.name, row.result) == ("vanilla", expected)


def test_runs_with_little_in_them_have_a_page_too(tmp_path):
    """No map, no baseline, nothing measured, all values alike, one without an interval."""
    run_of = tmp_path / "none"
    make_trust(run_of, maps=[], baselines=[], effects=[], examples=[])
    assert "Provenance" in write_trust_report(run_of).read_text()
    record = trust_record()
    one = {**record["maps"][0], "checks": {"partial_swap": {**figure(0.0, 3), "interval": None}}}
    make_trust(tmp_path / "one", maps=[one], baselines=[], effects=[])
    assert "vanilla" in write_trust_report(tmp_path / "one").read_text()
    values, _ = forests(rows_of(read_trust(tmp_path / "one"), "partial_swap"))
    assert values.measure.low < values.measure.high


def test_xface_report_draws_it_again(folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "report")
    assert run("report", copy).status == 0
    assert (copy / "report" / "index.html").read_text() == (
        (folder / "report" / "index.html").read_text().replace("report: trust<", "report: copy<")
    )
    assert run("report", copy, "--single-file").status == 2
    content = json.loads((copy / "trust.json").read_text())
    content["maps"][0]["checks"]["partial_swap"]["value"] = "high"
    (copy / "trust.json").write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"trust\.json"):
        write_trust_report(copy)
    assert (copy / "report" / "index.html").is_file()
