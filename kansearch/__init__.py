"""kansearch: architecture and hyperparameter search for networks with learnable activations."""

__version__ = "0.1.0"
