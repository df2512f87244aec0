"""pytorch-auto-drive 137e63a: its configurations and files, and the variants they are here."""

import pytest

from trt_lane.model import get_model
from trt_lane.models import bezierlanenet, erfnet, resa, scnn

# configs/lane_detection: the file that tools/shells names as trained with it ("Trained weights:"),
# None where no shell names one.
CONFIGURATIONS = {
    "baseline/erfnet_culane": "erfnet_baseline_culane_20210204.pt",
    "baseline/erfnet_llamas": "erfnet_baseline_llamas_20210625.pt",
    "baseline/erfnet_tusimple": "erfnet_baseline_tusimple_20210424.pt",
    "baseline/erfnet_tusimple_aug": "erfnet_baseline_tusimple-aug_20210723.pt",
    "bezierlanenet/resnet18_culane_aug1b": "resnet18_bezierlanenet_culane-aug1b_20211109.pt",
    "bezierlanenet/resnet18_llamas_aug1b": "resnet18_bezierlanenet_llamas-aug1b_20211109.pt",
    "bezierlanenet/resnet18_tusimple_aug1b": "resnet18_bezierlanenet_tusimple-aug1b_20211109.pt",
    "bezierlanenet/resnet34_culane_aug1b": "resnet34_bezierlanenet_culane-aug1b_20211109.pt",
    "bezierlanenet/resnet34_llamas_aug1b": "resnet34_bezierlanenet_llamas-aug1b_20211109.pt",
    "bezierlanenet/resnet34_tusimple_aug1b": "resnet34_bezierlanenet_tusimple-aug1b_20211109.pt",
    "resa/erfnet_culane": None,
    "resa/erfnet_tusimple": None,
    "resa/mobilenetv2_culane": "mobilenetv2_resa_culane_20220209.pt",
    "resa/mobilenetv2_tusimple": "mobilenetv2_resa_tusimple_20220209.pt",
    "resa/mobilenetv3_large_culane": "mobilenetv3-large_resa_culane_20220209.pt",
    "resa/mobilenetv3_large_tusimple": "mobilenetv3-large_resa_tusimple_20220209.pt",
    "resa/resnet101_culane": "resnet101_resa_culane_20211016.pt",
    "resa/resnet101_tusimple": "resnet101_resa_tusimple_20211019.pt",
    "resa/resnet18_culane": "resnet18_resa_culane_20211016.pt",
    "resa/resnet18_tusimple": "resnet18_resa_tusimple_20211019.pt",
    "resa/resnet34_culane": "resnet34_resa_culane_20211016.pt",
    "resa/resnet34_tusimple": "resnet34_resa_tusimple_20211019.pt",
    "resa/resnet50_culane": "resnet50_resa_culane_20211016.pt",
    "resa/resnet50_tusimple": "resnet50_resa_tusimple_20211019.pt",
    "scnn/erfnet_culane": "erfnet_scnn_culane_20210206.pt",
    "scnn/erfnet_llamas": "erfnet_scnn_llamas_20210625.pt",
    "scnn/erfnet_tusimple": "erfnet_scnn_tusimple_20210202.pt",
    "scnn/erfnet_tusimple_aug": "erfnet_scnn_tusimple-aug_20210723.pt",
    "scnn/mobilenetv2_culane": None,
    "scnn/mobilenetv2_tusimple": None,
    "scnn/repvgg_a1_culane": "repvgg-a1_scnn_culane_20220112.pt",
    "scnn/resnet101_culane": "resnet101_scnn_culane_20210314.pt",
    "scnn/resnet101_tusimple": "resnet101_scnn_tusimple_20210218.pt",
    "scnn/resnet18_culane": "resnet18_scnn_culane_20210222.pt",
    "scnn/resnet18_tusimple": "resnet18_scnn_tusimple_20210424.pt",
    "scnn/resnet34_culane": "resnet34_scnn_culane_20210220.pt",
    "scnn/resnet34_llamas": "resnet34_scnn_llamas_20210625.pt",
    "scnn/resnet34_tusimple": "resnet34_scnn_tusimple_20210424.pt",
    "scnn/resnet34_tusimple_aug": "resnet34_scnn-aug_tusimple_20210723.pt",
    "scnn/resnet50_culane": "resnet50_scnn_culane_20210311.pt",
    "scnn/resnet50_tusimple": "resnet50_scnn_tusimple_20210217.pt",
    "scnn/vgg16_culane": "vgg16_scnn_culane_20210309.pt",
    "scnn/vgg16_llamas": "vgg16_scnn_llamas_20210625.pt",
    "scnn/vgg16_tusimple": "vgg16_scnn_tusimple_20210224.pt",
}
# They name a backbone that is not registered (MobileNetV2 for MobileNetV2Encoder), and TuSimple's
# has no classifier: the official code makes no network of them, and there is no score.
UNBUILDABLE = {"scnn/mobilenetv2_culane", "scnn/mobilenetv2_tusimple"}
# Of the family `baseline` only ERFNet's have a name of their own; the other backbones have no
# family here, as docs/checkpoints.md says.
FAMILIES = {"baseline": erfnet, "bezierlanenet": bezierlanenet, "resa": resa, "scnn": scnn}


def variant(configuration):
    """Another augmentation of the same network (-aug) is not another variant."""
    folder, _, stem = configuration.partition("/")
    stem = stem.removesuffix("_aug1b").removesuffix("_aug")
    stem = stem.replace("resnet", "r").replace("mobilenetv3_large", "mobilenetv3")
    return f"erfnet.{stem.removeprefix('erfnet_')}" if folder == "baseline" else f"{folder}.{stem}"


@pytest.mark.parametrize("folder", FAMILIES)
def test_every_official_configuration_is_there(folder):
    official = {
        variant(name) for name in CONFIGURATIONS.keys() - UNBUILDABLE if name.startswith(folder)
    }
    models = FAMILIES[folder].MODELS
    assert {model.name for model in models if not model.demo} == official


def test_files_are_those_that_the_official_shells_name():
    for name in CONFIGURATIONS.keys() - UNBUILDABLE:
        found, named = get_model(variant(name)).origin.checkpoint, CONFIGURATIONS[name]
        if named is None:  # the model zoo links a file, and does not say what it is called
            assert found == "RESA ERFNet in docs/MODEL_ZOO.md"
        elif not name.endswith("_aug"):
            assert found == named
