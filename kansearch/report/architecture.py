"""The architecture of a trial in one line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kansearch.specs.space import Fixed, hyperparameters
from kansearch.specs.study import StudySpec

FAMILY_NAMES = {"mlp": "plain network", "kan": "KAN", "hybrid": "hybrid"}
"""How the report calls the families."""


def family_name(family: str | None) -> str:
    """A family for people."""
    return FAMILY_NAMES.get(family or "", family or "unknown family")


def describe_architecture(params: Mapping[str, Any], study: StudySpec) -> str:
    """The architecture that suggested hyperparameters stand for, without inputs and outputs.

    What a trial was not given is the study's fixed value or the default: "width 12, depth 2, dictionary
    gaussian K=8". Depth counts layers, so a network of depth 1 has no hidden row and no width.
    """

    def value(name: str) -> Any:
        if name in params:
            return params[name]
        domain = study.space.domains.get(name)
        return domain.value if isinstance(domain, Fixed) else hyperparameters()[name].default

    family = params.get("family", study.space.families()[0])
    depth = value("depth")
    parts = []
    if value("stem") == "convolution":
        n, size, channels = value("convolutions"), value("kernel_size"), value("channels")
        rising = f"{channels} to {channels << (n - 1)}" if n > 1 else channels
        parts.append(f"{n} convolution{'s' if n > 1 else ''} {size}x{size}, {rising} channels")
        parts += ["stride 2"] if value("stride") == 2 else []
        parts += ["mean of each map"] if value("pooling") == "average" else []
    if value("stem") == "backbone":
        tuned = value("tuned_stages")
        learning = f"{tuned} stage{'s' if tuned > 1 else ''} tuned" if tuned else "as it is"
        # Files that export wrote have the same names in other folders.
        parts.append(f"backbone {'/'.join(Path(str(value('backbone'))).parts[-2:])}, {learning}")
        parts += [f"images enlarged {value('enlarge')} times"] if value("enlarge") > 1 else []
    if value("stem") == "recurrent":
        states = "mean state" if value("pooling") == "average" else "last state"
        cell = str(value("cell")).upper()
        parts.append(f"{cell} of {value('state')} over an embedding of {value('embedding')}, {states}")
    if value("stem") == "attention":
        n = value("blocks")
        parts.append(f"{n} block{'s' if n > 1 else ''} of attention over tokens of {value('embedding')}")
        parts.append(f"{value('heads')} heads, {value('feed_forward')} between")
    if value("stem") == "embedding":
        parts.append(f"embedding of {value('embedding')}")
    if depth == 1:
        parts.append("depth 1" if value("stem") != "none" else "depth 1 (no hidden row)")
    else:
        parts.append(f"width {value('width')}, depth {depth}")
    if family != "mlp":
        layer = value("layer")
        kan = f"{layer} {value('base_function')}"
        if layer in ("dictionary", "scaled", "kaf"):
            kan += f" K={value('n_basis')}"
        if layer == "dictionary" and value("base_branch") != "silu":
            kan += f", base branch {value('base_branch')}"
        if layer == "dictionary" and value("initialisation") != "default":
            kan += f", initialised by {value('initialisation')}"
        parts.append(kan)
    if family == "hybrid":
        parts.append(f"KAN layers: {value('pattern')}")
    if family != "kan":
        parts.append(str(value("activation")))
    if value("layer_norm"):
        parts.append("layer norm")
    if value("dropout"):
        parts.append(f"dropout {float(value('dropout')):.2g}")
    return ", ".join(parts)
