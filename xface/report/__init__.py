"""Reports: pictures and tables drawn from plain results, with no network at hand."""

from xface.report.files import SavedChart, SavedFiles, ensure_folder, save, save_chart
from xface.report.lift_bars import draw_lift_bars, lift_bars_of
from xface.report.notebook import as_html
from xface.report.panel import draw_panel
from xface.report.picture import draw_picture
from xface.report.table import measure_table, region_table
from xface.report.text import as_text

__all__ = [
    "SavedChart",
    "SavedFiles",
    "as_html",
    "as_text",
    "draw_lift_bars",
    "draw_panel",
    "draw_picture",
    "ensure_folder",
    "lift_bars_of",
    "measure_table",
    "region_table",
    "save",
    "save_chart",
]
