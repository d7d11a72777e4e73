"""Reports: pictures and tables drawn from plain results, with no network at hand."""

from xface.report.explanation.effect_cells import draw_mean_effects
from xface.report.explanation.lift_bars import draw_lift_bars, lift_bars_of
from xface.report.explanation.notebook import as_html
from xface.report.explanation.panel import draw_panel
from xface.report.explanation.picture import draw_picture
from xface.report.explanation.saving import SavedChart, SavedFiles, ensure_folder, save, save_chart
from xface.report.explanation.table import as_text, measure_table, region_table

__all__ = [
    "SavedChart",
    "SavedFiles",
    "as_html",
    "as_text",
    "draw_lift_bars",
    "draw_mean_effects",
    "draw_panel",
    "draw_picture",
    "ensure_folder",
    "lift_bars_of",
    "measure_table",
    "region_table",
    "save",
    "save_chart",
]
