"""Fits measured values to a sum of known quantities times unknown costs, by least squares."""

from __future__ import annotations

from collections.abc import Sequence


def costs(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Returns the costs for which `sum(quantity * cost)` of each row comes closest to its value.

    The squares of the relative errors are added up, so a small value counts as much as a large one.
    """
    scaled = [[quantity / value for quantity in row] for row, value in zip(rows, values)]
    count = len(scaled[0])
    # The normal equations, one row each, with the right-hand side as the last column.
    equations = [
        [sum(row[i] * row[j] for row in scaled) for j in range(count)] + [sum(row[i] for row in scaled)]
        for i in range(count)
    ]
    for pivot in range(count):
        best = max(range(pivot, count), key=lambda row: abs(equations[row][pivot]))
        equations[pivot], equations[best] = equations[best], equations[pivot]
        for row in range(count):
            if row != pivot:
                factor = equations[row][pivot] / equations[pivot][pivot]
                equations[row] = [a - factor * b for a, b in zip(equations[row], equations[pivot])]
    return [equations[row][count] / equations[row][row] for row in range(count)]


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Returns by how much `y` grows with each `x`."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)
