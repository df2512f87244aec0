"""What the quantisation table is asked for: models with weights and data, recipes with factors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from trt_lane.errors import TrtLaneError
from trt_lane.files import sha256_file
from trt_lane.toml_files import read_toml

# Read as files: benchmarks do not import calibrators, they run them.
RECIPES = Path(__file__).resolve().parents[1] / "calibrators" / "recipes"
MOST_FACTOR = 100.0
MODEL_FORM = "NAME[=WEIGHTS][@DATA[@CALIBRATION_DATA]]"
RECIPE_FORM = "NAME[:STEPS_FACTOR] or FILE.toml[:STEPS_FACTOR]"


@dataclass(frozen=True)
class ModelSpec:
    """A model with its checkpoint, the frames it is scored on and those it is calibrated on.

    Attributes:
        name: as get_model takes it.
        weights: the checkpoint.
        data: scored on; spec of a data set.
        calibration_data: calibrated on; labels are never read there.
    """

    name: str
    weights: Path
    data: str
    calibration_data: str

    @property
    def weights_digest(self) -> str:
        """sha256 of the checkpoint file."""
        return sha256_file(self.weights)


@dataclass(frozen=True)
class RecipeSpec:
    """A recipe with the factor on its published steps.

    Attributes:
        path: the TOML file.
        factor: 1 keeps the recipe's steps.
        unit: layer, block or network; None when nothing is learned (then no seed matters).
    """

    path: Path
    factor: float
    unit: str | None

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return self.path.stem

    def times(self, factor: float) -> RecipeSpec:
        """The recipe with its factor multiplied.

        Raises:
            TrtLaneError: the product is not in (0, 100].
        """
        product = self.factor * factor
        if not 0 < product <= MOST_FACTOR:
            raise TrtLaneError(
                f"recipe {self.name}: the steps factor is {self.factor:g} x {factor:g} = "
                f"{product:g}; expected a product above 0, up to {MOST_FACTOR:g}"
            )
        return replace(self, factor=product)


def parse_model(text: str) -> ModelSpec:
    """Read NAME[=WEIGHTS][@DATA[@CALIBRATION_DATA]].

    Without weights the bundled ones are taken; without data the synthetic test frames, calibrated
    on the synthetic calibration frames; with data alone both are done on those frames.
    """
    from trt_lane.model import get_model
    from trt_lane.models._checkpoint import bundled_weights

    head, *data = text.split("@")
    name, has_weights, weights = head.partition("=")
    empty = not name or (has_weights and not weights) or not all(data)
    if empty or len(data) > 2:
        raise TrtLaneError(
            f"model {text!r} is not {MODEL_FORM}; for instance "
            f"{name or 'MODEL'}=weights.pth@culane:DIR"
        )
    model = get_model(name)
    path = Path(weights).expanduser() if weights else bundled_weights(model)
    if not path.is_file():
        raise TrtLaneError(f"model {text!r}: no file {path}; expected {MODEL_FORM}")
    scored, calibrated = (data + data)[:2] if data else ("synthetic:test", "synthetic:calibration")
    return ModelSpec(name, path, scored, calibrated)


def parse_recipe(text: str, factor: float = 1.0) -> RecipeSpec:
    """Read NAME[:STEPS_FACTOR], of a recipe that comes with the project or of a TOML file.

    Args:
        text: the spec.
        factor: for recipes that learn layer by layer or block by block and say none themselves:
            their steps are the published ones. A network-wise recipe keeps its own steps.
    """
    name, has_factor, own = text.partition(":")
    path = Path(name).expanduser() if name.endswith(".toml") else RECIPES / f"{name}.toml"
    if not name or not path.is_file():
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.toml")))
        raise TrtLaneError(f"no recipe {name!r}; expected {RECIPE_FORM}, known recipes: {known}")
    learned = read_toml(path).get("reconstruction")
    unit = None if learned is None else learned.get("unit", "network")
    try:
        value = float(own) if has_factor else (factor if unit in ("layer", "block") else 1.0)
    except ValueError:
        value = 0.0
    if not 0 < value <= MOST_FACTOR:
        raise TrtLaneError(
            f"recipe {text!r}: the steps factor is {own or factor!r}; expected a number above 0, "
            f"up to {MOST_FACTOR:g}, as in {name}:0.01"
        )
    return RecipeSpec(path.resolve(), 1.0 if unit is None else value, unit)


def parse_seeds(text: str) -> list[int]:
    """Read whole numbers with blanks between them."""
    try:
        seeds = [int(word) for word in text.split()]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise TrtLaneError(f"seeds are {text!r}; expected different numbers from 0, as in '0 1 2'")
    return seeds


def short_spec(spec: str) -> str:
    """A data set's kind and folder name: no place of one's own disk belongs in a table."""
    kind, colon, argument = spec.partition(":")
    if kind == "synthetic":
        return spec
    return f"{kind}:{Path(argument).name}" if colon else Path(spec).name
