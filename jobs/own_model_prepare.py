"""Prepares what jobs/own_model.yaml starts from, once: a whole classifier, saved with Keras.

    python jobs/own_model_prepare.py --out build/own_model

OUT/classifier/mobilenet_v2.keras   MobileNetV2 with its 1,000 classes of ImageNet, as `model.save`
                                    writes it

It stands for the model that you have trained yourself.  Its pictures are those of the quickstart.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from quickstart_parts.downloads import Unusable
from quickstart_parts.making import Part, make_missing

# Raised when the recipe below makes something else than before; older results are then remade.
RECIPE = "1"
CLASSES = 1000


def make_classifier(downloads: Path, folder: Path) -> None:
    """Saves backbone and classes as one model in ``folder``."""
    import tf_keras
    from quickstart_parts import mobilenet

    named = mobilenet.torch_weights(downloads)
    features = mobilenet.build()
    mobilenet.set_torch_weights(features, named)
    last = tf_keras.layers.Dense(CLASSES, "softmax", name="classes")
    model = tf_keras.Model(features.input, last(features.output), name="classifier")
    last.set_weights([named["classifier.1.weight"].T, named["classifier.1.bias"]])
    file = folder / "mobilenet_v2.keras"
    model.save(str(file))
    file.chmod(0o644)  # a model can hold code: only you may change it


PARTS: tuple[Part, ...] = ((("classifier",), make_classifier),)


def main() -> int:
    """Reads the command line; 0 when everything is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/own_model"))
    parser.add_argument("--downloads", type=Path, default=Path("build/downloads"))
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        made = make_missing(args.out, args.downloads, PARTS, RECIPE, "own model")
    except Unusable as error:
        print(f"own model: {error}", file=sys.stderr)
        return 4
    print(f"own model: {args.out} is {'ready' if made else 'already prepared'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
