"""Refuse an image that is not what was asked for: `python check_image.py cpu`, or `cuda`."""

import sys

import torch

from kansearch.compiled import library, trainer

wanted = sys.argv[1]
found = "cuda" if torch.version.cuda else "cpu"
if found != wanted:
    sys.exit(f"kansearch: torch {torch.__version__} is a build for {found}, and DEVICE is {wanted}; see PIP_ARGS")
if library() is None or trainer.level() is None:
    sys.exit("kansearch: its inner loops cannot be loaded; the build needs a working C compiler (gcc, libc6-dev)")
