"""What makes a process a good worker, wherever it runs."""

from __future__ import annotations

WORKER_ENVIRONMENT = {
    # Workers share the cores of one machine: pools of threads would fight over them.
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
    # glibc gives large blocks back to the system at once, and each step of a pack would fault the same pages in again:
    # keeping them trains KAN layers 1.2 to 2 times as fast. Other C libraries take no notice.
    "MALLOC_MMAP_THRESHOLD_": str(2**25),  # the highest that every glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(2**33),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""The variables of its environment."""
