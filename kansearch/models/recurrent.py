"""Recurrent networks: tanh, GRU and LSTM cells whose affine maps may be any layer.

A cell has two layers: one takes a token, the other the state. With ordinary layers they are torch's cells; with KAN
layers every number that enters the cell is a sum of learned curves.

Letters: *P nothing, or the networks of a stack; B batch, L tokens, E numbers of each, S numbers of the state,
M maps of a cell: 1 (tanh), 3 (GRU) or 4 (LSTM).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kansearch.models.flops import Cost
from kansearch.models.layer import CurveLayer, Layer
from kansearch.models.shapes import CELL_MAPS, Maps
from kansearch.models.tokens import are_tokens, tokens_of

_T = TypeVar("_T")

REMEMBER = 1.0
"""Added to what decides how much of the state stays, so that a cell remembers at first.

Source: Jozefowicz et al. (2015), An Empirical Exploration of Recurrent Network Architectures, section 2."""


def _tanh(given: Tensor, of_state: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    del state
    return (given + of_state).squeeze(0).tanh(), memory


def _gru(given: Tensor, of_state: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Source: Cho et al. (2014), arXiv:1406.1078; the reset behind the product, as in torch."""
    reset = (given[0] + of_state[0]).sigmoid()
    keep = (given[1] + of_state[1] + REMEMBER).sigmoid()
    new = torch.addcmul(given[2], reset, of_state[2]).tanh()
    return torch.lerp(new, state, keep), memory


def _lstm(given: Tensor, of_state: Tensor, state: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """Source: Hochreiter & Schmidhuber (1997) with the forget gate of Gers et al. (2000), in torch's order."""
    del state
    total = given + of_state
    write, keep, show = total[0].sigmoid(), (total[1] + REMEMBER).sigmoid(), total[3].sigmoid()
    memory = keep * memory + write * total[2].tanh()
    return show * memory.tanh(), memory


CELLS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "rnn": _tanh,
    "gru": _gru,
    "lstm": _lstm,
}
"""What given tokens (M, *P, B, S), maps of the state (likewise), the state and the memory of an LSTM become."""

FLOPS = {"rnn": 2, "gru": 2 + 3 + 3 + 3, "lstm": 4 + 1 + 4 + 3 + 2}
"""Of each number of the state, beside the layers: sums, functions and products above."""


class Recurrent(Layer):
    """A cell that reads the tokens of a row one by one; where there is none the state stays.

    Args:
        of_token: E -> M S.
        of_state: S -> M S.
        source: The tokens.
        cell: `rnn`, `gru` or `lstm`.
        averaged: Give the mean of the states at all tokens; otherwise the last state.
    """

    of_stem = True

    def __init__(self, of_token: Layer, of_state: Layer, source: Maps, cell: str, *, averaged: bool) -> None:
        super().__init__(source.nodes, of_state.n_inputs)
        self.of_token = of_token
        self.of_state = of_state
        self.source = source
        self.cell_name = cell
        self.n_maps = CELL_MAPS[cell]
        self.averaged = averaged

    def mix(self, prepared: Float[Tensor, "*P B EL"]) -> Float[Tensor, "*P B S"]:
        """The last state, or the mean."""
        return self._read(self.of_token(tokens_of(prepared, self.source.channels)), prepared)[0]

    def decayed_parameters(self) -> list[nn.Parameter]:
        """Those of both layers."""
        return [*self.of_token.decayed_parameters(), *self.of_state.decayed_parameters()]

    @staticmethod
    def cost(of_token: Cost, of_state: Cost, source: Maps, n_state: int, cell: str, *, averaged: bool) -> Cost:
        """Both layers and the cell, once a token; and the sums and shares of a mean."""
        of_cell = source.places * (of_token.flops + of_state.flops + n_state * FLOPS[cell])
        of_mean = averaged * n_state * (source.places + 1)
        return Cost(of_token.parameters + of_state.parameters, of_cell + of_mean)

    def _read(
        self, given: Float[Tensor, "*P BL MS"], row: Float[Tensor, "*P B EL"]
    ) -> tuple[Float[Tensor, "*P B S"], list[Float[Tensor, "*P B S"]]]:
        """What the cell gives, and the states that it passed, the first included."""
        n_rows = row.shape[-2]
        # One piece of memory for each token and map, like the states.
        steps = torch.unflatten(torch.unflatten(given, -1, (self.n_maps, -1)), -3, (n_rows, -1))
        steps = steps.movedim((-3, -2), (0, 1)).contiguous()
        there = are_tokens(row, self.source.channels).movedim(-1, 0).unsqueeze(-1)
        state = memory = row.new_zeros(*row.shape[:-1], self.n_outputs)
        states = [state]
        total = state
        for step, is_token in zip(steps, there, strict=True):
            of_state = torch.unflatten(self.of_state(state), -1, (self.n_maps, -1)).movedim(-2, 0).contiguous()
            new_state, new_memory = CELLS[self.cell_name](step, of_state, state, memory)
            state, memory = torch.where(is_token, new_state, state), torch.where(is_token, new_memory, memory)
            states.append(state)
            if self.averaged:
                total = total + state * is_token
        outputs = total / there.sum(0).clamp(min=1) if self.averaged else state
        return outputs, states


class CurveRecurrent(Recurrent, CurveLayer):
    """A cell of two KAN layers. Its curves are theirs: sources are the numbers of a token, then those of the state.

    All places count the same in amplitudes, padding included.
    """

    def __init__(self, of_token: CurveLayer, of_state: CurveLayer, source: Maps, cell: str, *, averaged: bool) -> None:
        super().__init__(of_token, of_state, source, cell, averaged=averaged)
        self.one_curve_an_edge = of_token.one_curve_an_edge  # type: ignore[misc]  # here it is the instance's

    def mix_with_amplitudes(
        self, prepared: Float[Tensor, "*P B EL"], shares: Float[Tensor, " B"]
    ) -> tuple[Float[Tensor, "*P B S"], Float[Tensor, "*P MS _"]]:
        """The same, and the root mean square of each curve over all rows and tokens."""
        of_token, of_state = self._curve_layers()
        n_tokens = self.source.places
        tokens = of_token.prepare(tokens_of(prepared, self.source.channels))
        given, of_tokens = of_token.mix_with_amplitudes(tokens, (shares / n_tokens).repeat_interleave(n_tokens))
        outputs, states = self._read(given, prepared)
        seen = of_state.prepare(torch.cat(states[:-1], dim=-2))
        _, of_states = of_state.mix_with_amplitudes(seen, (shares / n_tokens).repeat(n_tokens))
        return outputs, torch.cat([of_tokens, of_states], dim=-1)

    def activation_parameters(self) -> list[nn.Parameter]:
        """Those of both layers."""
        return [parameter for layer in self._curve_layers() for parameter in layer.activation_parameters()]

    def curve_inputs(self, x: Float[Tensor, "B EL"]) -> Float[Tensor, "BL _"]:
        """What the curves of both layers see at each token, row by row."""
        return torch.cat(self._both(lambda layer, seen: layer.curve_inputs(seen), x), dim=-1)

    def curve_column(self, source: int, target: int) -> int:
        """The source; or the node of one layer, and then of the other."""
        if self.one_curve_an_edge:
            return source
        layer, _ = self._of_source(source)
        return target if layer is self.of_token else layer.n_outputs + target

    def curve_moments(self, x: Float[Tensor, "B EL"]) -> tuple[Float[Tensor, "MS _"], Float[Tensor, "MS _"]]:
        """Over all rows and tokens."""
        means, deviations = zip(*self._both(lambda layer, seen: layer.curve_moments(seen), x), strict=True)
        return torch.cat(means, dim=-1), torch.cat(deviations, dim=-1)

    def drop(self, curves: Bool[Tensor, "MS _"], means: Float[Tensor, "MS _"]) -> None:
        """In the layer whose they are."""
        sizes = [layer.n_inputs if self.one_curve_an_edge else 1 for layer in self._curve_layers()]
        for layer, of_layer, constants in zip(
            self._curve_layers(), torch.split(curves, sizes, -1), torch.split(means, sizes, -1), strict=True
        ):
            layer.drop(of_layer, constants)

    def curve(self, points: Float[Tensor, " N"], source: int, target: int) -> Float[Tensor, " N"]:
        """The curve of a number of the token or of the state."""
        layer, place = self._of_source(source)
        return layer.curve(points, place, target)

    def _curve_layers(self) -> tuple[CurveLayer, CurveLayer]:
        return cast("CurveLayer", self.of_token), cast("CurveLayer", self.of_state)

    def _of_source(self, source: int) -> tuple[CurveLayer, int]:
        """Whose curve it is, and by which of its inputs."""
        of_token, of_state = self._curve_layers()
        n_first = of_token.n_inputs if self.one_curve_an_edge else 1
        return (of_token, source) if source < n_first else (of_state, source - n_first)

    @torch.no_grad()
    def _both(self, what: Callable[[CurveLayer, Tensor], _T], x: Float[Tensor, "B EL"]) -> list[_T]:
        """Something of each layer, from what it sees."""
        tokens = tokens_of(x, self.source.channels)
        states = torch.stack(self._read(self.of_token(tokens), x)[1][:-1], dim=-2).flatten(-3, -2)
        return [what(layer, seen) for layer, seen in zip(self._curve_layers(), (tokens, states), strict=True)]
