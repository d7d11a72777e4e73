"""The health of the run: what is undefined, whether evenly so, and which regions are coarse."""

from xface.report.run.sections.section import Section, beside

HEALTH = Section("Health", beside("health.html"), heading="Health of the run")
