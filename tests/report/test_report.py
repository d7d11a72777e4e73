"""Pictures, panels, tables and pages, read back: what they show must be what was measured."""

import io
import re
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image
from test_regions import FACE

from xface.attribution import METHODS
from xface.errors import OutputError
from xface.faces import REGIONS, measure, region_labels, region_outlines
from xface.networks import ARCHITECTURES
from xface.report import as_html, draw_panel, draw_picture, region_table, save
from xface.report.colours import HEAT_COLOURS, blend, heat_of
from xface.report.explanation.picture import LINE, SIDE, WARNING
from xface.results import AttributionMap, ExplanationData, Face, Prediction
from xface.wording import STATUS, UNTRAINED, map_name

HEIGHT, WIDTH = 240, 200
LABELS = region_labels(FACE, (HEIGHT, WIDTH))
NAMES = list(REGIONS)
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # ITU-R BT.709
WARNING_PAPER = np.array(WARNING[1])


def a_map(method="gradcam", layer=None, values=None, status="ok", rule="published") -> AttributionMap:
    values = np.random.default_rng(0).random((8, 8)) if values is None else values
    return AttributionMap(method, layer, status, rule, np.asarray(values, np.float32))


def findings(*maps: AttributionMap, face: bool = True, trained: bool = True, **changes) -> ExplanationData:
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    found = ExplanationData(
        image="faces/one.jpg",
        view=pixels,
        detector={"arch": "resnet18", "weights_sha256": None, "card": {"source": "one.json"}},
        trained=trained,
        prediction=Prediction("fake", 0.75, {"fake": 0.75, "real": 0.25}),
        target="predicted",
        label="fake",
        face=Face(True, (30, 20, 170, 200), FACE, "dlib-hog") if face else Face(False),
        landmarks=FACE if face else None,
        outlines=tuple(region_outlines(FACE, (HEIGHT, WIDTH))) if face else (),
        maps=maps,
        regions=tuple(row for amap in maps for row in measure(amap, LABELS)) if face else (),
    )
    return replace(found, **changes)


def spot(row: int, column: int, radius: int = 6) -> np.ndarray:
    """A map of the input's size with one bright disc."""
    y, x = np.indices((HEIGHT, WIDTH))
    return np.maximum(0, 1 - ((y - row) ** 2 + (x - column) ** 2) / radius**2)


class TestHeat:
    def test_the_colours_brightness_rises_all_along_the_scale(self):
        """So the scale reads without colour vision and in grey print."""
        colours = matplotlib.colormaps[HEAT_COLOURS](np.linspace(0, 1, 256))[:, :3]
        linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
        assert (np.diff(linear @ LUMINANCE) > 0).all()

    @pytest.mark.parametrize("seed", range(2))
    def test_the_brightest_blended_pixel_is_where_the_maximum_is(self, seed):
        random = np.random.default_rng(seed)
        values, view = random.random((40, 30)), random.integers(0, 256, (40, 30, 3), np.uint8)
        blended = blend(heat_of(a_map(values=values), (40, 30)), view) @ LUMINANCE
        steps = matplotlib.colormaps[HEAT_COLOURS].N
        assert values.ravel()[blended.argmax()] >= values.max() * (1 - 1 / steps)

    def test_a_cold_map_leaves_the_face_in_grey(self):
        view = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
        values = np.zeros((40, 30))
        values[0, 0] = 1
        blended = blend(heat_of(a_map(values=values), (40, 30)), view)[1:].astype(int)
        assert np.abs(blended - blended.mean(axis=2, keepdims=True)).max() <= 2
        assert np.corrcoef(blended.mean(axis=2).ravel(), (view[1:] @ LUMINANCE).ravel())[0, 1] > 0.95

    def test_signs_do_not_matter_and_the_strongest_channel_counts(self):
        signed = np.zeros((3, 4, 4))
        signed[0, 1, 1], signed[2, 1, 1], signed[1, 2, 2] = -3, 2, 2.5
        assert heat_of(a_map("vanilla", values=signed), (4, 4)).amount[1, 1] == 3
        assert heat_of(a_map("vanilla", values=signed), (4, 4)).amount[2, 2] == 2.5

    @pytest.mark.parametrize("shape", [(3, 100, 100), (100, 100)])
    def test_the_last_half_percent_of_a_fine_map_shares_a_colour_and_says_so(self, shape):
        values = np.zeros(shape)
        values[..., :, :] = np.random.default_rng(0).permutation(10_000).reshape(100, 100)
        heat = heat_of(a_map(values=values), (100, 100))
        assert heat.clipped
        assert (heat.amount >= heat.top).mean() == pytest.approx(0.005, abs=2e-4)

    def test_a_coarse_map_is_shown_up_to_its_maximum(self):
        heat = heat_of(a_map(values=np.arange(49).reshape(7, 7)), (224, 224))
        assert (heat.top, heat.clipped) == (48, False)

    def test_a_single_hot_pixel_still_has_a_scale(self):
        values = np.zeros((3, 100, 100))
        values[1, 40, 60] = -1e-7
        assert heat_of(a_map("vanilla", values=values), (100, 100)).top == np.float32(1e-7)


def strips(picture: np.ndarray) -> list[np.ndarray]:
    """The lines of text below the face."""
    first = round(SIDE * HEIGHT / WIDTH)
    assert (len(picture) - first) % LINE == 0
    return [picture[row : row + LINE] for row in range(first, len(picture), LINE)]


def is_warning(strip: np.ndarray) -> bool:
    return (strip == WARNING_PAPER).all(axis=-1).mean() > 0.5


class TestPicture:
    @pytest.mark.parametrize(("row", "column"), [(30, 40), (165, 100), (220, 190)])
    def test_the_brightest_place_is_the_maps(self, row, column):
        picture = draw_picture(findings(amap := a_map(values=spot(row, column))), amap)
        face = picture[: round(SIDE * HEIGHT / WIDTH)].astype(float) @ LUMINANCE
        y, x = np.unravel_index(face.argmax(), face.shape)
        scale = SIDE / WIDTH
        assert abs((y + 0.5) / scale - 0.5 - row) < 2
        assert abs((x + 0.5) / scale - 0.5 - column) < 2

    def test_an_untrained_network_is_said_and_a_trained_one_is_not(self):
        amap = a_map()
        marked = [is_warning(strip) for strip in strips(draw_picture(findings(amap, trained=False), amap))]
        assert marked[0]
        assert not marked[-1]
        assert not any(map(is_warning, strips(draw_picture(findings(amap), amap))))

    @pytest.mark.parametrize("status", STATUS)
    def test_a_map_without_heat_says_so_and_shows_none(self, status):
        values = np.zeros((8, 8)) if status == "zero" else np.full((8, 8), np.nan)
        amap = a_map(values=values, status=status)
        face = draw_picture(findings(amap), amap)[: round(SIDE * HEIGHT / WIDTH)]
        written = (face == 255).all(axis=2)
        rows, columns = written.nonzero()
        assert written.sum() > 300
        assert rows.mean() == pytest.approx(len(face) / 2, abs=10)
        assert columns.mean() == pytest.approx(SIDE / 2, abs=10)
        assert face[~written].max() < 255
        other = next(s for s in STATUS if s != status)
        unlike = replace(amap, status=other)
        assert not np.array_equal(face, draw_picture(findings(unlike), unlike)[: len(face)])

    def test_each_map_bears_its_own_name(self):
        names = [a_map("gradcam", "layer4"), a_map("gradcam", "layer3"), a_map("layercam", "layer4")]
        names.append(a_map("gradcam", "layer4", rule="extended"))
        written = {strips(draw_picture(findings(amap), amap))[0].tobytes() for amap in names}
        assert len(written) == len(names)

    def test_no_line_runs_out_of_the_picture(self):
        layered = [method for method, entry in METHODS.items() if entry.layered]
        stages = {stage for entry in ARCHITECTURES.values() for stage in entry.stages}
        maps = [a_map(method, layer, rule="extended") for method in layered for layer in stages]
        for amap in sorted(maps, key=lambda amap: len(map_name(amap)))[-5:]:
            for strip in strips(draw_picture(findings(amap, trained=False), amap)):
                margin = strip[:, -8:].reshape(-1, 3)
                assert (margin == margin[0]).all()


def texts(figure) -> list[tuple[str, Any]]:
    """Every text of a figure with the box that it takes, in pixels."""
    figure.canvas.draw()
    found = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in found]


def overlap(one, other) -> bool:
    across = min(one.x1, other.x1) - max(one.x0, other.x0)
    return across > 1 and min(one.y1, other.y1) - max(one.y0, other.y0) > 1


def crowded() -> dict[str, ExplanationData]:
    """Findings that need much room: many maps, long names, wide numbers."""
    densenet = ARCHITECTURES["densenet121"].stages
    small = np.random.default_rng(0).random((7, 7)) * 1.2345e-7
    five = [a_map(m, None, small, rule="extended") for m in ("vanilla", "deconvnet", "guided")]
    five += [a_map(m, densenet[2], small, rule="extended") for m in ("gradcam", "guided_gradcam")]
    twenty = [a_map(m, layer, small, rule="extended") for m in METHODS for layer in densenet[:4]][:20]
    source = "assumed: opencv_bgr preset; classes Fake, Real of the checkpoint"
    card = {"arch": "densenet121", "card": {"source": source}}
    return {
        "one map": findings(five[4], trained=False, detector=card),
        "two maps": findings(*five[3:], image="a long name of a file, " * 20, detector=card),
        "five maps": findings(*five, trained=False, face=False),
        "twenty maps": findings(*twenty, trained=False, image="x" * 300, detector=card),
        "one of each status": findings(
            a_map(),
            a_map("vanilla", None, np.zeros((8, 8)), "zero"),
            a_map("guided", None, np.full((8, 8), np.nan), "non_finite"),
        ),
    }


CROWDED = crowded()


class TestPanel:
    @pytest.mark.parametrize("found", CROWDED.values(), ids=CROWDED)
    def test_no_text_is_cut_off_or_lies_on_another(self, found):
        figure = draw_panel(found)
        boxes, page = texts(figure), figure.bbox
        for text, box in boxes:
            assert min(box.x0, box.y0, page.x1 - box.x1, page.y1 - box.y1) >= -1, text
        clashes = [
            (one, other)
            for i, (one, first) in enumerate(boxes)
            for other, second in boxes[i + 1 :]
            if overlap(first, second)
        ]
        assert clashes == []

    def test_it_says_what_was_found(self):
        mouth = (NAMES.index("mouth") == LABELS).astype(float)
        maps = a_map(values=mouth), a_map("vanilla", None, np.zeros((8, 8)), "zero")
        found = findings(*maps, trained=False, target="margin")
        said = "\n".join(text for text, _ in texts(draw_panel(found)))
        lift = 1 / (NAMES.index("mouth") == LABELS).mean()
        for expected in ("one.jpg", "fake", "0.750", "one.json", "resnet18", "against the best other"):
            assert expected in said
        assert f"mouth\xa0{lift:.1f}x" in said
        assert ("~ coarse" in said) == any(row.coarse for row in found.regions)
        assert STATUS["zero"] in said
        assert "UNTRAINED" in said
        assert "UNTRAINED" not in "\n".join(
            text for text, _ in texts(draw_panel(replace(found, trained=True)))
        )

    def test_there_is_a_cell_for_the_face_and_each_map_in_order_with_its_colour_bar(self):
        maps = [a_map("gradcam", layer, spot(20 * i + 20, 30)) for i, layer in enumerate(("a", "b", "c"))]
        figure = draw_panel(findings(*maps))
        cells = [axes for axes in figure.axes if axes.images]
        assert [cell.get_title() for cell in cells] == [
            "input, regions, landmarks",
            "gradcam at a",
            "gradcam at b",
            "gradcam at c",
        ]
        assert np.array_equal(cells[0].images[0].get_array(), findings().view)
        assert [axes.get_ylim()[1] for axes in figure.axes if axes.get_label() == "<colorbar>"] == [1, 1, 1]

    def test_the_hottest_place_of_the_saved_panel_is_the_maps(self):
        """In the PNG's own pixels: yellow, which neither the outlines nor the face in grey have."""
        figure = draw_panel(findings(a_map(values=spot(165, 100))))
        file = io.BytesIO()
        figure.savefig(file, dpi=figure.dpi, format="png")
        pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
        cell = figure.axes[1]
        left, bottom, right, top = cell.get_window_extent().extents.round().astype(int)
        inside = pixels[len(pixels) - top : len(pixels) - bottom, left:right]
        rows, columns = ((inside[..., 0] > 230) & (inside[..., 2] < 200)).nonzero()
        assert rows.size
        x, y = columns.mean() / (right - left) * WIDTH, rows.mean() / (top - bottom) * HEIGHT
        assert (x, y) == (pytest.approx(100, abs=3), pytest.approx(165, abs=3))

    @pytest.mark.parametrize("name", ["$x$ $", "a\nb", "\x1b[31m", "顔.jpg", "\udcff.jpg"])
    def test_odd_names_are_drawn_without_a_warning(self, name, recwarn):
        found = findings(a_map(), image=name, face=True)
        found = replace(found, face=replace(found.face, source=name))
        draw_panel(found).savefig(io.BytesIO(), format="png")
        assert [str(warning.message) for warning in recwarn] == []


def cells_of(table: str) -> dict[tuple[str, int], list[str]]:
    """What stands in each 12-letter column, by region and block."""
    found, block = {}, -1
    for line in table.splitlines():
        if line.startswith("---"):
            block += 1
        elif (region := line[:14].strip()) in REGIONS:
            found[region, block] = [line[14:20].strip()] + [
                line[i : i + 12] for i in range(20, len(line), 12)
            ]
    return found


def long_maps(layers: int) -> list[AttributionMap]:
    stages = ARCHITECTURES["densenet121"].stages[:layers]
    random = np.random.default_rng(2)
    methods = ("integrated_gradients", "input_x_gradient", "guided", "gradcam", "guided_gradcam")
    return [a_map(m, stage, random.random((7, 7)) ** 8, rule="extended") for m in methods for stage in stages]


class TestTable:
    @pytest.mark.parametrize("layers", [1, 4])
    def test_it_is_80_columns_wide_at_most(self, layers):
        maps = long_maps(layers)
        only_eye = (NAMES.index("left_eye") == LABELS).astype(float)
        maps[1] = replace(maps[1], values=only_eye.astype(np.float32))
        table = region_table(findings(*maps))
        assert max(map(len, table.splitlines())) <= 80
        assert table == "\n".join(line.rstrip() for line in table.splitlines())

    @pytest.mark.parametrize("layers", [1, 4])
    def test_its_numbers_are_the_measures(self, layers):
        maps = long_maps(layers)
        found = findings(*maps)
        cells = cells_of(region_table(found))
        assert len(cells) == len(REGIONS) * layers
        for number, amap in enumerate(maps):
            for row in measure(amap, LABELS):
                area, *columns = cells[row.region, number // 5]
                share, lift = columns[number % 5].rstrip("~ ").split()
                assert area == f"{row.area:.1%}"
                assert share in {f"{row.share:.1%}", "100%"}
                assert lift == (f"{row.lift:.1f}x" if row.lift < 9.95 else f"{row.lift:.0f}x")
                assert ("~" in columns[number % 5]) == row.coarse

    def test_every_map_has_its_name_above_its_column(self):
        maps = long_maps(4)
        blocks = region_table(findings(*maps)).split("\n\n")
        for number, amap in enumerate(maps):
            lines = blocks[number // 5].split("\n---")[0].splitlines()
            start = 20 + 12 * (number % 5)
            name = "".join(line[start : start + 12].strip() for line in lines)
            assert name == f"{amap.method}{amap.layer}"

    def test_adjacent_columns_never_touch(self):
        """The widest cells that can be: everything in one small region, coarse."""
        for pixels in (1, 20, 400):
            values = np.zeros((HEIGHT, WIDTH))
            values.ravel()[np.flatnonzero(NAMES.index("left_eye") == LABELS)[:pixels]] = 1
            rows = measure(a_map(values=values), LABELS)
            rows = [replace(row, coarse=True, lift=row.lift and row.lift * 1000 / pixels) for row in rows]
            maps = [a_map(str(i)) for i in range(5)]
            found = findings(*maps, regions=tuple(replace(r, method=m.method) for m in maps for r in rows))
            for line in region_table(found).splitlines():
                if line[:14].strip() in REGIONS:
                    assert len(line) <= 80
                    assert len(line.split()) == 2 + 5 * 2

    def test_no_face(self):
        assert region_table(findings(a_map(), face=False)) == "regions: no face"

    def test_what_is_undefined_is_a_dash_and_explained(self):
        maps = a_map(), a_map("vanilla", None, np.zeros((8, 8)), "zero")
        table = region_table(findings(*maps))
        assert {row[2].strip() for row in cells_of(table).values()} == {"-"}
        assert "-" not in {row[1].strip() for row in cells_of(table).values()}
        assert "\n- undefined" in table
        assert "\n- undefined" not in region_table(findings(a_map()))

    def test_a_region_outside_the_picture_has_no_lift(self):
        labels = LABELS.copy()
        labels[labels == NAMES.index("mouth")] = NAMES.index("jaw")
        rows = measure(a_map(), labels)
        table = region_table(findings(a_map(), regions=tuple(rows)))
        assert [cell.strip(" ~") for cell in cells_of(table)["mouth", 0]] == ["0.0%", "0.0% -"]
        assert "\n- undefined" in table

    @pytest.mark.parametrize("rule", ["published", "extended"])
    def test_an_extended_rule_is_said(self, rule):
        assert ("extended" in region_table(findings(a_map("guided", rule=rule)))) == (rule == "extended")


class TestPage:
    HOSTILE = "<img src=x onerror=alert(1)>\"'.jpg"

    def test_what_came_from_outside_is_escaped(self):
        hostile = findings(a_map(self.HOSTILE), image=self.HOSTILE, label=self.HOSTILE, target=self.HOSTILE)
        hostile = replace(
            hostile,
            prediction=Prediction(self.HOSTILE, 1.0, {self.HOSTILE: 1.0}),
            detector={"arch": self.HOSTILE, "card": {"source": self.HOSTILE}},
        )
        page = as_html(hostile)
        assert "<img src=x" not in page
        assert re.findall(r"<(\w+)", page) == ["p", "strong", "br", "img", "pre"]
        assert page.count("&lt;img src=x onerror=alert(1)&gt;") >= 4

    def test_it_holds_the_panel_the_table_and_the_warning(self):
        found = findings(a_map(), trained=False)
        page = as_html(found)
        assert region_table(found).splitlines()[1] in page
        assert UNTRAINED in page
        assert UNTRAINED not in as_html(replace(found, trained=True))


class TestFiles:
    def test_names_and_contents(self, tmp_path):
        maps = a_map("gradcam", "layer4"), a_map("vanilla", None, np.random.rand(3, HEIGHT, WIDTH) - 0.5)
        found = findings(*maps, image="some folder/a face.v2.jpg")
        files = save(found, tmp_path / "new" / "folder", index=7, maps=True)
        assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {
            "7-a_face.v2-resnet18-gradcam-layer4-Fake.png",
            "7-a_face.v2-resnet18-vanilla-Fake.png",
            "7-a_face.v2-resnet18-panel-Fake.png",
            "7-a_face.v2-resnet18-maps-Fake.npz",
        }
        for amap in maps:
            saved = np.asarray(Image.open(files.pictures[amap.method, amap.layer]))
            assert np.array_equal(saved, draw_picture(found, amap))
        with np.load(files.arrays) as arrays:
            assert {name: arrays[name].dtype.name for name in arrays} == {
                "gradcam@layer4": "float32",
                "vanilla": "float32",
            }
            assert np.array_equal(arrays["vanilla"], maps[1].values)
        assert files.replaced == 0

    def test_a_file_that_cannot_be_written_leaves_nothing_half_done(self, tmp_path):
        """A folder lies where a picture belongs."""
        found = findings(a_map())
        (tmp_path / "0-one-resnet18-panel-Fake.png").mkdir()
        with pytest.raises(OutputError, match=r"panel-Fake\.png"):
            save(found, tmp_path)
        assert not list(tmp_path.glob("*.part"))

    @pytest.mark.parametrize("name", ["../../etc/passwd\x00", "x" * 400])
    def test_names_stay_in_the_folder(self, tmp_path, name):
        files = save(findings(a_map("gradcam", "../layer"), face=False, image=name, label="../x"), tmp_path)
        for path in [*files.pictures.values(), files.panel]:
            assert path.parent == tmp_path
            assert path.is_file()
