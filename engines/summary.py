"""What came out of `make engine`: summary.json for machines, a short table for people."""

from __future__ import annotations

import textwrap
from pathlib import Path

from engines.layer_table import Coverage
from engines.verify import Form, Verification
from trt_lane.artifact import EngineArtifact
from trt_lane.metrics.points import points_to
from trt_lane.metrics.report import DatasetScore
from trt_lane.model import Metric

SCHEMA = 1
DATA_SETS = {
    Metric.CULANE: "CULane",
    Metric.TUSIMPLE: "TuSimple",
    Metric.CURVELANES: "CurveLanes",
    Metric.LLAMAS: "LLAMAS",
}


def summarise(
    verification: Verification,
    data: str,
    artifact: EngineArtifact,
    coverage: Coverage,
    files: dict[str, Path],
) -> dict:
    """All figures as plain numbers.

    Args:
        verification: of engines.verify.
        data: spec of the data set it was measured on.
        artifact: the engine.
        coverage: from its layer table.
        files: what lies where: "float_onnx", "int8_onnx", "picture", …
    """
    floats = verification.forms["float"].score
    return {
        "schema": SCHEMA,
        "model": artifact.model,
        "recipe": verification.card.recipe,
        "target": artifact.target,
        "builder": f"{artifact.runtime} {artifact.built_with}",
        "data": data,
        "frames": len(verification.frames),
        "forms": {name: _form(form, floats) for name, form in verification.forms.items()},
        "heads": {
            name: {"noise": noise, "drift": verification.drift[name]}
            for name, noise in verification.noise.items()
        },
        "graph_checks": [check.to_dict() for check in verification.checks],
        "passed": verification.passed,
        "budget": verification.card.plan,
        "int8_coverage": {
            "share": coverage.share,
            "int8_macs": coverage.int8_macs,
            "total_macs": coverage.total_macs,
            "quantised_share": verification.quantised_share,
            "not_int8": [[name, reason] for name, reason in coverage.not_int8],
        },
        "bytes": {k: p.stat().st_size for k, p in files.items() if p.suffix == ".onnx"}
        | {"engine": artifact.engine_path.stat().st_size},
        "files": {k: str(p) for k, p in files.items()} | {"engine": str(artifact.engine_path)},
        "digests": artifact.digests,
    }


def table(summary: dict) -> str:
    """The summary for people, at most 100 columns."""
    forms = summary["forms"]
    names = [n for n in ("float", "int8", "engine") if n in forms]
    titles = {"float": "float", "int8": "INT8 (Q/DQ graph)", "engine": "INT8 (engine)"}
    lines = [f"{summary['model']} · {summary['recipe']} · {summary['target']}"]
    lines.append(f"{summary['frames']} frames of {summary['data']}")
    lines.append("")
    lines.append(_row("", [titles[n] for n in names]))
    score = forms["float"].get("score")
    if score:
        key, label = _headline(score)
        lines += _score_rows(label, key, [forms[n] for n in names])
        if "mf1" in score:
            lines += _score_rows("mF1 (IoU .5 to .95)", "mf1", [forms[n] for n in names])
        if key == "f1":
            lines.append(_row("recall", [f"{forms[n]['score']['recall']:.4f}" for n in names]))
    lines.append(
        _row(
            "agreement F1 with float",
            ["—"] + [f"{forms[n]['agreement_f1']:.4f}" for n in names[1:]],
        )
    )
    lines.append(
        _row(
            "Lane Distortion Score, px",
            ["0"] + [f"{forms[n]['distortion_px']:.3f}" for n in names[1:]],
        )
    )
    if forms["float"]["mask_iou"] is not None:
        ious = [f"{forms[n]['mask_iou']:.4f}" for n in names[1:]]
        lines.append(_row("lane mask IoU with float", ["1", *ious]))
    if not any(form["lanes"] for form in forms.values()):
        lines += ["", "No form finds a lane on these frames: nothing above says what INT8 costs."]
        lines.append("Check the checkpoint (WEIGHTS), and give frames with lanes (DATA).")
    lines += ["", *_facts(summary)]
    return "\n".join(lines)


def _score_rows(label: str, key: str, forms: list[dict]) -> list[str]:
    """A score with what it loses, and between what bounds the loss lies."""
    values = [form["score"][key] for form in forms]
    cells = [f"{v:.4f} ({100 * (v - values[0]):+.2f})" for v in values[1:]]
    rows = [_row(label, [f"{values[0]:.4f}", *cells])]
    points = [form["points_to_float"].get(key) for form in forms[1:]]
    if any(points):
        bounds = [f"{p['low']:+.2f} … {p['high']:+.2f}" if p else "" for p in points]
        rows.append(_row("  95 % interval, points", ["", *bounds]))
    return rows


def _facts(summary: dict) -> list[str]:
    coverage, sizes, files = summary["int8_coverage"], summary["bytes"], summary["files"]
    facts = [
        f"INT8 coverage   {100 * coverage['share']:.1f} % of {coverage['total_macs'] / 1e9:.2f} G "
        "convolution and GEMM MACs",
    ]
    planned = coverage["quantised_share"]
    if planned - coverage["share"] > 5e-4:  # what the line above would round to another figure
        facts.append(
            f"                the graph quantises {100 * planned:.2f} %; this builder runs less:"
        )
    facts += [f"  not INT8      {name}: {reason}" for name, reason in coverage["not_int8"][:5]]
    hidden = len(coverage["not_int8"]) - 5
    if hidden > 0:
        facts.append(f"  not INT8      … and {hidden} more in layers.json")
    facts += _budget_facts(summary["budget"])
    facts += _check_facts(summary["graph_checks"])
    facts.append(
        f"size            float ONNX {sizes['float_onnx'] / 1e6:.1f} MB, INT8 ONNX "
        f"{sizes['int8_onnx'] / 1e6:.1f} MB, engine {sizes['engine'] / 1e6:.1f} MB"
    )
    facts.append(f"engine          {files['engine']}  ({summary['builder']})")
    facts.append(f"picture         {files['picture']}")
    return facts


def _check_facts(checks: list[dict]) -> list[str]:
    """Whether the graph is the calibrated network, and how closely."""
    faults = [fault for check in checks for fault in check["faults"]]
    if faults:
        more = f" … and {len(faults) - 3} more" if len(faults) > 3 else ""
        words = f"graph check     NOT what was calibrated: {'; '.join(faults[:3])}{more}"
        return textwrap.wrap(words, 98, subsequent_indent=" " * 16)
    facts = []
    for check in checks:
        form = "the same network" if check is checks[0] else "its typing"
        facts.append(
            f"{'graph check' if check is checks[0] else '':16}{form}: {check['tensors']} tensors "
            f"within {check['worst_levels']:.2g} of a level in {check['float_type'].upper()}"
        )
    return facts


def _budget_facts(plan: dict | None) -> list[str]:
    """What the accuracy budget keeps in float, and why."""
    if plan is None:
        return []
    layers, share = plan["float_layers"], 1 - plan["int8_macs_share"]
    kept = ", ".join(layers[:3]) + (f" … {len(layers)} layers" if len(layers) > 3 else "")
    if not layers:
        kept = "nothing"
    elif share == 1:
        kept = "everything"
    else:
        kept += f" ({100 * share:.2g} % of MACs)"
    facts = [f"budget {plan['budget_points']:g} points", *plan["reason"]]
    lines = textwrap.wrap(f"kept in float   {kept}", 98, subsequent_indent=" " * 16)
    for fact in facts:
        lines += textwrap.wrap(fact, 82, initial_indent=" " * 16, subsequent_indent=" " * 16)
    return lines


def _row(label: str, cells: list[str]) -> str:
    return f"{label:<28}" + "".join(f"{cell:>22}" for cell in cells)


def _headline(score: dict) -> tuple[str, str]:
    metric = Metric(score["metric"])
    if metric is Metric.TUSIMPLE:
        return "accuracy", f"accuracy ({DATA_SETS[metric]})"
    return "f1", f"F1 ({DATA_SETS[metric]}, IoU .5)"


def _form(form: Form, floats: DatasetScore | None) -> dict:
    score = form.score
    points = points_to(score, floats) if score and floats else {}
    return {
        "lanes": sum(map(len, form.lanes)),
        "score": score.to_dict() if score else None,
        "points_to_float": {name: found.to_dict() for name, found in points.items()},
        "agreement_f1": form.comparison.agreement.f1,
        "agreement_recall": form.comparison.agreement.recall,
        "distortion_px": form.comparison.distortion_px,
        "mask_iou": form.mask_iou,
    }
