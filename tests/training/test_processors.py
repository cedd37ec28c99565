"""What a pack promises, on processors that this machine is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import missing

INTEL = "int mkl_serv_intel_cpu_true(void) { return 1; }"
"""MKL asks this, and takes its own ways on Intel's processors only."""


@pytest.mark.slow
@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="there is no MKL that could take another way")
@pytest.mark.parametrize(("vendor", "instructions"), [("own", "avx2"), ("intel", "avx2"), ("intel", "avx512")])
def test_trials_have_the_curves_that_they_have_alone_on_other_processors(
    vendor: str, instructions: str, tmp_path: Path
) -> None:
    """With the instructions of older processors, and on the ways through MKL of another maker's."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if instructions == "avx2":
        environment |= {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    elif torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("this processor has no AVX-512")
    if vendor == "intel":
        compiler = shutil.which("cc") or missing("compiler", "there is no C compiler")
        source, library = tmp_path / "intel.c", tmp_path / "intel.so"
        source.write_text(INTEL)
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
        environment["LD_PRELOAD"] = str(library)
    tests = [Path(__file__).parent, Path(__file__).parents[1] / "models" / "test_products.py"]
    chosen = ["-k", "alone or bit or same_curve", "-m", "not slow", "-p", "no:cacheprovider", "-n", "0"]
    command = [sys.executable, "-m", "pytest", "-q", *map(str, tests), *chosen]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
