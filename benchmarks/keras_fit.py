"""What a person writes without the harness: a frozen Hub module under ``Model.fit``.

    python keras_fit.py MODULE TRAIN TEST EPOCHS SEED

Prints the test accuracy.
"""

from __future__ import annotations

import os
import sys

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

SIDE, BATCH = 224, 32


def main(module: str, train: str, test: str, epochs: int, seed: int) -> None:
    """Trains the head and prints its accuracy on the test set."""
    tf_keras.utils.set_random_seed(seed)
    read = tf_keras.utils.image_dataset_from_directory
    asked = {"image_size": (SIDE, SIDE), "batch_size": BATCH, "seed": seed}
    split = {"validation_split": 0.1, **asked}
    training, validation, testing = (
        data.prefetch(tf.data.AUTOTUNE)
        for data in (
            read(train, subset="training", **split),
            read(train, subset="validation", **split),
            read(test, shuffle=False, **asked),
        )
    )
    classes = len(read(train, **asked).class_names)
    model = tf_keras.Sequential(
        [
            tf_keras.layers.Rescaling(1 / 255, input_shape=(SIDE, SIDE, 3)),
            hub.KerasLayer(module, trainable=False),
            tf_keras.layers.Dropout(0.2),
            tf_keras.layers.Dense(classes),
        ]
    )
    model.compile(
        tf_keras.optimizers.Adam(1e-3),
        tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(training, validation_data=validation, epochs=epochs, verbose=0)
    print(model.evaluate(testing, verbose=0)[1])


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
