"""Models with random weights under which what is special to their family shows."""

from __future__ import annotations

import torch
from exported import fill_randomly
from torch import nn

from trt_lane.model import LaneModel


def filled(model: LaneModel) -> nn.Module:
    """The network in eval mode."""
    return _FILLED.get(model.family, fill_randomly)(model.build())


def _with_its_priors(module: nn.Module) -> nn.Module:
    """Random weights, but the priors as built and small corrections.

    The x of a line nearly level is the quotient of two errors; a trained network has none such.
    """
    as_built = {k: v.clone() for k, v in module.state_dict().items() if "heads.prior" in k}
    fill_randomly(module).load_state_dict(as_built, strict=False)
    with torch.no_grad():
        module.heads.reg_layers.weight.mul_(0.02)
        module.heads.reg_layers.bias.mul_(0.02)
    return module


def _with_wide_offsets(module: nn.Module) -> nn.Module:
    """Random weights with offsets that leave the map."""
    torch.nn.init.normal_(fill_randomly(module).neck.def_convs[0].reppoints_pts_init_out.bias, 0, 2)
    return module


def _with_attention(module: nn.Module) -> nn.Module:
    """Random weights; a gamma of 0, as built, would hide the attention."""
    fill_randomly(module)
    for attention in (module.encoder.sa, module.encoder.sc):
        attention.gamma.data.fill_(0.5)
    return module


_FILLED = {"clrnet": _with_its_priors, "ganet": _with_wide_offsets, "twinlitenet": _with_attention}
