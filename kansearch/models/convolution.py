"""Convolutions: any layer, slid over maps.

A layer that takes a window's numbers for its inputs and gives the channels of one place becomes a convolution when it
does so at every place. So every KAN layer is a KAN convolution, with a curve for each output channel, input channel
and place in the window, and whatever it can do (amplitudes, curves, unfreezing, packs) its convolution can do.

Letters: *P nothing, or the networks of a stack; B batch, C channels and H, W height and width of the maps it sees,
I = C H W, k size of the window, L places of the maps it gives and O their channels, G groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from kansearch.errors import UserError
from kansearch.models.flops import Cost
from kansearch.models.layer import CurveLayer, Layer
from kansearch.models.shapes import Maps, Window


class Convolution(Layer):
    """A layer slid over maps.

    Args:
        layers: One for each of G groups of neighbouring channels: C / G k^2 numbers in, the group's share of the
            output channels out.
        source: The maps it sees.
        window: What one place sees of them.

    Raises:
        UserError: If the layers do not fit the maps and the window, or the window does not fit into the maps.

    Shapes: inputs *P B I, outputs *P B (O L), both channel by channel.
    """

    of_stem = True

    def __init__(self, layers: Sequence[Layer], source: Maps, window: Window) -> None:
        places = window.places(source.height), window.places(source.width)
        if min(places) < 1:
            raise UserError(
                f"a window of {window.size} does not fit into maps of {source.height} x {source.width}; "
                "allowed: smaller windows, or more padding"
            )
        needed = source.channels * window.size**2
        if sum(layer.n_inputs for layer in layers) != needed or len({layer.n_inputs for layer in layers}) != 1:
            raise UserError(
                f"windows of {window.size} over {source.channels} channels show {needed} numbers, which "
                f"{len(layers)} layers of equal size must take; they take {[layer.n_inputs for layer in layers]}"
            )
        target = Maps(sum(layer.n_outputs for layer in layers), *places)
        super().__init__(source.nodes, target.nodes)
        self.source, self.target, self.window = source, target, window
        self.groups = nn.ModuleList(layers)
        self.is_affine = all(layer.is_affine for layer in layers)

    def mix(self, prepared: Float[Tensor, "*P B I"]) -> Float[Tensor, "*P B OL"]:
        """The layers at every place."""
        return self._maps([layer(x) for layer, x in self.parts(prepared)], prepared)

    def parts(self, x: Float[Tensor, "*P B I"]) -> list[tuple[Layer, Float[Tensor, "*P BL _"]]]:
        """Each layer, and what it sees at all places."""
        return list(zip(self._layers(), self._windows(x), strict=True))

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Those of the layers."""
        return [parameter for layer in self._layers() for parameter in layer.decayed_parameters()]

    @staticmethod
    def cost(layer: Cost, target: Maps) -> Cost:
        """The parameters of one layer, and its operations at every place."""
        return Cost(layer.parameters, target.places * layer.flops)

    def _layers(self) -> list[Layer]:
        return cast("list[Layer]", list(self.groups))

    def _windows(self, x: Float[Tensor, "*P B I"]) -> Sequence[Float[Tensor, "*P BL _"]]:
        """What each place sees: a row for each, and of it a part for each group. Rows lie side by side."""
        *leading, n_rows, _ = x.shape
        source, window = self.source, self.window
        if window == Window(1):  # nothing to unfold
            seen = x.reshape(-1, source.channels, source.places)
        else:
            images = x.reshape(-1, source.channels, source.height, source.width)
            seen = functional.unfold(images, window.size, padding=window.padding, stride=window.stride)
        numbers = seen.view(-1, n_rows, *seen.shape[-2:]).transpose(-3, -2)
        columns = numbers.reshape(*leading, seen.shape[-2], n_rows * self.target.places)
        return [part.mT for part in columns.chunk(len(self.groups), dim=-2)]

    def _maps(self, of_groups: Sequence[Float[Tensor, "*P BL _"]], x: Tensor) -> Float[Tensor, "*P B OL"]:
        """Channel by channel, from what each place gives."""
        of_places = of_groups[0] if len(of_groups) == 1 else torch.cat(list(of_groups), dim=-1)
        return torch.unflatten(of_places, -2, (x.shape[-2], self.target.places)).mT.flatten(-2)


class CurveConvolution(Convolution, CurveLayer):
    """A KAN convolution: KAN layers slid over maps. Its curves are theirs, group by group."""

    def __init__(self, layers: Sequence[CurveLayer], source: Maps, window: Window) -> None:
        super().__init__(layers, source, window)
        self.one_curve_an_edge = layers[0].one_curve_an_edge  # type: ignore[misc]  # here it is the instance's

    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B I"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B OL"], Float[Tensor, "*P O _"]]:
        """The same, and the root mean square of each curve over all rows and places."""
        of_places = (shares / self.target.places).repeat_interleave(self.target.places)
        outputs, amplitudes = [], []
        for layer, x in zip(self._curve_layers(), self._windows(prepared), strict=True):
            of_group, amplitude = layer.mix_with_amplitudes(layer.prepare(x), of_places)
            outputs.append(of_group)
            amplitudes.append(amplitude)
        return self._maps(outputs, prepared), torch.cat(amplitudes, dim=-2)

    def activation_parameters(self) -> list[nn.Parameter]:
        """Those of the layers."""
        return [parameter for layer in self._curve_layers() for parameter in layer.activation_parameters()]

    def curve_moments(self, x: Float[Tensor, "B I"]) -> tuple[Float[Tensor, "O _"], Float[Tensor, "O _"]]:
        """Over all rows and places."""
        parts = [layer.curve_moments(seen) for layer, seen in zip(self._curve_layers(), self._windows(x), strict=True)]
        means, deviations = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(deviations)

    def drop(self, curves: Bool[Tensor, "O _"], means: Float[Tensor, "O _"]) -> None:
        """In the layers that are slid."""
        sizes = [layer.n_outputs for layer in self._layers()]
        for layer, of_layer, constants in zip(
            self._curve_layers(), torch.split(curves, sizes), torch.split(means, sizes), strict=True
        ):
            layer.drop(of_layer, constants)

    def curve_inputs(self, x: Float[Tensor, "B I"]) -> Float[Tensor, "BL _"]:
        """What the curves of each place see; with groups, one group after the other."""
        seen = [layer.curve_inputs(part) for layer, part in zip(self._curve_layers(), self._windows(x), strict=True)]
        return torch.cat(seen, dim=-1)

    def curve_column(self, source: int, target: int) -> int:
        """The column of a group's own inputs, or of its output."""
        if not self.one_curve_an_edge:
            return target
        group, layers = 0, self._layers()
        while target >= layers[group].n_outputs:
            target -= layers[group].n_outputs
            group += 1
        return group * layers[0].n_inputs + source

    def curve(self, points: Float[Tensor, " N"], source: int, target: int) -> Float[Tensor, " N"]:
        """The curve of an output channel by one of the numbers that its group sees."""
        for layer in self._curve_layers():
            if target < layer.n_outputs:
                return layer.curve(points, source, target)
            target -= layer.n_outputs
        raise IndexError(target)

    def _curve_layers(self) -> list[CurveLayer]:
        return cast("list[CurveLayer]", self._layers())
