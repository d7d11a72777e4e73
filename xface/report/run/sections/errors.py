"""Right and wrong at a threshold: the confusion matrix and the scores."""

from xface.report.run.figures import draw_scores
from xface.report.run.sections.section import Section, beside

ERRORS = Section(
    "Errors",
    beside("errors.html"),
    heading="Right and wrong at a threshold",
    figures=lambda report: [("scores", draw_scores(report.run))],
    script=beside("errors.js"),
)
