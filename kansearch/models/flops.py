"""What a layer costs, and how its operations are counted.

FLOPs are those of one forward pass of one input (one row). Each multiplication or division, each addition or
subtraction, each comparison or rounding and each evaluation of an elementary function (exp, tanh, sigmoid,
erf, sin, 1/sqrt) counts 1. Changes of sign, copies, and what depends on parameters alone (exp of a
log scale), count 0. A sum of n products and a bias is n multiplications and n additions: 2 n.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """What a network, or a part of one, costs.

    Attributes:
        parameters: Learnable numbers.
        flops: Operations of one forward pass of one input.
    """

    parameters: int
    flops: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.parameters + other.parameters, self.flops + other.flops)
