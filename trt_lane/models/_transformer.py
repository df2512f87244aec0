"""A DETR transformer of a fixed size, written as linear layers, matmul and softmax.

Post-norm as in facebookresearch/detr, with nn.MultiheadAttention's state-dict keys (in_proj_weight,
in_proj_bias, out_proj). Token counts come from the constructor and no padding is masked, so that
every shape but the batch is static. Dropout is left out: these networks are not trained here.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head attention with packed projections; each is a linear layer on a slice of them.

    Args:
        width: channels of queries, keys and values.
        heads: number of heads; divides the width.
        queries, keys: token counts.
    """

    def __init__(self, width: int, heads: int, queries: int, keys: int) -> None:
        super().__init__()
        self.width, self.heads, self.queries, self.keys = width, heads, queries, keys
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(N, Q, C), (N, K, C), (N, K, C) -> (N, Q, C); a batch of 1 is broadcast."""
        size = self.width
        q = F.linear(query, self.in_proj_weight[:size], self.in_proj_bias[:size])
        k = F.linear(key, self.in_proj_weight[size : 2 * size], self.in_proj_bias[size : 2 * size])
        v = F.linear(value, self.in_proj_weight[2 * size :], self.in_proj_bias[2 * size :])
        depth = size // self.heads
        q = (q * depth**-0.5).reshape(-1, self.queries, self.heads, depth).permute(0, 2, 1, 3)
        k = k.reshape(-1, self.keys, self.heads, depth).permute(0, 2, 3, 1)
        v = v.reshape(-1, self.keys, self.heads, depth).permute(0, 2, 1, 3)
        weights = torch.softmax(torch.matmul(q, k), dim=-1)  # (N, heads, Q, K)
        mixed = torch.matmul(weights, v).permute(0, 2, 1, 3).reshape(-1, self.queries, size)
        return self.out_proj(mixed)

    def of_zeros(self) -> Tensor:
        """What attention gives when all values are zero tokens: (1, 1, C), whatever the queries.

        Each value is then the projection's bias, and attention weights sum to one.
        """
        return self.out_proj(self.in_proj_bias[2 * self.width :].reshape(1, 1, self.width))


class EncoderLayer(nn.Module):
    """Self-attention over the image's tokens and a two-layer perceptron."""

    def __init__(self, width: int, heads: int, hidden: int, tokens: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, tokens, tokens)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(N, T, C), (1, T, C) -> (N, T, C)."""
        placed = x + position
        x = self.norm1(x + self.self_attn(placed, placed, x))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))


class DecoderLayer(nn.Module):
    """Attention among the queries, attention to the image, and a two-layer perceptron."""

    def __init__(self, width: int, heads: int, hidden: int, queries: int, tokens: int) -> None:
        super().__init__()
        self.self_attn = Attention(width, heads, queries, queries)
        self.multihead_attn = Attention(width, heads, queries, tokens)
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)

    def forward(self, x: Tensor | None, query: Tensor, memory: Tensor, placed: Tensor) -> Tensor:
        """State (N, Q, C), None for the zeros that a decoder starts from -> (N, Q, C).

        Args:
            x: the state of the queries.
            query: (1, Q, C) learned query positions.
            memory: (N, T, C) the encoder's output.
            placed: the same with positions added.
        """
        if x is None:
            # Official code attends to zeros here. Its result is constant, and a tensor of zeros
            # has no range that could be quantised.
            x = self.norm1(self.self_attn.of_zeros())
        else:
            asked = x + query
            x = self.norm1(x + self.self_attn(asked, asked, x))
        x = self.norm2(x + self.multihead_attn(x + query, placed, memory))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, layers: int, width: int, heads: int, hidden: int, tokens: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(width, heads, hidden, tokens) for _ in range(layers)
        )

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(N, T, C), (1, T, C) -> (N, T, C)."""
        for layer in self.layers:
            x = layer(x, position)
        return x


class Decoder(nn.Module):
    """A stack of decoder layers and a norm; only the last layer's output is given."""

    def __init__(
        self, layers: int, width: int, heads: int, hidden: int, queries: int, tokens: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(width, heads, hidden, queries, tokens) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, memory: Tensor, position: Tensor) -> Tensor:
        """(1, Q, C), (N, T, C), (1, T, C) -> (N, Q, C)."""
        placed = memory + position
        x = None
        for layer in self.layers:
            x = layer(x, query, memory, placed)
        return self.norm(x)


class Transformer(nn.Module):
    """Encoder and decoder; image tokens and learned queries in, decoded queries out."""

    def __init__(
        self, layers: int, width: int, heads: int, hidden: int, queries: int, tokens: int
    ) -> None:
        super().__init__()
        self.encoder = Encoder(layers, width, heads, hidden, tokens)
        self.decoder = Decoder(layers, width, heads, hidden, queries, tokens)

    def forward(self, x: Tensor, query: Tensor, position: Tensor) -> Tensor:
        """(N, T, C), (1, Q, C), (1, T, C) -> (N, Q, C)."""
        return self.decoder(query, self.encoder(x, position), position)


def sine_position(height: int, width: int, channels: int) -> Tensor:
    """DETR's normalised sine encoding of an unpadded map: (1, height * width, channels).

    The first half of the channels encodes y, the second x; sine and cosine alternate.
    """
    half = channels // 2
    index = torch.arange(half, dtype=torch.float32)
    period = 10000 ** (2 * torch.div(index, 2, rounding_mode="floor") / half)

    def encode(length: int) -> Tensor:
        place = torch.arange(1, length + 1, dtype=torch.float32)
        angle = (place / (length + 1e-6) * (2 * math.pi))[:, None] / period  # (length, half)
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1)

    y = encode(height)[:, None].expand(-1, width, -1)
    x = encode(width)[None].expand(height, -1, -1)
    return torch.cat((y, x), dim=2).reshape(1, height * width, channels)
