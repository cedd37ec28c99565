"""Curves from compiled code, with their gradients.

A layer of torch's operators goes through memory once for each operator; an edge layer has as many numbers there as
it has edges times rows. The compiled code keeps them in registers.

Letters: P networks, B batch, I inputs, O outputs, K curves of each input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kansearch import compiled
from kansearch.models.layer import columns_of, differentiable_once

FUNCTIONS = ("gaussian", "mexican_hat", "relu_bump", "sigmoid", "tanh", "relu", "silu", "gelu", "sin", "cubic_b_spline")
"""In the order of curves.c."""


def serves_edges(functions: Sequence[str], shares: Tensor | None, x: Tensor, a: Tensor, *others: Tensor | None) -> bool:
    """Whether the compiled code can sum edges of these base functions (at least one): all fits, in number and kind.

    What does not fit is left to torch's operators, which say what is wrong.
    """
    return (
        bool(functions)
        and all(compiled.serves(t) for t in (shares, x, a, *others) if t is not None)
        and (shares is None or shares.shape == x.shape[-2:-1])
        and x.dim() == a.dim() == 3
        and (x.shape[0], x.shape[-1]) == (a.shape[0], a.shape[-1])
        and all(t.shape == a.shape for t in others if t is not None)
    )


def serves_atoms(functions: Sequence[str], x: Tensor, beta: Tensor, gamma: Tensor) -> bool:
    """Whether the compiled code can evaluate atoms of these base functions, likewise."""
    is_shared = beta.dim() == 2 and not (beta.requires_grad or gamma.requires_grad)
    return (
        bool(functions)
        and all(compiled.serves(t) for t in (x, beta, gamma))
        and beta.shape == gamma.shape
        and beta.dim() >= 2
        and x.dim() >= 2
        and beta.shape[-2] == x.shape[-2]
        and (is_shared or beta.shape[:-2] == x.shape[:-2])
    )


def edge_sums(
    functions: Sequence[str],
    shares: Float[Tensor, " B"] | None,
    x: Float[Tensor, "P B I"],
    a: Float[Tensor, "P O I"],
    b: Float[Tensor, "P O I"],
    d: Float[Tensor, "P O I"] | None,
) -> tuple[Float[Tensor, "P B O"], Float[Tensor, "P O I"]]:
    """sum_i a_ji f(b_ji x_i + d_ji), and sum_rows shares f^2 (zeros without shares).

    Args:
        functions: Names of f, one for all networks or one for each.
        shares: Weight of each row in the second sum.
        x: Rows.
        a: Amplitudes.
        b: Scales.
        d: Shifts, if there are any.
    """
    sums: tuple[Tensor, Tensor] = _EdgeSums.apply(functions, shares, x, a, b, d)  # type: ignore[no-untyped-call]  # apply has no types
    return sums


def atoms(
    functions: Sequence[str], x: Float[Tensor, "*P I B"], beta: Float[Tensor, "*Q I K"], gamma: Float[Tensor, "*Q I K"]
) -> Float[Tensor, "*P I K B"]:
    """f(beta_ik x_i + gamma_ik).

    Args:
        functions: Names of f, one for all networks or one for each.
        x: Rows side by side.
        beta: Scales; *Q is *P, or nothing where the same serve all networks and are not learned.
        gamma: Shifts, likewise.
    """
    values: Tensor = _Atoms.apply(functions, x, beta, gamma)  # type: ignore[no-untyped-call]  # apply has no types
    return values


def copies(
    functions: Sequence[str], x: Float[Tensor, "*P I B"], scales: Float[Tensor, " K"], shifts: Float[Tensor, " K"]
) -> Float[Tensor, "*P I K B"] | None:
    """f(scale_k x_i + shift_k), the same K copies for every input; None where the compiled code does not serve.

    Args:
        functions: Names of f, one for all networks or one for each.
        x: Rows side by side.
        scales: Of the copies.
        shifts: Likewise.
    """
    if not compiled.serves(x):
        return None
    beta, gamma = (t.repeat(x.shape[-2], 1) for t in (scales, shifts))
    return atoms(functions, x, beta, gamma) if serves_atoms(functions, x, beta, gamma) else None


def serves_mixtures(functions: Sequence[str], x: Tensor, beta: Tensor, gamma: Tensor, weight: Tensor) -> bool:
    """Whether the compiled code can mix atoms of these base functions, likewise."""
    return (
        serves_atoms(functions, x, beta, gamma)
        and compiled.serves(weight)
        and weight.dim() == x.dim() + 1
        and weight.shape[:-3] == x.shape[:-2]
        and weight.shape[-2:] == beta.shape[-2:]
    )


def mixtures(
    functions: Sequence[str],
    x: Float[Tensor, "*P I B"],
    beta: Float[Tensor, "*Q I K"],
    gamma: Float[Tensor, "*Q I K"],
    weight: Float[Tensor, "*P O I K"],
) -> Float[Tensor, "*P B O"]:
    """sum_ik weight_oik f(beta_ik x_i + gamma_ik), without a tensor of all atoms; the fewer outputs, the better.

    Args:
        functions: As in `atoms`.
        x: Rows side by side.
        beta: As in `atoms`.
        gamma: Likewise.
        weight: Of the mixtures.
    """
    sums: Tensor = _Mixtures.apply(functions, x, beta, gamma, weight)  # type: ignore[no-untyped-call]  # apply has no types
    return sums


class _EdgeSums(torch.autograd.Function):
    """Nothing is kept for the backward pass but what came in."""

    @staticmethod
    def forward(ctx: Any, functions: Sequence[str], shares: Tensor | None, x: Tensor, *abd: Tensor | None) -> Any:
        columns = columns_of(x)
        shares = None if shares is None else shares.contiguous()
        a, b, d = (_in_order(t) for t in abd)
        assert a is not None
        n_networks, n_outputs, n_inputs = a.shape
        ctx.save_for_backward(shares, columns, a, b, d)
        ctx.sizes = (n_networks, n_outputs, n_inputs, columns.shape[-1])
        ctx.functions = functions
        sums = columns.new_empty(n_networks, n_outputs, columns.shape[-1])
        squares = torch.empty_like(a, memory_format=torch.contiguous_format) if shares is not None else None
        _call("edge_sums", functions, ctx.sizes, (a, b, d), columns, a, b, d, shares, sums, squares)
        return sums.mT.contiguous(), a.new_zeros(a.shape) if squares is None else squares

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_sums: Tensor, of_squares: Tensor) -> tuple[Tensor | None, ...]:
        shares, columns, a, b, d = ctx.saved_tensors
        of_sums, of_squares = of_sums.mT.contiguous(), of_squares.contiguous()
        of_columns = torch.zeros_like(columns) if ctx.needs_input_grad[2] else None
        of_a, of_b = (t.new_empty(t.shape) for t in (a, b))
        of_d = None if d is None else d.new_empty(d.shape)
        given = (columns, a, b, d, shares, of_sums, of_squares)
        _call("edge_sums_backward", ctx.functions, ctx.sizes, (a, b, d), *given, of_columns, of_a, of_b, of_d)
        return None, None, None if of_columns is None else of_columns.mT.contiguous(), of_a, of_b, of_d


class _Atoms(torch.autograd.Function):
    """Nothing is kept for the backward pass but what came in."""

    @staticmethod
    def forward(ctx: Any, functions: Sequence[str], x: Tensor, beta: Tensor, gamma: Tensor) -> Tensor:
        x = x.contiguous()
        n_networks = x.shape[:-2].numel()
        *_, n_inputs, n_rows = x.shape
        beta, gamma = (_in_order(t) for t in (beta, gamma))  # type: ignore[assignment]  # both are there
        ctx.save_for_backward(x, beta, gamma)
        ctx.sizes = (n_networks, n_inputs, beta.shape[-1], n_rows)
        ctx.functions = functions
        values = x.new_empty(*x.shape[:-1], beta.shape[-1], n_rows)
        _call("atoms", functions, ctx.sizes, (beta, gamma), x, beta, gamma, values)
        return values

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_values: Tensor) -> tuple[Tensor | None, ...]:
        x, beta, gamma = ctx.saved_tensors
        of_x = torch.empty_like(x) if ctx.needs_input_grad[1] else None
        learned = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        of_beta, of_gamma = (t.new_empty(t.shape) if learned else None for t in (beta, gamma))
        given = (x, beta, gamma, of_values.contiguous())
        _call("atoms_backward", ctx.functions, ctx.sizes, (beta, gamma), *given, of_x, of_beta, of_gamma)
        return None, of_x, of_beta, of_gamma


class _Mixtures(torch.autograd.Function):
    """Nothing is kept for the backward pass but what came in."""

    @staticmethod
    def forward(ctx: Any, functions: Sequence[str], x: Tensor, *parameters: Tensor) -> Tensor:
        x = x.contiguous()
        n_networks = x.shape[:-2].numel()
        beta, gamma = (_in_order(t) for t in parameters[:2])
        weight = _in_order(parameters[2], 3)
        assert weight is not None
        assert beta is not None
        n_outputs, n_inputs, n_curves = weight.shape[-3:]
        n_rows = x.shape[-1]
        ctx.save_for_backward(x, beta, gamma, weight)
        ctx.sizes = (n_networks, n_outputs, n_inputs, n_curves, n_rows)
        ctx.functions = functions
        sums = x.new_zeros(*x.shape[:-2], n_outputs, n_rows)
        _call(
            "mixtures", functions, ctx.sizes, (beta, gamma, weight), x, beta, gamma, weight, x.new_empty(n_rows), sums
        )
        return sums.mT.contiguous()

    @staticmethod
    @differentiable_once
    def backward(ctx: Any, of_sums: Tensor) -> tuple[Tensor | None, ...]:
        x, beta, gamma, weight = ctx.saved_tensors
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[1] else None
        learned = ctx.needs_input_grad[2] or ctx.needs_input_grad[3]
        of_beta, of_gamma = (t.new_empty(t.shape) if learned else None for t in (beta, gamma))
        of_weight = weight.new_empty(weight.shape)
        given = (x, beta, gamma, weight, of_sums.mT.contiguous(), x.new_empty(3 * x.shape[-1]))
        wanted = (of_x, of_beta, of_gamma, of_weight)
        _call("mixtures_backward", ctx.functions, ctx.sizes, (beta, gamma, weight), *given, *wanted)
        return None, *wanted


def _in_order(t: Tensor | None, n_axes: int = 2) -> Tensor | None:
    """As it is where each network's numbers, so many axes of them, lie in order without gaps, else a copy."""
    if t is None or t.numel() == 0 or t[(0,) * (t.dim() - n_axes)].is_contiguous():
        return t
    return t.contiguous()


def _call(
    name: str,
    functions: Sequence[str],
    sizes: tuple[int, ...],
    parameters: tuple[Tensor | None, ...],
    *tensors: Tensor | None,
) -> None:
    """Call a function of curves.c.

    Args:
        name: Which.
        functions: Base functions, one for all networks or one for each.
        sizes: As it wants them, networks first.
        parameters: Of which it wants to know how far apart the networks are.
        tensors: All others.
    """
    numbers = [FUNCTIONS.index(f) for f in functions]
    if len(numbers) == 1:
        numbers *= sizes[0]
    assert len(numbers) == sizes[0]
    strides = [t.stride(0) if t is not None and t.dim() > 2 else 0 for t in parameters]
    compiled.call(name, compiled.ints(numbers), compiled.longs(sizes), compiled.longs(strides), *tensors)
