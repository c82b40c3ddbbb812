"""What a person writes without the harness: a head, then a whole Hub module, under ``Model.fit``.

    python keras_fine_tune.py MODULE TRAIN TEST EPOCHS SEED

Trains the head for an epoch, then everything for ``EPOCHS``; prints the test accuracy.
"""

from __future__ import annotations

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

SIDE, BATCH = 96, 32


def main(module: str, train: str, test: str, epochs: int, seed: int) -> None:
    """Trains it and prints its accuracy on the test set."""
    tf_keras.utils.set_random_seed(seed)
    read = tf_keras.utils.image_dataset_from_directory
    asked = {"image_size": (SIDE, SIDE), "batch_size": BATCH, "seed": seed}
    split = {"validation_split": 0.1, **asked}
    names = read(train, **asked).class_names
    training, validation, testing = (
        data.prefetch(tf.data.AUTOTUNE)
        for data in (
            read(train, subset="training", **split),
            read(train, subset="validation", **split),
            read(test, shuffle=False, **asked),
        )
    )
    backbone = hub.KerasLayer(module, trainable=False)
    pictures = tf_keras.Input((SIDE, SIDE, 3))
    # In inference mode, as batch normalisation is best left while one fine-tunes.
    features = backbone(tf_keras.layers.Rescaling(1 / 255)(pictures), training=False)
    logits = tf_keras.layers.Dense(len(names))(tf_keras.layers.Dropout(0.2)(features))
    model = tf_keras.Model(pictures, logits)
    for count, rate, whole in ((1, 1e-3, False), (epochs, 1e-5, True)):
        backbone.trainable = whole
        model.compile(
            tf_keras.optimizers.Adam(rate),
            tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        model.fit(training, validation_data=validation, epochs=count, verbose=0)
    print(model.evaluate(testing, verbose=0)[1])


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
