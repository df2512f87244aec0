"""Small networks that show one structure each, folded and ready for calibration or export."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from trt_lane.decoders.row_anchor import RowAnchor
from trt_lane.image import ImageSpec
from trt_lane.model import Head, LaneModel
from trt_lane.models._folded import fold

HW = (16, 24)


def conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, **kwargs) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, **kwargs)


class Chain(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = conv(3, 6, bias=False), nn.BatchNorm2d(6)
        self.conv2 = conv(6, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.conv2(torch.relu(self.bn1(self.conv1(x))))}


class Residual(nn.Module):
    """relu -> two convolutions, added to the identity or to a downsampled shortcut."""

    def __init__(self, downsample: bool = False, in_place: bool = False):
        super().__init__()
        stride = 2 if downsample else 1
        self.stem = conv(3, 6)
        self.conv1, self.conv2 = conv(6, 6, 3, stride), conv(6, 6)
        self.down = conv(6, 6, 1, stride) if downsample else nn.Identity()
        self.out = conv(6, 2)
        self.in_place = in_place

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.relu(self.stem(x))
        y = self.conv2(torch.relu(self.conv1(x)))
        if self.in_place:
            y += self.down(x)
        else:
            y = y + self.down(x)
        return {"out": self.out(torch.relu(y))}


class Concats(nn.Module):
    """A concat of a convolution, a max-pool behind a view's kind, and another concat."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv(3, 4), conv(3, 4), conv(3, 4)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.out = conv(12, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        a, b, c = self.a(x).relu(), self.b(x).relu(), self.c(x).relu()
        inner = torch.cat([a, self.pool(b)], 1)
        return {"out": self.out(torch.cat([inner, c.flatten(2).unflatten(2, HW)], dim=1))}


class ConstantConcat(nn.Module):
    """For one frame at a time, as the constant has no batch."""

    def __init__(self):
        super().__init__()
        self.stem, self.out = conv(3, 4), conv(6, 2)
        self.register_buffer("grid", torch.randn(1, 2, *HW))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.out(torch.cat([self.stem(x).relu(), self.grid], 1))}


class Heads(nn.Module):
    """A head that feeds another, one behind a view, one tensor as two heads, one also inside."""

    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = conv(3, 4), conv(4, 2), conv(2, 3)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x).relu()
        first = self.first(x)
        second = self.second(first.relu())
        flat = first.flatten(1)
        # "first" is the name of this module's node as well, and another tensor.
        return {"first": second, "a": first, "flat": flat, "again": flat, "sum": second.sum(1)}


class Shared(nn.Module):
    """One layer at two places, with batch norm behind the first only."""

    def __init__(self):
        super().__init__()
        self.stem, self.twice, self.norm = conv(3, 4), conv(4, 4), nn.BatchNorm2d(4)
        self.out = conv(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.twice(self.stem(x).relu())).relu()
        return {"out": self.out(self.twice(x).relu())}


class Transformer(nn.Module):
    """Tokens by views, attention with packed projections, layer norm, feed-forward."""

    def __init__(self, dim: int = 8):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 4, 4)
        self.packed = nn.Parameter(torch.randn(3 * dim, dim) * dim**-0.5)
        self.packed_bias = nn.Parameter(torch.randn(3 * dim) * 0.1)
        self.position = nn.Parameter(torch.randn(1, HW[0] // 4 * HW[1] // 4, dim) * 0.1)
        self.project, self.norm = nn.Linear(dim, dim), nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.last = nn.Parameter(torch.randn(dim, 3))
        self.dim = dim

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x).flatten(2).permute(0, 2, 1) + self.position
        q, k, v = (
            F.linear(
                x,
                self.packed[i * self.dim : (i + 1) * self.dim],
                self.packed_bias[i * self.dim : (i + 1) * self.dim],
            )
            for i in range(3)
        )
        weights = torch.softmax(q @ k.transpose(1, 2) * self.dim**-0.5, dim=-1)
        x = self.norm(x + self.project(weights @ v))
        x = x + self.down(torch.relu(self.up(x)))
        return {"tokens": x @ self.last, "mean": x.mean(1)}


class Decoder(nn.Module):
    """Depthwise, grouped, transposed and grouped transposed convolutions, resize."""

    def __init__(self):
        super().__init__()
        self.stem = conv(3, 8, stride=2)
        self.depthwise, self.norm = conv(8, 8, groups=8), nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 6, 2, 2)
        self.up_norm = nn.BatchNorm2d(6)
        self.grouped_up = nn.ConvTranspose2d(6, 4, 2, 2, groups=2, bias=False)
        self.grouped_norm = nn.BatchNorm2d(4)
        self.out = conv(4, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.depthwise(self.stem(x).relu())).relu()
        x = self.up_norm(self.up(x)).relu()
        x = self.grouped_norm(self.grouped_up(x)).relu()
        x = F.interpolate(x, size=HW, mode="bilinear", align_corners=False)
        return {"out": self.out(x)}


class Flat(nn.Module):
    """UFLD's kind of head: flatten, two linear layers, a view."""

    def __init__(self):
        super().__init__()
        self.stem, self.pool = conv(3, 4, stride=2), nn.MaxPool2d(2)
        self.fc1, self.fc2 = nn.Linear(4 * 4 * 6, 10), nn.Linear(10, 12)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.pool(self.stem(x).relu()).flatten(1)
        return {"out": self.fc2(torch.relu(self.fc1(x))).unflatten(1, (3, 4))}


class PlainAdd(nn.Module):
    """An addition of two tensors of which neither is a convolution's output."""

    def __init__(self):
        super().__init__()
        self.a, self.b = conv(3, 4), conv(3, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": torch.relu(self.a(x)) + torch.relu(self.b(x))}


ALL = {
    "chain": Chain,
    "residual": Residual,
    "residual in place": lambda: Residual(in_place=True),
    "downsample": lambda: Residual(downsample=True),
    "concats": Concats,
    "heads": Heads,
    "shared": Shared,
    "transformer": Transformer,
    "decoder": Decoder,
    "flat": Flat,
    "plain add": PlainAdd,
}


def made(name: str, seed: int = 0) -> nn.Module:
    """A network by name with random weights and batch-norm statistics, in eval mode."""
    torch.manual_seed(seed)
    module = ALL[name]()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.3)
            part.running_var.uniform_(0.5, 2)
            part.weight.data.uniform_(0.5, 1.5)
            part.bias.data.normal_(0, 0.2)
    return module.eval()


def folded(name: str, seed: int = 0) -> fx.GraphModule:
    return fold(made(name, seed), HW)


def frames(count: int = 6, seed: int = 1) -> Tensor:
    return torch.randn(count, 3, *HW, generator=torch.Generator().manual_seed(seed))


def described(module: nn.Module) -> LaneModel:
    """A description with the heads that the module gives; the decoder is any."""
    with torch.no_grad():
        heads = module.eval()(torch.zeros(1, 3, *HW))
    return LaneModel(
        name="tiny",
        image=ImageSpec(HW, HW),
        heads=tuple(Head(k, tuple(v.shape[1:]), "numbers") for k, v in heads.items()),
        decoder=RowAnchor(HW, (4.0, 8.0), cells=12, lanes=2, cell_px=2.0),
        network=lambda: module,
    )
