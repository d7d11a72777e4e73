"""Attribution: any nn.Module and a batch of tensors in, maps out.

Importing this package fills the registry of methods; a new one is a function in one of these modules.
"""

from xface.attribution import cams as cams
from xface.attribution import methods as methods
from xface.attribution import sampled as sampled
from xface.attribution.engine import CORE_METHODS, attribute
from xface.attribution.maps import Maps, gaps
from xface.attribution.methods import METHODS, Method

__all__ = ["CORE_METHODS", "METHODS", "Maps", "Method", "attribute", "gaps"]
