"""ModelSpec to network; usable alone as a small library of KAN layers.

>>> from kansearch.models import KAN
>>> network = KAN((2, 5, 1), base_function="gaussian", n_basis=8)
"""

from kansearch.models.kaf import KAFLayer
from kansearch.models.kan import KAN, KANLayer
from kansearch.models.kernel import EdgeLayer, NodeLayer, SharedLayer
from kansearch.models.network import Network
from kansearch.models.scaled import ScaledLayer

__all__ = ["KAN", "EdgeLayer", "KAFLayer", "KANLayer", "Network", "NodeLayer", "ScaledLayer", "SharedLayer"]
