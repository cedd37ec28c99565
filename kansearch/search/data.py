"""The data of a study, in the precision of its trials."""

from __future__ import annotations

import torch

from kansearch.data.splits import Split, load_split
from kansearch.specs.study import StudySpec


def load_study_split(spec: StudySpec) -> Split:
    """What the trials of a study see: in float64 where one of them may be trained so, else in float32.

    Raises:
        DataError: As `load_split`.
    """
    return load_split(spec.data, getattr(torch, max(spec.space.words("dtype"))))
