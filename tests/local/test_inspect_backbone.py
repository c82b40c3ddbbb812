"""``harness inspect BACKBONE``: what it takes and gives, what can be trained, what it costs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.local.training_helpers import call


def facts(*arguments: str) -> dict:
    code, out, err = call("inspect", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def test_an_application_of_keras() -> None:
    """The figures are those of the paper (Sandler et al., 2018): 0.3 billion multiply-adds at
    224 px, and of keras.io: 2.26 million parameters without the top."""
    found = facts("keras:MobileNetV2", "-o", "backbone.weights=random")
    assert found["takes"] == ["float32 [batch, any, any, 3]"]
    assert found["gives"] == "float32 [batch, 1280]"
    assert found["pixels"] == "symmetric"
    assert found["parameters"] == 2_257_984
    assert found["trainable_parameters"] == 2_223_872
    assert (found["variables"], found["trainable_variables"]) == (260, 156)
    assert found["flops"] == pytest.approx(0.6e9, rel=0.05)
    assert found["digest"] is None
    names = [block["name"] for block in found["blocks"]]
    assert names[0] == "Conv1"
    assert names[-2:] == ["block_16", "Conv_1"]
    assert sum(block["parameters"] for block in found["blocks"]) == found["parameters"]


def test_a_module_as_text(quickstart: Path) -> None:
    folder = quickstart / "backbone" / "mobilenet_v2"
    # What TensorFlow says on its import is kept from the user, also that of the first devices.
    code, out, err = call("inspect", str(folder), "--image-size", "96", cold=True)
    assert code == 0, err
    assert "takes       float32 [batch, any, any, 3]; tried on float32 [96, 96, 3]" in out
    assert "2,223,872 of 2,257,984 can be trained" in out
    assert re.search(r"last:1 +19%  last +412,160 in 5 variables", out)
    assert re.search(r"last:19 +100%  stem ", out)
    assert err == ""


def test_what_unfreeze_counts_is_what_is_listed(quickstart: Path, tmp_path: Path) -> None:
    """Of a module without anything to train nothing is listed; of a text module no size asked."""
    found = facts(str(quickstart / "backbone" / "mobilenet_v2"))
    listed = [block["name"] for block in found["blocks"] if block["trainable"]]
    code, _, err = call(
        "run",
        "jobs/quickstart.yaml",
        "--run-dir",
        str(tmp_path / "run"),
        "-o",
        "training.phases.0.unfreeze=last:99",
    )
    assert code == 2
    assert f"the backbone has {len(listed)} blocks" in err


def test_that_of_a_spec(tiny_text_backbone: Path, tmp_path: Path) -> None:
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "harness_spec: 1\nname: t\ntask: text_classification\ndata: {train: t.csv}\n"
        f"backbone: {{handle: 'hub:{tiny_text_backbone}'}}\n"
    )
    found = facts(str(spec), "--backbone")
    assert found["takes"] == ["string [batch]"]
    assert found["flops"] is None
    assert found["blocks"] == [
        {"name": "table", "parameters": 8192, "trainable": 8192, "variables": 1}
    ]


def test_one_input_of_a_signature(tiny_text_backbone: Path) -> None:
    chosen = ["backbone.signature=both", "backbone.output=pooled_output"]
    options = [part for one in chosen for part in ("-o", one)]
    found = facts(f"hub:{tiny_text_backbone}", *options)
    assert found["takes"] == ["texts string [batch]"]
    assert found["gives"] == "float32 [batch, 16]"
    assert (found["parameters"], found["trainable_parameters"]) == (8192, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["keras:Nonsense"], 2, "is not a Keras application"),
        (["hub:/nowhere"], 4, "the backbone folder does not exist"),
        (["keras:VGG16", "--sample", "3"], 2, "--sample is of data"),
        (["jobs", "--backbone"], 2, "--backbone and --image-size are of a backbone"),
        (
            ["keras:VGG16", "-o", "backbone.weights=random", "--image-size", "16"],
            4,
            "does not take",
        ),
    ],
)
def test_what_cannot_be_inspected(arguments: list[str], code: int, words: str) -> None:
    found, _, err = call("inspect", *arguments)
    assert found == code, err
    assert words in err
    assert "Traceback" not in err
