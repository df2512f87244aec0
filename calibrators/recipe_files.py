"""Recipes as TOML files: those that come with the project, and anyone's own."""

from __future__ import annotations

import difflib
from dataclasses import fields
from pathlib import Path
from typing import Any

from calibrators.recipe import CHOICES, QuantRecipe, ReconstructionRecipe, TensorRecipe
from trt_lane.errors import TrtLaneError
from trt_lane.toml_files import read_toml

RECIPES = Path(__file__).parent / "recipes"


def list_recipes() -> list[str]:
    """Names of the recipes that come with the project."""
    return sorted(p.stem for p in RECIPES.glob("*.toml"))


def load_recipe(name: str) -> QuantRecipe:
    """A recipe by name, or a TOML file by path."""
    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not path.is_file():
        close = difflib.get_close_matches(name, list_recipes(), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise TrtLaneError(f"no recipe {name!r}; {hint}known recipes: {', '.join(list_recipes())}")
    try:
        table = read_toml(path)
    except ValueError as error:
        raise TrtLaneError(f"{path} is not valid TOML: {error}") from None
    try:
        return _from_table(QuantRecipe, {"name": path.stem, **table})
    except (TypeError, ValueError) as error:
        raise TrtLaneError(f"recipe {path}: {error}") from None


def _from_table(kind: type, table: dict[str, Any], where: str = "") -> Any:
    """Make a (nested) dataclass of a TOML table; unknown and mistyped keys are errors."""
    known = {f.name: f for f in fields(kind)}
    values = {}
    for key, value in table.items():
        if key not in known:
            raise ValueError(f"unknown key {where + key!r}; known keys: {', '.join(known)}")
        nested = _NESTED.get(str(known[key].type))
        if nested is not None:
            if not isinstance(value, dict):
                raise ValueError(f"{where + key} is {value!r}; expected a table [{where + key}]")
            value = _from_table(nested, value, f"{where}{key}.")
        elif not _fits(value, str(known[key].type)):
            raise ValueError(f"{where + key} is {value!r}; expected {known[key].type}")
        elif str(known[key].type) == "float":
            value = float(value)  # 99 and 99.0 are one recipe
        values[key] = value
    return kind(**values)


_NESTED = {
    "TensorRecipe": TensorRecipe,
    "ReconstructionRecipe | None": ReconstructionRecipe,
}
_NAMED = tuple(kind.__name__ for kind in CHOICES)  # given by their value; checked when made


def _fits(value: Any, annotation: str) -> bool:
    if annotation == "float":
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation in _NAMED:
        return isinstance(value, str)
    return type(value).__name__ == annotation
