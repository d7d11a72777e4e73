"""The report's page, driven in a real browser: what a reader presses, types and sees."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from run_folders import HOSTILE, SCRIPT, make_run

from xface.report.run.page import SINGLE_BYTES, write_report
from xface.runs.folder import RunFolder

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

ROWS = 1200
READY = "body[data-ready=yes]"


@pytest.fixture(scope="module")
def folder(browser, tmp_path_factory) -> Path:
    """A run of many images; made only where there is a browser."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "run", ROWS)
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def run(folder) -> RunFolder:
    return RunFolder.read(folder)


class Watched:
    """A page, and all that it must not do: log errors, open dialogs, ask for anything but files."""

    def __init__(self, browser, path: Path) -> None:
        self.page, self.wrong, self.files = browser.new_page(viewport={"width": 1280, "height": 900}), [], []
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda m: m.type in {"error", "warning"} and self.wrong.append(m.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.files.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector(READY)

    def close(self) -> None:
        self.page.close()
        assert self.wrong == []
        assert {url.split(":")[0] for url in self.files} <= {"file", "data"}


@pytest.fixture
def watched(browser, folder):
    watched = Watched(browser, folder / "report" / "index.html")
    yield watched
    watched.close()


@pytest.fixture
def page(watched):
    return watched.page


def shown(page) -> list[int]:
    return [int(row) for row in page.locator(".card").evaluate_all("cards => cards.map(c => c.dataset.row)")]


def count(page) -> int:
    return int(page.locator("#count").inner_text().split(" of ")[0].replace(",", ""))


def order(run: RunFolder, key, among=None) -> list[int]:
    rows = range(ROWS) if among is None else among
    return sorted((row for row in rows if np.isfinite(key[row])), key=lambda row: (-key[row], row))


def confidence(run: RunFolder, threshold: float = 0.5) -> np.ndarray:
    scores = run.numbers("score")
    room = np.where(scores >= threshold, 1 - threshold, threshold)
    return np.abs(scores - threshold) / room


def rows_of(run: RunFolder, *outcomes: str) -> list[int]:
    return [row for row, outcome in enumerate(run.texts("outcome")) if outcome in outcomes]


def wait_until(page, expression, arg=None):
    """Ask again and again; playwright's own way evaluates text in the page, which its policy forbids."""
    for _ in range(200):
        if page.evaluate(expression, arg):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def test_the_most_confident_errors_come_first_and_only_they_are_loaded(watched, run):
    assert shown(watched.page) == order(run, confidence(run), rows_of(run, "FP", "FN"))[:24]
    assert count(watched.page) == ROWS
    wait_until(watched.page, "document.querySelectorAll('#images img').length === 24")
    pictures = {url for url in watched.files if url.endswith(".jpg")}
    examples = len(set(watched.page.locator(".mini img").evaluate_all("all => all.map(i => i.src)")))
    assert 24 <= len(pictures) <= 24 + examples


def test_a_cell_of_the_matrix_filters_the_gallery(page, run):
    cell = page.locator(".matrix [data-outcome=FP]")
    assert cell.inner_text().split()[0] == str(run.findings["summary"]["counts"]["FP"])
    cell.click()
    assert cell.get_attribute("aria-pressed") == "true"
    assert count(page) == len(rows_of(run, "FP"))
    assert shown(page) == order(run, confidence(run), rows_of(run, "FP"))[:24]
    assert set(page.locator(".card .badge").all_inner_texts()) == {"FP"}
    page.locator(".controls [data-outcome=FN]").click()
    assert count(page) == len(rows_of(run, "FP", "FN"))
    page.locator(".matrix [data-outcome=FN]").click()
    cell.click()
    assert count(page) == ROWS


def test_the_slider_judges_all_images_anew(page, run):
    page.locator("#threshold").evaluate("s => { s.value = 0.7; s.dispatchEvent(new Event('input')); }")
    scores, fake = run.numbers("score"), np.array(run.texts("label")) == "fake"
    called, judged = scores >= 0.7, np.isfinite(scores)
    counts = {
        "TP": (called & fake & judged).sum(), "FP": (called & ~fake & judged).sum(),
        "TN": (~called & ~fake & judged).sum(), "FN": (~called & fake & judged).sum(),
    }  # fmt: skip
    for outcome, number in counts.items():
        assert page.locator(f"[data-count={outcome}]").inner_text() == f"{number:,}"
    rates = dict(
        zip(
            page.locator("#rates dt").all_inner_texts(),
            page.locator("#rates dd").all_inner_texts(),
            strict=True,
        )
    )
    recall = 100 * counts["TP"] / (counts["TP"] + counts["FN"])
    assert float(rates["recall (TP rate)"].removesuffix(" %")) == pytest.approx(recall, abs=0.06)
    wrong = np.flatnonzero((called != fake) & judged).tolist()
    assert shown(page) == order(run, confidence(run, 0.7), wrong)[:24]
    page.locator("[data-threshold]").click()
    assert page.locator("#threshold").evaluate("slider => slider.valueAsNumber") == 0.6543
    fewer = ((scores >= 0.6543) & ~fake).sum()
    assert page.locator("[data-count=FP]").inner_text() == f"{fewer:,}"
    page.locator("#threshold-reset").click()
    assert page.locator("[data-count=FP]").inner_text() == str(run.findings["summary"]["counts"]["FP"])


def test_it_sorts_by_score_attribute_and_lift(page, run):
    page.select_option("#sort", "score")
    assert shown(page) == order(run, run.numbers("score"))[:24]
    page.select_option("#sort", "attribute:sharpness")
    page.select_option("#direction", "up")
    best = shown(page)
    assert run.numbers("sharpness")[best] == pytest.approx(np.sort(run.numbers("sharpness"))[:24], rel=1e-3)
    page.select_option("#kind", "1")
    page.select_option("#sort", "lift:mouth")
    lifts = run.regions.lift[:, 1, run.regions.regions.index("mouth")]
    highest = np.flatnonzero(lifts > 0.99 * np.nanmax(lifts)).tolist()
    wait_until(
        page, "rows => rows.includes(Number(document.querySelector('.card').dataset.row))", arg=highest
    )
    assert lifts[shown(page)] == pytest.approx(np.sort(lifts[np.isfinite(lifts)])[::-1][:24], rel=0.01)
    assert page.locator(".kind:not([hidden]) h3").inner_text() == "vanilla"


def test_it_filters_by_attribute_lift_and_text(page, run):
    page.select_option("#attribute", "brightness")
    page.fill("#attribute-low", "0.6")
    bright = run.numbers("brightness") >= 0.6
    assert abs(count(page) - bright.sum()) <= 2  # the page has four digits
    page.select_option("#region", "nose")
    page.fill("#region-low", "2.5")
    both = bright & (run.regions.lift[:, 0, run.regions.regions.index("nose")] >= 2.5)
    wait_until(
        page,
        "most => parseInt(document.querySelector('#count').textContent.replace(',', '')) < most - 2",
        arg=int(bright.sum()),
    )
    assert abs(count(page) - both.sum()) <= 2
    page.locator(".controls [type=reset]").click()
    wait_until(page, f"document.querySelector('#count').textContent.startsWith('{ROWS:,} of')")
    page.fill("#text", "REAL/0004")
    assert count(page) == sum("real/0004" in name for name in run.texts("image"))


def test_images_open_step_and_close_by_keyboard(page):
    rows = shown(page)
    page.locator(".card").nth(1).focus()
    page.keyboard.press("Enter")
    detail = page.locator("dialog[open]")
    assert detail.get_attribute("data-row") == str(rows[1])
    for key, place in (
        ("ArrowRight", 2),
        ("ArrowRight", 3),
        ("ArrowLeft", 2),
        ("ArrowUp", 1),
        ("ArrowUp", 0),
        ("ArrowUp", 0),
    ):
        page.keyboard.press(key)
        assert detail.get_attribute("data-row") == str(rows[place])
    detail.locator(".bars li").first.wait_for()
    assert detail.locator(".figures img").count() == 3
    assert detail.locator(".figures canvas:not(.colour-bar canvas)").count() == 2
    assert detail.locator(".figures svg circle").count() == 68
    assert len(detail.locator(".bars li").all()) == 22
    page.get_by_label("Next image").click()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Next image"
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    wait_until(page, "row => document.activeElement.dataset.row === row", arg=str(rows[0]))


def test_an_error_is_shown_beside_the_nearest_correct_image(page, run):
    page.locator(".card").first.click()
    row = int(page.locator("dialog").get_attribute("data-row"))
    page.locator(".nearest button").click()
    other = int(page.locator("dialog").get_attribute("data-row"))
    outcomes, labels = run.texts("outcome"), run.texts("label")
    assert labels[other] == labels[row]
    assert outcomes[row] in {"FP", "FN"}
    assert outcomes[other] in {"TP", "TN"}


def test_a_hostile_name_is_text_and_nothing_else(page):
    page.fill("#text", "onerror=alert(1)>.jpg")
    page.select_option("#sort", "name")
    names = page.locator(".card .name").all_inner_texts()
    assert HOSTILE in names
    page.locator(".card", has_text=HOSTILE).first.click()
    assert page.locator("#detail-name").inner_text() == HOSTILE
    page.keyboard.press("Escape")
    page.fill("#text", "alert(2)")
    page.locator(".card").click()
    assert SCRIPT.split("/")[-1].split("\u2028")[-1] in page.locator("#detail-name").inner_text()
    assert page.locator("img[src=x]").count() == 0
    assert page.locator("body script").count() == 2


def test_findings_slices_and_groups_lead_to_their_images(page, run):
    findings = run.findings
    for subset, expected in (
        ("sentences", findings["sentences"][0]["rows"]),
        ("slices", np.flatnonzero(run.numbers("eye_sharpness") <= 180).tolist()),
        ("clusters", findings["clusters"][0]["members"]),
        ("breakdowns", [row for row, kind in enumerate(run.texts("manipulation"))
                        if kind == HOSTILE and run.texts("outcome")[row]]),
    ):  # fmt: skip
        page.locator(f"[data-subset={subset}]").first.click()
        wait_until(page, "number => document.querySelector('#count').textContent.startsWith(number)",
                               arg=f"{len(expected):,} of")  # fmt: skip
        assert set(shown(page)) <= set(expected)
    page.locator("#subset button").click()
    assert count(page) == ROWS
    page.locator(".mini").first.click()
    assert page.locator("dialog[open]").get_attribute("data-row") == str(findings["sentences"][0]["rows"][0])


def test_pages_turn(page, run):
    everything = order(run, confidence(run), rows_of(run, "FP", "FN"))
    page.locator("#next").click()
    assert shown(page) == everything[24:48]
    assert page.locator("#place").inner_text() == f"page 2 of {ROWS // 24}"
    page.locator("#previous").click()
    assert shown(page) == everything[:24]


@pytest.mark.parametrize("width", [1280, 420])
def test_no_text_is_cut_or_lies_on_another_and_axe_finds_nothing_wrong(page, axe, reader, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate(f"{axe}\n{reader}")
    page.evaluate("openAll()")
    for opened in (False, True):  # the page, then an image over it
        if opened:
            page.evaluate("document.querySelector('.card').click()")
            page.locator("dialog .bars li").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("textThatIsCut()") == []
        assert page.evaluate("textsThatOverlap()") == []
        found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found] == []


def test_letters_are_told_from_their_ground_whatever_the_state(page, axe, reader):
    """Axe sees a page as it is: here each kind of control is under the mouse, focused, held and pressed."""
    page.evaluate(f"{axe}\n{reader}")
    page.evaluate("openAll()")
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    session.send("CSS.enable")
    root = session.send("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
    for flags in ("as they are", "pressed", "disabled"):
        assert page.evaluate("flags => oneOfEachKind(flags)", flags) > 10
        nodes = session.send("DOM.querySelectorAll", {"nodeId": root, "selector": "[data-probe]"})["nodeIds"]
        for state in ([], ["hover"], ["focus", "focus-visible", "active"]):
            for node in nodes:
                session.send("CSS.forcePseudoState", {"nodeId": node, "forcedPseudoClasses": state})
            assert page.evaluate("lowContrasts()") == [], (flags, state)


def test_in_print_the_first_images_and_no_controls_are_seen(page):
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()
    assert page.locator(".card").count() == 24
    assert page.locator(".card").last.is_visible()


def test_what_opens_with_the_page_is_small(watched, folder):
    """All that is read before anything is pressed, but for the pictures and maps that are seen."""
    read = {Path(urlsplit(url).path) for url in watched.files if not url.startswith("data:")}
    beside = [path for path in read if "thumbnails" not in path.parts]
    assert {path.name for path in beside} == {"index.html", "images.js"}
    assert sum(path.stat().st_size for path in beside) < 250_000 + 300 * ROWS


def test_a_single_file_needs_no_other(browser, folder, tmp_path):
    path = shutil.copy(write_report(folder, single_file=True), tmp_path / "mailed.html")
    watched = Watched(browser, path)
    assert [url for url in watched.files if url.startswith("file")] == [path.as_uri()]
    wait_until(watched.page, "document.querySelectorAll('#images img').length === 24")
    counts = RunFolder.read(folder).findings["summary"]["counts"]
    assert watched.page.locator("[data-count=TN]").inner_text() == f"{counts['TN']:,}"
    watched.page.locator(".card").first.click()
    watched.page.locator("dialog .bars li").first.wait_for()
    watched.page.keyboard.press("Escape")
    before = watched.page.locator("#count").inner_text()
    watched.page.locator("[data-subset=slices]").first.click()
    wait_until(watched.page, f"document.querySelector('#count').textContent !== {before!r}")
    wait_until(watched.page, "document.querySelector('#count').textContent.endsWith('images')")
    assert (
        0 < count(watched.page) < len(np.flatnonzero(RunFolder.read(folder).numbers("eye_sharpness") <= 180))
    )
    assert path.stat().st_size <= SINGLE_BYTES
    watched.close()
