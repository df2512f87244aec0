"""A sensitivity report in words, as a table and as plain numbers."""

from __future__ import annotations

import textwrap

import numpy as np

from calibrators.sensitivity.heads import HeadSensitivity
from calibrators.sensitivity.layers import PartSensitivity
from calibrators.sensitivity.macs import share_of
from calibrators.sensitivity.measure import Sensitivity
from calibrators.sensitivity.variants import FLOAT, FULL
from trt_lane.metrics.lane_distortion import tau_px

SCHEMA = 1
# What nobody would call lost: the targets of the project's accuracy budget.
HARMLESS_AGREEMENT, HARMLESS_POINTS = 0.98, 0.3
SHOWN = 12


def explain(found: Sensitivity) -> list[str]:
    """Why INT8 lost the lanes (or that it did not), in a few sentences."""
    if not any(map(len, (*found.lanes[FLOAT], *found.lanes[FULL]))):
        return [
            f"{found.model.name} finds no lane on these {len(found.frames)} frames, neither in "
            "float nor in INT8, so nothing below says what INT8 costs: check the checkpoint, and "
            "give frames with lanes."
        ]
    full = found.outcome[FULL]
    tau = tau_px(found.model.image.frame_hw)
    cost = f"{full.distortion_px:.2f} px (Lane Distortion Score; a lost lane counts {tau:.0f} px)"
    lines = [
        f"{found.recipe} {'keeps' if _is_harmless(found) else 'bends'} the lanes "
        f"of {found.model.name}: they move by {cost}{_score_change(found)}; agreement F1 with "
        f"float {full.agreement_f1:.4f}."
    ]
    worst = found.heads[0]
    total = sum(head.distortion_px for head in found.heads)
    if total > 0:
        lines.append(_head_sentence(found, worst))
        lines.append(_cause_sentence(found, worst))
    if found.layers and found.layers[0].distortion_px > 0:
        lines.append(_layer_sentence(found, found.layers[0]))
    if worst.noise is not None:
        lines.append(_noise_sentence(worst))
    return lines


def text(found: Sensitivity) -> str:
    """The report for people: the sentences, then tables, at most 100 columns."""
    lines = [*_wrapped(explain(found)), ""]
    lines += _head_table(found)
    lines += ["", f"blocks, worst first, on {found.part_frames} frames"]
    lines += _part_table(found.blocks, found)
    lines += ["", f"layers, worst first, on {found.part_frames} frames"]
    lines += _part_table(found.layers, found)
    if found.unmeasured:
        lines += _wrapped([_unmeasured_sentence(found)], "  ")
    lines += ["", "frames, worst first"]
    distortions = found.outcome[FULL].comparison.distortions_px
    for i in np.argsort(distortions)[::-1][:5]:
        lines.append(f"  {distortions[i]:8.2f} px  {found.frames.labels[i].name}")
    return "\n".join(lines)


def to_dict(found: Sensitivity) -> dict:
    """Every number, for JSON."""
    full, reference = found.outcome[FULL], found.outcome[FLOAT]
    distortions = full.comparison.distortions_px
    return {
        "schema": SCHEMA,
        "model": found.model.name,
        "recipe": found.recipe,
        "data": found.frames.dataset.spec,
        "frames": {
            "lanes": len(found.frames),
            "heads": found.head_frames,
            "blocks_and_layers": found.part_frames,
        },
        "explanation": explain(found),
        "distortion_px": full.distortion_px,
        "whole_distortion_px": found.whole_px,
        "agreement_f1": full.agreement_f1,
        "score": {
            "float": reference.score.to_dict() if reference.score else None,
            "int8": full.score.to_dict() if full.score else None,
        },
        "heads": [_head_dict(head) for head in found.heads],
        "blocks": [_part_dict(part, found) for part in found.blocks],
        "layers": [_part_dict(part, found) for part in found.layers],
        "layers_not_measured": found.unmeasured,
        "worst_frames": [
            {"name": found.frames.labels[i].name, "distortion_px": distortions[i]}
            for i in np.argsort(distortions)[::-1]
        ],
    }


def _is_harmless(found: Sensitivity) -> bool:
    before, after = found.outcome[FLOAT].score, found.outcome[FULL].score
    loss = 0.0 if before is None or after is None else 100 * (before.value - after.value)
    return found.outcome[FULL].agreement_f1 >= HARMLESS_AGREEMENT and loss <= HARMLESS_POINTS


def _score_change(found: Sensitivity) -> str:
    before, after = found.outcome[FLOAT].score, found.outcome[FULL].score
    if before is None or after is None:
        return ""
    name = "F1" if before.value_name == "f1" else before.value_name
    return f", {name} {before.value:.4f} -> {after.value:.4f}"


def _head_sentence(found: Sensitivity, worst: HeadSensitivity) -> str:
    if len(found.heads) == 1:
        return f"There is one head, {worst.name} ({worst.semantics})."
    verb = "moves them most" if _is_harmless(found) else "bends them"
    others = ", ".join(f"{head.name} {head.distortion_px:.2f}" for head in found.heads[1:])
    return (
        f"Head {worst.name} ({worst.semantics}) {verb}: {worst.distortion_px:.2f} px when it "
        f"alone is the quantised one, of {found.whole_px:.2f} px in all; {others} px."
    )


def _cause_sentence(found: Sensitivity, worst: HeadSensitivity) -> str:
    own = worst.own_distortion_px
    block = found.blocks[0]
    if worst.own_layers and own >= 0.5 * worst.distortion_px:
        share = 100 * share_of(worst.own_layers, dict(found.macs))
        return (
            f"The cause is in its own layers ({_abridged(worst.own_layers)}; {share:.2g} % of the "
            f"MACs): quantised alone they give {own:.2f} px."
        )
    before = f" (its own layers alone: {own:.2f} px)" if worst.own_layers else ""
    return (
        f"The cause is mostly before the head{before}: the worst block is {block.name}, "
        f"{block.distortion_px:.2f} px alone."
    )


def _layer_sentence(found: Sensitivity, layer: PartSensitivity) -> str:
    share = 100 * share_of(layer.layers, dict(found.macs))
    rest = ""
    if layer.rest_distortion_px is not None:
        rest = f", {layer.rest_distortion_px:.2f} px with everything but it"
    title = "Worst layer of those measured" if found.unmeasured else "Worst layer"
    advice = f"make engine MODEL={found.model.name} BUDGET=0.3 keeps what is needed in FP16"
    return (
        f"{title} {layer.name} ({share:.2g} % of the MACs): {layer.distortion_px:.2f} px when it "
        f"alone is INT8{rest}; {advice}."
    )


def _noise_sentence(head: HeadSensitivity) -> str:
    front, back = np.mean(head.noise.foreground_px), np.mean(head.noise.background_px)
    if max(front, back) == 0:
        return f"Noise in {head.name}, even {head.noise.factor:g} times its error, moves no lane."
    return (
        f"Noise of one energy in {head.name} moves the lanes by {front:.2f} px on lane places "
        f"({100 * head.noise.foreground_share:.1f} % of the head) and by {back:.2f} px elsewhere."
    )


def _unmeasured_sentence(found: Sensitivity) -> str:
    """Whose layers were not measured one by one, and how much these blocks bend the lanes."""
    measured = {path for layer in found.layers for path in layer.layers}
    left_out = [block for block in found.blocks if not measured.issuperset(block.layers)]
    worst = left_out[0]  # blocks come worst first
    names = ", ".join(block.name for block in left_out)
    return (
        f"{found.unmeasured} layers not measured one by one, of: {names}. The worst of these, "
        f"{worst.name}, gives {worst.distortion_px:.2f} px alone. All layers: --all-layers (make "
        "sensitivity SENSITIVITY_OPTIONS=--all-layers)"
    )


def _head_table(found: Sensitivity) -> list[str]:
    lines = [
        f"heads, worst first, on {found.head_frames} frames (LDS in px)",
        f"  {'':<18}{'alone':>9}{'own layers':>12}{'error':>10}{'foreground':>12}"
        f"{'background':>12}   S(.25) S(.5) S(1) S(2)",
    ]
    for head in found.heads:
        front = back = "—"
        if head.noise is not None:
            front = f"{np.mean(head.noise.foreground_px):.2f}"
            back = f"{np.mean(head.noise.background_px):.2f}"
        own = f"{head.own_distortion_px:.2f}" if head.own_layers else "none"
        curve = " ".join(f"{d:.2f}" for d in head.curve.distortion_px[1:])
        lines.append(
            f"  {head.name:<18}{head.distortion_px:>9.2f}{own:>12}{head.error:>10.1e}{front:>12}"
            f"{back:>12}   {curve}"
        )
    return lines


def _part_table(parts: tuple[PartSensitivity, ...], found: Sensitivity) -> list[str]:
    lines = [f"  {'':<42}{'alone':>8}{'all but it':>12}{'MACs':>11}   error of heads"]
    for part in parts[:SHOWN]:
        rest = "—" if part.rest_distortion_px is None else f"{part.rest_distortion_px:.2f}"
        errors = " ".join(f"{e:.0e}" for e in part.head_errors.values())
        share = 100 * share_of(part.layers, dict(found.macs))
        name = part.name if len(part.name) <= 40 else f"…{part.name[-39:]}"
        lines.append(f"  {name:<42}{part.distortion_px:>8.2f}{rest:>12}{share:>9.2g} %   {errors}")
    if len(parts) > SHOWN:
        lines.append(f"  … and {len(parts) - SHOWN} more in report.json")
    return lines


def _head_dict(head: HeadSensitivity) -> dict:
    noise = head.noise
    return {
        "name": head.name,
        "semantics": head.semantics,
        "error": head.error,
        "distortion_px": head.distortion_px,
        "own_layers": list(head.own_layers),
        "own_layers_distortion_px": head.own_distortion_px,
        "curve": {
            "shares": list(head.curve.shares),
            "distortion_px": list(head.curve.distortion_px),
        },
        "noise": None
        if noise is None
        else {
            "factor": noise.factor,
            "foreground_px": list(noise.foreground_px),
            "background_px": list(noise.background_px),
            "foreground_share": noise.foreground_share,
            "frames": noise.frames,
        },
    }


def _part_dict(part: PartSensitivity, found: Sensitivity) -> dict:
    return {
        "name": part.name,
        "layers": list(part.layers),
        "macs": part.macs,
        "macs_share": share_of(part.layers, dict(found.macs)),
        "head_errors": part.head_errors,
        "distortion_px": part.distortion_px,
        "all_but_it_distortion_px": part.rest_distortion_px,
    }


def _abridged(names: tuple[str, ...]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{names[0]}, … {names[-1]}, {len(names)} in all"


def _wrapped(sentences: list[str], indent: str = "") -> list[str]:
    return [
        line
        for s in sentences
        for line in textwrap.wrap(
            s, 98, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False
        )
    ]
