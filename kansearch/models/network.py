"""A network: layers, what stands between them, and the curves that its KAN layers learned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kansearch.models.bases import base_function
from kansearch.models.flops import Cost
from kansearch.models.layer import CurveLayer, Layer, OrdinaryLayer
from kansearch.specs.trial import Curve


class Network(nn.Module):
    """Layers in a row. After each but the last come, in this order: normalisation, activation, dropout.

    Args:
        layers: First to last.
        activation: Name of the base function that stands between two ordinary layers (and nowhere else).
        layer_norm: Normalise every hidden row.
        dropout: Share of the hidden nodes silenced while training; the others are scaled up to make up for it.
        generator: Gives the seed of the dropout masks; None is torch's global one.

    Attributes:
        generator: Draws the dropout masks. Not part of `state_dict`.

    Shapes: B batch, I inputs, O outputs of a layer or of the network.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        activation: str = "relu",
        layer_norm: bool = False,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.activation = base_function(activation)
        self.activated = tuple(
            isinstance(a, OrdinaryLayer) and isinstance(b, OrdinaryLayer) for a, b in pairwise(layers)
        )
        dtype = next(layers[0].parameters()).dtype
        self.norms = nn.ModuleList(nn.LayerNorm(layer.n_outputs, dtype=dtype) for layer in layers[:-1] if layer_norm)
        self.dropout = dropout
        # Drawn with dropout or without, so that whatever draws from `generator` next draws the same.
        seed = torch.randint(2**63 - 1, (), generator=generator).item()
        self.generator = torch.Generator().manual_seed(int(seed))

    def forward(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "B O"]:
        """Outputs: numbers, logits or whatever the loss makes of them."""
        for index, layer in enumerate(self.layers):
            x = self._after(index, layer(x))
        return x

    def forward_with_amplitudes(
        self, x: Float[Tensor, "B I"]
    ) -> tuple[Float[Tensor, "B O"], list[Float[Tensor, "_ _"]]]:
        """The outputs and, for each KAN layer, the root mean square of its curves over the batch.

        Amplitudes of a layer are shaped as its outputs and inputs, or (its outputs, 1) in the node form.
        A curve is all that its edge adds to the output node (a base branch included), or the whole of a node's
        activation in the node form; constants (c) are no part of it. Its gradient at a curve of 0 is 0.
        """
        amplitudes = []
        for index, layer in enumerate(self._layers()):
            if isinstance(layer, CurveLayer):
                x, of_layer = layer.forward_with_amplitudes(x)
                amplitudes.append(of_layer)
            else:
                x = layer(x)
            x = self._after(index, x)
        return x, amplitudes

    def activation_groups(self) -> list[list[nn.Parameter]]:
        """The activation parameters of each KAN layer, first to last; a group may be empty."""
        return [layer.activation_parameters() for layer in self._layers() if isinstance(layer, CurveLayer)]

    def decayed_parameters(self) -> list[nn.Parameter]:
        """The weight matrices, on which weight decay acts: no constants, norms, scales or shifts."""
        return [parameter for layer in self._layers() for parameter in layer.decayed_parameters()]

    @torch.no_grad()
    def curves(self, x: Float[Tensor, "B I"], per_layer: int = 6, n_points: int = 41) -> tuple[Curve, ...]:
        """The strongest curves of every KAN layer, strongest first; without those that are not finite.

        Args:
            x: Training inputs.
            per_layer: How many of each layer at most.
            n_points: Of each curve; numbers are rounded to 5 significant digits.
        """
        was_training = self.training
        self.eval()
        curves: list[Curve] = []
        for index, layer in enumerate(self._layers()):
            if isinstance(layer, CurveLayer):
                curves += _strongest_curves(index, layer, x, per_layer, n_points)
            x = self._after(index, layer(x))
        self.train(was_training)
        return tuple(curves)

    def _layers(self) -> Iterable[Layer]:
        return cast("Iterable[Layer]", self.layers)

    def _after(self, index: int, x: Tensor) -> Tensor:
        """What becomes of a layer's output on its way to the next layer."""
        if index == len(self.layers) - 1:
            return x
        if self.norms:
            x = self.norms[index](x)
        if self.activated[index]:
            x = self.activation(x)
        if self.dropout and self.training:
            x = x * self._mask(x)
        return x

    def _mask(self, x: Tensor) -> Tensor:
        if self.generator.device != x.device:
            self.generator = torch.Generator(x.device).manual_seed(self.generator.initial_seed())
        keep = 1 - self.dropout
        return torch.empty_like(x).bernoulli_(keep, generator=self.generator) / keep


def norm_cost(width: int) -> Cost:
    """A layer norm: mean w, centring w, variance 2 w, its root 2, scaling w, and 2 w for what it learns."""
    return Cost(2 * width, 7 * width + 2)


def _strongest_curves(index: int, layer: CurveLayer, x: Tensor, n_curves: int, n_points: int) -> Iterator[Curve]:
    amplitudes = layer.forward_with_amplitudes(x)[1]
    seen = layer.curve_inputs(x)
    strength = torch.where(amplitudes.isfinite(), amplitudes, -1).flatten()
    order = strength.sort(descending=True, stable=True).indices[:n_curves]
    for place in order.tolist():
        target, source = divmod(place, amplitudes.shape[1])
        column = seen[:, source if layer.one_curve_an_edge else target]
        low, high = torch.quantile(column, torch.tensor([0.01, 0.99], dtype=x.dtype, device=x.device)).tolist()
        points = torch.linspace(low, high, n_points, dtype=x.dtype, device=x.device)
        values = layer.curve(points, source, target)
        amplitude = amplitudes[target, source]
        if torch.cat([points, values, amplitude.reshape(1)]).isfinite().all():
            yield Curve(
                layer=index,
                source=source if layer.one_curve_an_edge else None,
                target=target,
                amplitude=_rounded(amplitude.item()),
                x=tuple(map(_rounded, points.tolist())),
                y=tuple(map(_rounded, values.tolist())),
            )


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
