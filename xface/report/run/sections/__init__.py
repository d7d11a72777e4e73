"""The sections of a run's report, in the page's order; one that is added comes last."""

from xface.registry import Registry
from xface.report.run.sections.attributes import ATTRIBUTES
from xface.report.run.sections.breakdowns import BREAKDOWNS
from xface.report.run.sections.comparison import COMPARISON
from xface.report.run.sections.errors import ERRORS
from xface.report.run.sections.findings import FINDINGS
from xface.report.run.sections.gallery import GALLERY
from xface.report.run.sections.health import HEALTH
from xface.report.run.sections.provenance import PROVENANCE
from xface.report.run.sections.regions import REGIONS
from xface.report.run.sections.repairs import REPAIRS
from xface.report.run.sections.section import Report, Section
from xface.report.run.sections.top import TOP
from xface.report.run.sections.verdict import VERDICT

__all__ = ["SECTIONS", "Report", "Section"]

SECTIONS = Registry[Section]("report section")
"""By the names that are their addresses in the page."""

SECTIONS.add("top", TOP)
SECTIONS.add("verdict", VERDICT)
SECTIONS.add("errors", ERRORS)
SECTIONS.add("breakdowns", BREAKDOWNS)
SECTIONS.add("attributes", ATTRIBUTES)
SECTIONS.add("repairs", REPAIRS)
SECTIONS.add("regions", REGIONS)
SECTIONS.add("findings", FINDINGS)
SECTIONS.add("compare", COMPARISON)
SECTIONS.add("gallery", GALLERY)
SECTIONS.add("health", HEALTH)
SECTIONS.add("provenance", PROVENANCE)
