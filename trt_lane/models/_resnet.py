"""ResNet-18/34/50/101 trunks with torchvision's state-dict keys, shared by the model families."""

from __future__ import annotations

from torch import Tensor, nn

STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a residual; only the first dilates (mmdet, pytorch-auto-drive)."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, dilation, dilation, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=False)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(y + identity)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and a residual; the stride sits on the 3x3 (torchvision)."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=False)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, 4 * width, H / stride, W / stride)."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        identity = x if self.downsample is None else self.downsample(x)
        return self.relu(y + identity)


class ResNetTrunk(nn.Module):
    """Stem and residual stages without the classifier.

    Args:
        depth: 18, 34, 50 or 101.
        width: channels of the first stage; 64 in the official networks.
        strides: stride of each stage; its length is the number of stages.
        dilations: dilation of each stage. As in torchvision's replace_stride_with_dilation, the
            first block of a stage has the dilation of the stage before it.
        blocks: number of blocks of each stage where it is not the depth's.
    """

    def __init__(
        self,
        depth: int,
        width: int = 64,
        strides: tuple[int, ...] = (1, 2, 2, 2),
        dilations: tuple[int, ...] = (1, 1, 1, 1),
        blocks: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        counts = blocks or STAGES[depth]
        block = Bottleneck if depth >= 50 else BasicBlock
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=False)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels, dilation_before = width, 1
        self.channels: list[int] = []  # of each stage's output
        for i, (stride, dilation) in enumerate(zip(strides, dilations, strict=True)):
            stage = []
            for j in range(counts[i]):
                first = j == 0
                stage.append(
                    block(
                        channels,
                        width << i,
                        stride if first else 1,
                        dilation_before if first else dilation,
                    )
                )
                channels = (width << i) * block.expansion
            dilation_before = dilation
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
            self.channels.append(channels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Outputs of all stages, finest first."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for i in range(len(self.channels)):
            x = getattr(self, f"layer{i + 1}")(x)
            features.append(x)
        return features


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
