"""One-to-one matching of two small sets: which lane stands for which."""

from __future__ import annotations

import numpy as np

# Rounding in sums of a few dozen potentials; far below any difference that matters.
EXACT = 1e-9
# A slack this large is no edge; NaN is none either.
NO_EDGE = 1e10


def match_heaviest(weights: np.ndarray, tolerance: float = EXACT) -> list[int]:
    """The matching of min(rows, columns) pairs with the largest sum of weights (Kuhn-Munkres).

    Args:
        weights: (rows, columns), any finite numbers; NaN marks a pair that cannot be matched.
        tolerance: an edge counts as tight when it is this close to its potentials; the sum found is
            at most `tolerance` per pair below the best one.

    Returns:
        The column of each row, -1 where it has none. With a NaN in the way, rows after the first
        one that finds no partner stay without one: the official CULane evaluator stops there.
    """
    weights = np.asarray(weights, np.float64)
    rows, columns = weights.shape
    if rows > columns:
        return _column_of_each_row(match_heaviest(weights.T, tolerance), rows)
    return _match_wide(weights.tolist(), columns, tolerance)


def match_cheapest(costs: np.ndarray) -> list[int]:
    """The matching of min(rows, columns) pairs with the smallest sum of costs: a column per row."""
    return match_heaviest(-np.asarray(costs, np.float64))


def _match_wide(weights: list[list[float]], columns: int, tolerance: float) -> list[int]:
    rows = len(weights)
    # Scans run in index order and NaN compares false, as in the official evaluator: among
    # near-equal matchings (tolerance) the scan order decides which one is found.
    row_potential = [-1e5] * rows
    for row, values in enumerate(weights):
        for value in values:
            if row_potential[row] < value:
                row_potential[row] = value
    column_potential = [0.0] * columns
    row_of = [-1] * columns

    def augment(row: int, seen_rows: set[int], seen_columns: set[int]) -> bool:
        """Give `row` a tight column, moving earlier rows over where needed."""
        seen_rows.add(row)
        for column in range(columns):
            slack = row_potential[row] + column_potential[column] - weights[row][column]
            if column in seen_columns or not abs(slack) < tolerance:
                continue
            seen_columns.add(column)
            holder = row_of[column]
            if holder < 0 or augment(holder, seen_rows, seen_columns):
                row_of[column] = row
                return True
        return False

    for start in range(rows):
        seen_rows, seen_columns = set(), set()
        while not augment(start, seen_rows, seen_columns):
            slacks = [
                row_potential[row] + column_potential[column] - weights[row][column]
                for row in seen_rows
                for column in range(columns)
                if column not in seen_columns
            ]
            step = min((slack for slack in slacks if slack < NO_EDGE), default=None)
            if step is None:
                return _column_of_each_row(row_of, rows)
            for row in seen_rows:
                row_potential[row] -= step
            for column in seen_columns:
                column_potential[column] += step
            seen_rows, seen_columns = set(), set()
    return _column_of_each_row(row_of, rows)


def _column_of_each_row(row_of: list[int], rows: int) -> list[int]:
    column_of = [-1] * rows
    for column, row in enumerate(row_of):
        if row >= 0:
            column_of[row] = column
    return column_of
