"""Recurrent cells: against torch's own, and with learned curves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kansearch.models.layer import OrdinaryLayer
from kansearch.models.recurrent import REMEMBER, CurveRecurrent, Recurrent
from kansearch.models.shapes import CELL_MAPS, Maps

from .zoo import make_layer, normal, stir

SOURCE = Maps(3, 1, 5)
OWN = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
REMEMBERING = {"rnn": slice(0), "gru": slice(4, 8), "lstm": slice(4, 8)}
"""Which biases of torch's cells decide how much of a state of 4 stays."""


@pytest.mark.parametrize("cell", OWN)
@pytest.mark.parametrize("averaged", [False, True])
def test_a_cell_is_torchs(cell: str, averaged: bool) -> None:
    """The last state or the mean of all; a text that is shorter ends earlier."""
    n = 4 * CELL_MAPS[cell]
    layers = OrdinaryLayer(3, n, dtype=torch.float64), OrdinaryLayer(4, n, dtype=torch.float64)
    layer = Recurrent(*layers, SOURCE, cell, averaged=averaged)
    stir(layer)
    own = OWN[cell](3, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        own.weight_ih_l0.copy_(layers[0].weight)
        own.weight_hh_l0.copy_(layers[1].weight)
        own.bias_ih_l0.copy_(layers[0].bias)
        own.bias_hh_l0.copy_(layers[1].bias)
        own.bias_ih_l0[REMEMBERING[cell]] += REMEMBER
    tokens = normal(2, 5, 3)
    tokens[1, 3:] = 0
    outputs = layer(tokens.mT.flatten(1))
    for row, length in enumerate((5, 3)):
        states = own(tokens[row : row + 1, :length])[0][0]
        assert torch.allclose(outputs[row], states.mean(0) if averaged else states[-1])


@pytest.mark.parametrize("form", ["dictionary", "edge", "scaled", "shared", "node", "kaf"])
@pytest.mark.parametrize("cell", OWN)
def test_the_curves_of_a_kan_cell(form: str, cell: str) -> None:
    """Amplitudes and moments are those of the curves over what they saw; a dropped curve is its mean."""
    n_outputs = 4 * CELL_MAPS[cell]
    inner = make_layer(form, "tanh", 3, n_outputs), make_layer(form, "tanh", 4, n_outputs)
    layer = CurveRecurrent(*inner, SOURCE, cell, averaged=True)
    stir(layer)
    x = normal(6, SOURCE.nodes)
    outputs, amplitudes = layer.forward_with_amplitudes(x)
    assert torch.allclose(outputs, layer(x))
    means, deviations = layer.curve_moments(x)
    seen = layer.curve_inputs(x)
    assert amplitudes.shape == means.shape == (n_outputs, 2 if form in ("node", "kaf") else 7)
    for target in (0, n_outputs - 1):
        for source in range(amplitudes.shape[1]):
            curve = layer.curve(seen[:, layer.curve_column(source, target)], source, target)
            assert torch.allclose(curve.square().mean().sqrt(), amplitudes[target, source])
            assert torch.allclose(curve.mean(), means[target, source])
            assert torch.allclose(curve.std(correction=0), deviations[target, source])
    layer.drop(torch.ones_like(means, dtype=torch.bool), means)
    rows = layer(normal(2, SOURCE.nodes, seed=1))
    assert torch.allclose(rows[0], rows[1])
