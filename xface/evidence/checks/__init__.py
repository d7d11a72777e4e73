"""Checks: each holds the answers about a picture against something that is known of it, or done to it.

Importing this fills `CHECKS`, in the order in which tables show them and grades ask them.
"""

# isort: off
from xface.evidence.checks import partial_swap as partial_swap
from xface.evidence.checks import region_agreement as region_agreement
from xface.evidence.checks import manipulated_pixels as manipulated_pixels
from xface.evidence.checks import removal as removal
from xface.evidence.checks import adversarial_regions as adversarial_regions
from xface.evidence.checks import randomisation as randomisation
from xface.evidence.checks import stability as stability

# isort: on
from xface.evidence.checks.check import CHECKS as CHECKS
from xface.evidence.checks.check import Check as Check
from xface.evidence.checks.check import Figure as Figure
from xface.evidence.checks.check import Subject as Subject
from xface.evidence.checks.check import Words as Words
