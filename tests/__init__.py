"""Tests of kansearch."""

import jaxtyping
from hypothesis import settings

# No test has a clock: a machine may be slow, or busy with other things.
settings.register_profile("kansearch", deadline=None)
settings.load_profile("kansearch")

# Two thirds of a training in a test would be checks of shapes: tests/shapes.py turns them on.
jaxtyping.config.update("jaxtyping_disable", True)
