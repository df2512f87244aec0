"""What stands, lies and shines in one synthetic road scene: plain values, metres, BGR in 0..255.

`offset_m` is measured along the road: from the line that runs through the camera's foot, to the
right. `distance_m` is Z in front of the camera.
"""

from dataclasses import dataclass
from enum import Enum

from trt_lane.datasets._road_geometry import View

Colour = tuple[float, float, float]


class Category(str, Enum):
    """CULane's nine test categories, under CULane's names."""

    NORMAL = "normal"
    CROWDED = "crowd"
    DAZZLE_LIGHT = "hlight"
    SHADOW = "shadow"
    NO_LINE = "noline"
    ARROW = "arrow"
    CURVE = "curve"
    CROSSROAD = "cross"
    NIGHT = "night"


@dataclass(frozen=True)
class Boundary:
    """A lane boundary of the ground truth; slots 0..3 go left to right, 1 and 2 are ego."""

    offset_m: float
    slot: int


@dataclass(frozen=True)
class Stripe:
    """A line along the road: paint, or (dark) a tar seam, joint or skid mark."""

    offset_m: float
    width_m: float
    colour: Colour
    opacity: float
    wear: float = 0.0  # 0 fresh .. 1 mostly gone
    dash_m: float = 0.0  # 0: solid
    period_m: float = 1.0
    phase_m: float = 0.0
    wobble_m: float = 0.0
    near_m: float = 0.0
    far_m: float = 400.0


class GroundShape(Enum):
    """What is laid flat on the road."""

    PATCH = "patch"
    ARROW_AHEAD = "arrow ahead"
    ARROW_TURN = "arrow turn"
    TEXT = "text"
    DIAMOND = "diamond"
    CROSSWALK = "crosswalk"
    STOP_LINE = "stop line"
    CRACK = "crack"


@dataclass(frozen=True)
class Decal:
    """A flat mark; length along the road, `mirror` -1 turns it left to right."""

    shape: GroundShape
    offset_m: float
    distance_m: float
    width_m: float
    length_m: float
    colour: Colour
    opacity: float
    mirror: int = 1


@dataclass(frozen=True)
class Surface:
    """The ground from left to right."""

    left_edge_m: float
    right_edge_m: float
    left_shoulder_m: float
    right_shoulder_m: float
    road: Colour
    shoulder: Colour
    terrain: Colour
    grain: float  # contrast of the road's texture
    terrain_grain: float
    track_depth: float  # how much darker the wheels' tracks are
    track_offsets_m: tuple[float, ...]
    strips: tuple[tuple[float, float, float], ...]  # from, to, brightness factor
    kerb: bool
    far_section: tuple[float, float] | None = None  # distance, brightness factor beyond it


class VehicleKind(Enum):
    """Silhouettes."""

    CAR = "car"
    VAN = "van"
    TRUCK = "truck"
    BUS = "bus"


@dataclass(frozen=True)
class Vehicle:
    """A vehicle on the road; distance_m is its nearest face."""

    kind: VehicleKind
    offset_m: float
    distance_m: float
    width_m: float
    height_m: float
    length_m: float
    paint: Colour
    oncoming: bool
    braking: bool
    crossing: bool = False  # stands across the road and shows its side


class PropKind(Enum):
    """What stands beside the road."""

    TREE = "tree"
    BUSH = "bush"
    POLE = "pole"
    LAMP = "lamp"
    SIGN = "sign"
    BUILDING = "building"
    GANTRY = "gantry"


@dataclass(frozen=True)
class Prop:
    """Something upright at the roadside."""

    kind: PropKind
    offset_m: float
    distance_m: float
    width_m: float
    height_m: float
    colour: Colour
    seed: int


class BarrierKind(Enum):
    """Continuous things along the road."""

    RAIL = "guard rail"
    WALL = "concrete wall"
    FENCE = "fence"


@dataclass(frozen=True)
class Barrier:
    """A rail, wall or fence along the whole road."""

    kind: BarrierKind
    offset_m: float
    height_m: float
    colour: Colour


@dataclass(frozen=True)
class CastShadow:
    """A dark quadrilateral on the ground: (offset, distance) corners; dapple breaks it up."""

    corners_m: tuple[tuple[float, float], ...]
    dapple: float


@dataclass(frozen=True)
class Sky:
    """Sky, and what closes the view at the horizon."""

    zenith: Colour
    horizon: Colour
    cloud: float
    hills_px: tuple[float, ...]  # heights of distant ridges, farthest first
    hill: Colour


@dataclass(frozen=True)
class Light:
    """How the scene is lit."""

    night: bool
    ambient: float
    ambient_tint: Colour
    headlight: float
    street_lamps_m: tuple[tuple[float, float], ...]  # offset, distance
    shadow_strength: float
    sun_side: float  # -1 from the left .. 1 from the right
    wet: float
    rain: float
    haze: float


@dataclass(frozen=True)
class Optics:
    """What lens, sensor and windscreen do; pixels of the 590 x 1640 frame."""

    gain: float
    gamma: float
    tint: Colour
    contrast: float
    saturation: float
    blur_px: float
    motion_px: float
    noise: float
    vignetting: float
    bonnet_px: float
    bonnet: Colour
    veil: float
    flares: tuple[tuple[float, float, float, float], ...]  # col, row, radius, strength


@dataclass(frozen=True)
class Scene:
    """Everything that the renderer needs, independent of the frame's size."""

    category: Category
    view: View
    boundaries: tuple[Boundary, ...]
    surface: Surface
    stripes: tuple[Stripe, ...]
    decals: tuple[Decal, ...]
    vehicles: tuple[Vehicle, ...]
    props: tuple[Prop, ...]
    barriers: tuple[Barrier, ...]
    shadows: tuple[CastShadow, ...]
    sky: Sky
    light: Light
    optics: Optics
    detail_seed: int
