"""Reports: pictures and tables drawn from plain results, with no network at hand."""

from xface.report.files import SavedFiles, ensure_folder, save
from xface.report.notebook import as_html
from xface.report.panel import draw_panel
from xface.report.picture import draw_picture
from xface.report.table import region_table

__all__ = [
    "SavedFiles",
    "as_html",
    "draw_panel",
    "draw_picture",
    "ensure_folder",
    "region_table",
    "save",
]
