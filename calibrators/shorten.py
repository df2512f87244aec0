"""Published step counts made affordable: fewer steps, larger rates, the same rule for every method.

AdaRound, BRECQ and QDrop learn 10 000 to 20 000 steps per unit on a GPU. Their recipes hold those
numbers; a factor, stated wherever a figure is shown, shrinks them.
"""

from __future__ import annotations

import dataclasses

from calibrators.recipe import QuantRecipe
from trt_lane.errors import TrtLaneError

# Beyond it roundings swing rather than settle.
LARGEST_RATE = 1e-2
RULE = "steps x f, learning rates / sqrt(f) up to 0.01"


def shortened(recipe: QuantRecipe, factor: float) -> QuantRecipe:
    """The recipe with its steps times `factor`, at least 1 each.

    Adam moves a variable by about its rate per step. Rates / f would keep the way that it can go
    but not the noise of so few steps, so rates grow by 1 / sqrt(f), up to 0.01; a rate that is
    higher in the recipe stays. A factor above 1 leaves the rates.

    Raises:
        TrtLaneError: the factor is not in (0, 100].
    """
    if not 0 < factor <= 100:
        raise TrtLaneError(f"the steps factor is {factor}; expected above 0, up to 100")
    learned = recipe.reconstruction
    if learned is None or factor == 1:
        return recipe

    def rate(value: float) -> float:
        return value if factor > 1 else max(value, min(value * factor**-0.5, LARGEST_RATE))

    changed = dataclasses.replace(
        learned,
        steps=max(1, round(learned.steps * factor)),
        block_steps=max(min(learned.block_steps, 1), round(learned.block_steps * factor)),
        steps_after=max(1, round(learned.steps_after * factor)),
        lr_rounding=rate(learned.lr_rounding),
        lr_steps=rate(learned.lr_steps),
    )
    return dataclasses.replace(recipe, reconstruction=changed)
