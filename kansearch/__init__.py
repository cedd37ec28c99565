"""kansearch: architecture and hyperparameter search for networks with learnable activations."""

import os

__version__ = "0.1.0"

# MKL lets the place of a matrix in memory decide how sums are ordered, and so their last bit, unless told before its
# first product. A trial would depend on its slot. (Measured: it costs no time.)
os.environ.setdefault("MKL_CBWR", "AUTO")
