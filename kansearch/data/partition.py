"""Which rows train, which validate and which test.

Shapes: N rows, C classes, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from kansearch.data.roles import Roles
from kansearch.errors import DataError
from kansearch.specs.data import DataSpec

Rows = Int64[np.ndarray, "N"]
Three = tuple[Rows, Rows, Rows]

PARTS = ("train", "validation", "test")
FEWEST = {"train": 8, "validation": 2, "test": 2}
"""Rows that a split needs."""


def rows_of_parts(
    source: str, target: np.ndarray, class_names: tuple[str, ...], spec: DataSpec, roles: Roles, n_test: int = 0
) -> Three:
    """Which rows train, which validate and which test; in the first two parts in an order that the seed draws.

    Whoever made the set has the first word on the last part; then a column of a table, if one is named; then the seed.

    Args:
        source: The file or the set, as a message begins.
        target: Index of the class of each row, or its value.
        class_names: None in regression.
        spec: How they are to be split.
        roles: What columns say of each row.
        n_test: So many rows at the end are the test rows of whoever made the set; 0 where there are none.

    Raises:
        DataError: If there are too few rows, or too few of a class.
    """
    if n_test:
        n_rows = len(target) - n_test
        order = np.random.default_rng(spec.seed).permutation(n_rows)
        train, validation = _apart(source, order, target, class_names, spec.validation)
        test = np.arange(n_rows, len(target))
    elif roles.group is not None:
        train, validation, test = _by_group(source, roles.group, target, class_names, spec)
    elif roles.order is not None:
        train, validation, test = _by_order(source, roles.order, spec)
    elif roles.part is not None:
        train, validation, test = _by_column(source, roles.part, target, class_names, spec)
    else:
        train, validation, test = split_rows(source, target, class_names, spec)
    if spec.max_rows is not None and len(train) + len(validation) > spec.max_rows:
        n_validation = math.ceil(round(spec.max_rows * spec.validation, 6))
        train, validation = train[: spec.max_rows - n_validation], validation[:n_validation]
    for name, rows in zip(PARTS, (train, validation, test), strict=True):
        if len(rows) < FEWEST[name]:
            raise DataError(f"{source}: {len(rows)} rows to {name}; the {name} split needs at least {FEWEST[name]}")
    return train, validation, test


def split_rows(
    source: str, target: np.ndarray, class_names: tuple[str, ...], spec: DataSpec
) -> tuple[Rows, Rows, Rows]:
    """Which rows train, which validate and which test, shuffled by the seed; by classes where there are some.

    The rule is ours and not scikit-learn's, so that a study's rows stay the same from version to version;
    and every class has a row in every split.

    Raises:
        DataError: If there are too few rows, or too few of a class.
    """
    n = len(target)
    _, n_validation, n_test = _wanted(n, spec)
    sizes = dict(zip(PARTS, _wanted(n, spec), strict=True))
    listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
    for name, size in sizes.items():
        fewest = max(FEWEST[name], len(class_names))
        if size < fewest:
            why = f" ({len(class_names)} classes)" if fewest > FEWEST[name] else ""
            raise DataError(
                f"{source} has {n} rows with a target: {listed}; the {name} split needs at least {fewest}{why}"
            )
    order = np.random.default_rng(spec.seed).permutation(n)
    if not class_names:
        return order[n_test + n_validation :], order[n_test : n_test + n_validation], order[:n_test]

    counts = np.bincount(target, minlength=len(class_names))
    if counts.min() < 3:
        rare = int(counts.argmin())
        raise DataError(
            f'{source}: class "{class_names[rare]}" has {counts[rare]} rows; allowed: at least 3, '
            "one each to train, to validate and to test"
        )
    # One row of each class goes into each split; the rest are shared out by size.
    spare = counts - 3
    test = _share_out(n_test - len(counts), spare)
    validation = _share_out(n_validation - len(counts), spare - test)
    place = np.empty(n, dtype=np.int64)
    for index, (in_test, in_validation) in enumerate(zip(test + 1, validation + 1, strict=True)):
        members = order[target[order] == index]
        place[members] = 0
        place[members[: in_test + in_validation]] = 1
        place[members[:in_test]] = 2
    train_rows, validation_rows, test_rows = (order[place[order] == part] for part in range(3))
    return train_rows, validation_rows, test_rows


def _apart(
    source: str, order: Rows, target: np.ndarray, class_names: tuple[str, ...], share: float
) -> tuple[Rows, Rows]:
    """Which of some rows train and which validate: a share of every class."""
    counts = np.bincount(target[order], minlength=len(class_names))
    if counts.min() < 2:
        rare = int(counts.argmin())
        raise DataError(
            f'{source}: class "{class_names[rare]}" has {counts[rare]} rows to train and validate; allowed: at least 2'
        )
    n_validation = math.ceil(round(len(order) * share, 6))
    in_validation = 1 + _share_out(max(0, n_validation - len(counts)), counts - 2)
    is_validation = np.zeros(len(target), dtype=bool)
    for index, n_rows in enumerate(in_validation):
        is_validation[order[target[order] == index][:n_rows]] = True
    return order[~is_validation[order]], order[is_validation[order]]


def _share_out(total: int, available: np.ndarray) -> np.ndarray:
    """Whole parts of a total, in proportion to what is available; the largest remainders round up."""
    whole, rest = np.divmod(available * total, max(1, int(available.sum())))
    n_left = total - int(whole.sum())
    whole[np.argsort(-rest, kind="stable")[:n_left]] += 1
    return whole


def _wanted(n: int, spec: DataSpec) -> tuple[int, int, int]:
    """Rows of each part, as the shares say."""
    n_test, n_validation = (math.ceil(round(n * share, 6)) for share in (spec.test, spec.validation))
    return n - n_test - n_validation, n_validation, n_test


# --- by a column ------------------------------------------------------------------------------------


def _by_group(source: str, group: Rows, target: np.ndarray, class_names: tuple[str, ...], spec: DataSpec) -> Three:
    """No group in two parts; sizes, and the shares of the classes, are near to what is asked for.

    One group after the other, large ones first, goes where the rows of its classes are wanted most: the chi-squared
    distance of all counts from the wanted ones grows least. Where no more groups have a class than there are parts that
    lack it, it goes to one of these.
    """
    n_groups = int(group.max()) + 1
    where = f'{source}: column "{spec.group}"'
    if n_groups < len(PARTS):
        raise DataError(f"{where} (data.group) has {n_groups} different values; allowed: at least 3, one for each part")
    n_classes = len(class_names) or 1
    of_rows = target if class_names else np.zeros(len(target), dtype=np.int64)
    counts = np.zeros((n_groups, n_classes), dtype=np.int64)
    np.add.at(counts, (group, of_rows), 1)
    wanted = np.array(_wanted(len(target), spec))[:, None] * counts.sum(0) / len(target)
    random = np.random.default_rng(spec.seed)
    shuffled = random.permutation(n_groups)
    n_left = (counts > 0).sum(0)
    so_far = np.zeros((len(PARTS), n_classes))
    part_of = np.empty(n_groups, dtype=np.int64)
    for index in shuffled[np.argsort(-counts.sum(1)[shuffled], kind="stable")]:
        own = counts[index]
        lacking = so_far == 0
        scarce = (own > 0) & (n_left <= lacking.sum(0))
        # Rounded, so that sums taken in another order do not decide.
        growth = (own * (2 * (so_far - wanted) + own) / np.maximum(wanted, 1e-9)).sum(1).round(6)
        n_needed = (lacking & scarce).sum(1)
        part_of[index] = min(range(len(PARTS)), key=lambda part: (-n_needed[part], growth[part]))
        so_far[part_of[index]] += own
        n_left -= own > 0
    order = random.permutation(len(target))
    return _three(order, part_of[group[order]])


def _by_order(source: str, values: np.ndarray, spec: DataSpec) -> Three:
    """The first rows train, the last ones test; equal values are never torn apart."""
    ranked = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[ranked]) > 0) + 1
    n_train, n_validation, _ = _wanted(len(values), spec)
    ends: list[int] = []
    for end in (n_train, n_train + n_validation):
        cuts = cuts[cuts > ends[-1]] if ends else cuts
        able = cuts if ends else cuts[:-1]  # the last one ends the validation rows
        if not len(able):
            n_distinct = len(np.unique(values))
            raise DataError(
                f'{source}: column "{spec.order}" (data.order) has {n_distinct} different values, too few to cut the '
                "rows into three parts between them"
            )
        ends.append(int(able[np.abs(able - end).argmin()]))
    parts = np.split(ranked, ends)
    random = np.random.default_rng(spec.seed)
    train, validation, test = (random.permutation(part) for part in parts)
    return train, validation, test


def _by_column(source: str, part: Rows, target: np.ndarray, class_names: tuple[str, ...], spec: DataSpec) -> Three:
    """As a column says; a part that it never names is drawn from the training rows."""
    order = np.random.default_rng(spec.seed).permutation(len(target))
    part = part.copy()
    for index, n_wanted in list(enumerate(_wanted(len(target), spec)))[1:]:
        if (part == index).any():
            continue
        train = order[part[order] == 0]
        if not len(train):
            raise DataError(f'{source}: column "{spec.split}" (data.split) has no training rows')
        of_rows = target[train] if class_names else np.zeros(len(train), dtype=np.int64)
        n_drawn = _share_out(min(n_wanted, len(train)), np.bincount(of_rows))
        for class_index, n_rows in enumerate(n_drawn):
            part[train[of_rows == class_index][:n_rows]] = index
    return _three(order, part[order])


def _three(order: Rows, part: Sequence[int] | Rows) -> Three:
    train, validation, test = (order[np.asarray(part) == index] for index in range(len(PARTS)))
    return train, validation, test
