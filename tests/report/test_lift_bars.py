"""The bars of lifts, read back from the figure: lengths, colours, labels."""

import math
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from test_report import a_map, findings

from xface.errors import OutputError
from xface.faces import REGIONS
from xface.report import draw_lift_bars, lift_bars_of, save_chart
from xface.report.explanation.lift_bars import ABOVE, BELOW, COARSE, HIGHEST, LOWEST
from xface.results import RegionMeasure
from xface.wording import STATUS, UNTRAINED


def row(region: str, lift: float | None, coarse: bool = False, method: str = "vanilla") -> RegionMeasure:
    share = None if lift is None else 0.01 * lift
    return RegionMeasure(method, None, region, share, 0.01, lift, 0.0, 0.0, coarse, share, lift)


def drawn(*rows: RegionMeasure):
    names = {(each.method, each.layer): each.method for each in rows}
    return draw_lift_bars(rows, names, {}, ["title"])


def panels(figure) -> list:
    return [cell for cell in figure.axes if cell.axison]


def texts(cell) -> list[str]:
    return [text.get_text() for text in cell.texts]


class TestBars:
    def test_they_run_from_chance_by_powers_of_two(self):
        [cell] = panels(drawn(row("nose", 4.0), row("mouth", 0.25), row("jaw", 1.5)))
        found = [(bar.get_x() + min(bar.get_width(), 0), abs(bar.get_width())) for bar in cell.patches]
        assert found == [(0, 2), (-2, 2), (0, pytest.approx(math.log2(1.5)))]
        [line] = [line for line in cell.lines if list(line.get_xdata()) == [0, 0]]
        assert line.get_color() == "black"
        ticks = dict(
            zip(cell.get_xticks(), [label.get_text() for label in cell.get_xticklabels()], strict=True)
        )
        assert ticks[0] == "1"
        assert ticks[-1] == "1/2"

    def test_colours_tell_above_from_below_and_grey_the_coarse(self):
        [cell] = panels(drawn(row("nose", 4.0), row("mouth", 0.25), row("jaw", 3.0, coarse=True)))
        assert [to_hex(bar.get_facecolor()) for bar in cell.patches] == [ABOVE, BELOW, COARSE]
        assert [bool(bar.get_hatch()) for bar in cell.patches] == [False, False, True]

    def test_colours_differ_for_every_kind_of_colour_vision_and_in_grey(self):
        """Protanopia and deuteranopia leave, roughly, yellow to blue: red and green as one; and lightness."""
        above, below, coarse = (
            np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) for c in (ABOVE, BELOW, COARSE)
        )
        for one, other in ((above, below), (above, coarse), (below, coarse)):
            assert abs((one[:2].mean() - one[2]) - (other[:2].mean() - other[2])) > 100 or (
                abs((one - other) @ [0.299, 0.587, 0.114]) > 60
            )

    @pytest.mark.parametrize(("lift", "end"), [(0.0, LOWEST), (1e-9, LOWEST), (1000.0, HIGHEST)])
    def test_what_the_axis_cannot_hold_ends_at_its_end_and_says_its_number(self, lift, end):
        [cell] = panels(drawn(row("nose", lift)))
        [bar] = cell.patches
        assert bar.get_width() == math.log2(end)
        assert texts(cell)[0].startswith({0.0: "0.0x", 1e-9: "0.0x", 1000.0: "1e3x"}[lift])

    def test_an_undefined_lift_has_no_bar(self):
        [cell] = panels(drawn(row("nose", None), row("mouth", 2.0)))
        assert len(cell.patches) == 1
        assert texts(cell) == ["-", "2.0x  2.0%"]

    def test_panels_share_their_scale_and_come_five_abreast(self):
        figure = drawn(*(row("nose", 2.0**n, method=f"m{n}") for n in range(7)))
        found = panels(figure)
        assert [cell.get_title() for cell in found] == [f"m{n}" for n in range(7)]
        assert len({cell.get_xlim() for cell in found}) == 1
        figure.draw_without_rendering()
        bottoms = [round(cell.get_window_extent().y0) for cell in found]
        assert len(set(bottoms[:5])) == len(set(bottoms[5:])) == 1
        assert bottoms[0] > bottoms[5]


class TestOfAnImage:
    def test_a_panel_per_map_and_a_row_per_region(self):
        found = findings(a_map("vanilla"), a_map("gradcam", "layer4"))
        first, second = panels(lift_bars_of(found))
        assert (first.get_title(), second.get_title()) == ("vanilla", "gradcam at layer4")
        labels = [label.get_text() for label in first.get_yticklabels()]
        assert labels == [name.replace("_", " ") for name in REGIONS]
        lifts = [r.lift for r in found.regions if r.method == "gradcam"]
        widths = [bar.get_width() for bar in second.patches]
        assert widths == pytest.approx(np.log2(lifts), abs=1e-9)

    @pytest.mark.parametrize("status", STATUS)
    def test_an_undefined_map_says_so(self, status):
        values = np.zeros((8, 8)) if status == "zero" else np.full((8, 8), np.nan)
        [cell] = panels(lift_bars_of(findings(a_map(values=values, status=status))))
        assert STATUS[status] in cell.get_title().replace("\n", " ")
        assert len(cell.patches) == 0

    def test_an_untrained_network_is_said_below(self):
        for trained in (True, False):
            figure = lift_bars_of(findings(a_map(), trained=trained))
            below = figure.get_supxlabel().replace("\n", " ")
            assert below == ("" if trained else UNTRAINED)

    def test_names_from_outside_are_no_mathematics(self, tmp_path):
        found = findings(a_map("vanilla", "$x^{$"), image="$\\frac{$.jpg", label="$_$")
        lift_bars_of(found).savefig(tmp_path / "a.png")


class TestSaved:
    def test_the_file_is_named_as_others_and_replaced(self, tmp_path):
        found = findings(a_map(), label="fake")
        first, second = (save_chart(found, tmp_path, 3) for _ in range(2))
        assert first.path == second.path == tmp_path / "3-one-resnet18-regions-Fake.png"
        assert (first.replaced, second.replaced) == (0, 1)
        assert [path.name for path in tmp_path.iterdir()] == [first.path.name]
        with Image.open(first.path) as image:
            image.load()
            assert min(image.size) > 300

    def test_without_a_face_there_is_none(self, tmp_path):
        assert save_chart(findings(a_map(), face=False), tmp_path) is None
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["../../etc/x.jpg", "x" * 400, ".."])
    def test_it_stays_in_the_folder(self, tmp_path, name):
        chart = save_chart(replace(findings(a_map()), image=name, label="../x"), tmp_path)
        assert chart.path.parent == tmp_path

    def test_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "a").write_text("")
        with pytest.raises(OutputError, match="cannot write"):
            save_chart(findings(a_map()), tmp_path / "a")
