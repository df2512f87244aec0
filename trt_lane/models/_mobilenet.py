"""MobileNet v2 and v3-large trunks at 1/16 of the input, as pytorch-auto-drive has them.

Structure, strides, dilations and key names follow voldemortX/pytorch-auto-drive 137e63a
(mobilenet_v2.py, mobilenet_v3.py, inverted_residual.py, se.py and configs/lane_detection/resa).
"""

from __future__ import annotations

from torch import Tensor, nn

# expansion, channels, blocks, stride, dilation of each stage's first block
V2_STAGES = (
    (1, 16, 1, 1, 1),
    (6, 24, 2, 2, 1),
    (6, 32, 3, 2, 1),
    (6, 64, 4, 2, 1),
    (6, 96, 3, 1, 1),
    (6, 160, 3, 1, 2),
    (6, 320, 1, 1, 2),
)
# kernel, hidden channels, channels, squeeze-and-excitation, hard swish, stride, dilation
V3_BLOCKS = (
    (3, 16, 16, False, False, 1, 1),
    (3, 64, 24, False, False, 2, 1),
    (3, 72, 24, False, False, 1, 1),
    (5, 72, 40, True, False, 2, 1),
    (5, 120, 40, True, False, 1, 1),
    (5, 120, 40, True, False, 1, 1),
    (3, 240, 80, False, True, 2, 1),
    (3, 200, 80, False, True, 1, 1),
    (3, 184, 80, False, True, 1, 1),
    (3, 184, 80, False, True, 1, 1),
    (3, 480, 112, True, True, 1, 1),
    (3, 672, 112, True, True, 1, 1),
    (5, 672, 160, True, True, 1, 2),
    (5, 960, 160, True, True, 1, 2),
    (5, 960, 160, True, True, 1, 2),
)
V3_OUTPUTS = 960
STRIDE = 16


class InvertedResidual(nn.Module):
    """MobileNet v2: expand, depthwise, project; a residual where the shape stays."""

    def __init__(
        self, inputs: int, outputs: int, expansion: int, stride: int, dilation: int
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6()]
        self.conv = nn.Sequential(
            *(expand if expansion != 1 else ()),
            _depthwise(hidden, 3, stride, dilation),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNet v2 without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 32
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, inputs, 3, 2, 1, bias=False), nn.BatchNorm2d(inputs), nn.ReLU6()
        )
        for i, (expansion, channels, blocks, stride, dilation) in enumerate(V2_STAGES):
            stage = nn.Sequential()
            for j in range(blocks):
                step = (stride, dilation) if j == 0 else (1, 1)
                stage.append(InvertedResidual(inputs, channels, expansion, *step))
                inputs = channels
            self.add_module(f"layer{i + 1}", stage)
        self.channels = [inputs]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> [(N, 320, H / 16, W / 16)]."""
        x = self.conv1(x)
        for i in range(len(V2_STAGES)):
            x = getattr(self, f"layer{i + 1}")(x)
        return [x]


class SqueezeExcitation(nn.Module):
    """Weighs every channel by what the means of all channels say."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _divisible_by_8(channels // 4)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        weights = self.fc2(self.fc1(self.avgpool(x)).relu()).sigmoid()
        return x * weights


class InvertedResidualV3(nn.Module):
    """MobileNet v3: expand, depthwise, squeeze and excite, project."""

    def __init__(
        self,
        inputs: int,
        kernel: int,
        hidden: int,
        outputs: int,
        squeezes: bool,
        hard_swish: bool,
        stride: int,
        dilation: int,
    ) -> None:
        super().__init__()
        act = nn.Hardswish if hard_swish else nn.ReLU6
        self.expand_conv = nn.Sequential()
        if inputs != hidden:
            self.expand_conv.extend(
                [nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), act()]
            )
        self.depthwise_conv = nn.Sequential(
            _depthwise(hidden, kernel, stride, dilation), nn.BatchNorm2d(hidden), act()
        )
        self.se = SqueezeExcitation(hidden) if squeezes else nn.Identity()
        self.linear_conv = nn.Sequential(
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = self.linear_conv(self.se(self.depthwise_conv(self.expand_conv(x))))
        return x + y if self.residual else y


class MobileNetV3Large(nn.Module):
    """MobileNet v3-large with its last 1x1 convolution, without its classifier."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 16
        self.layer0 = _hard_swish_conv(3, inputs, 3, 2)
        for i, (kernel, hidden, outputs, squeezes, swish, stride, dilation) in enumerate(V3_BLOCKS):
            block = InvertedResidualV3(
                inputs, kernel, hidden, outputs, squeezes, swish, stride, dilation
            )
            self.add_module(f"layer{i + 1}", block)
            inputs = outputs
        self.add_module(f"layer{len(V3_BLOCKS) + 1}", _hard_swish_conv(inputs, V3_OUTPUTS, 1, 1))
        self.channels = [V3_OUTPUTS]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) -> [(N, 960, H / 16, W / 16)]."""
        for i in range(len(V3_BLOCKS) + 2):
            x = getattr(self, f"layer{i}")(x)
        return [x]


def _depthwise(channels: int, kernel: int, stride: int, dilation: int) -> nn.Conv2d:
    padding = kernel // 2 * dilation
    return nn.Conv2d(
        channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
    )


def _hard_swish_conv(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.Hardswish())


def _divisible_by_8(channels: int) -> int:
    """The nearest multiple of 8, but not more than a tenth less."""
    rounded = max(8, (channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
