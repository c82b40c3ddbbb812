"""The backbone of an earlier run, with the weights that it has learned: ``run:DIR``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import tf_keras

from harness.distribute.base import Distribution
from harness.errors import SpecError, UsageError
from harness.model.assemble import stable_names
from harness.model.backbone import Backbone, Pinned
from harness.model.draws import Draws
from harness.model.head import dense_head
from harness.model.keras_apps import digest_of_weights
from harness.model.loading import check_pinned, load_source, with_norms_of
from harness.model.pixels import pixels_of
from harness.model.pooling import Pooling, pooling_after
from harness.runs.earlier import SCHEME, earlier_run, first_source, record_of, spec_of, unfit
from harness.runs.paths import RunPaths
from harness.spec import Spec, Trust
from harness.spec.keras_names import keras_name
from harness.train import state
from harness.train.keeper import averaged_tensors
from harness.worker.load import restored_weights

_OUTPUT = "head_output"


def load_earlier(
    spec: Spec,
    sizes: Sequence[int],
    pinned: Pinned | None,
    trust: Trust,
    distribution: Distribution,
    say: Callable[[str], None] = lambda text: None,
) -> Backbone:
    """The backbone of the run that ``spec`` names, with that run's best weights, frozen.

    With ``backbone.output`` it goes on up to the output of a layer of that run's head.

    Args:
        sizes: height and width in pixels of the pictures that it is to take; none of no pictures.
        pinned: digests in the record of the run that begins here, None at its first start.

    Raises:
        DataError: there is no such run, it has saved nothing, or its weights are not those pinned.
        SpecError: its head has no such layer.
    """
    paths = earlier_run(spec.backbone.handle)
    assert paths is not None, "asked for with a handle of a run"
    found = backbone_of_run(
        paths,
        spec.backbone.output,
        sizes,
        trust,
        distribution,
        say,
        norms_of=spec,
    )
    check_pinned(found.digest, spec, None if pinned is None else pinned.backbone)
    return found


def _has_own_norms(spec: Spec, layer: tf_keras.layers.Layer) -> bool:
    """Whether a layer is an application of Keras as that builds it."""
    is_application = keras_name(first_source(spec).backbone.handle) is not None
    own = tf_keras.layers.BatchNormalization
    return is_application and any(isinstance(each, own) for each in layer.submodules)


def backbone_of_run(
    paths: RunPaths,
    output: str | None,
    sizes: Sequence[int],
    trust: Trust,
    distribution: Distribution,
    say: Callable[[str], None],
    norms_of: Spec | None = None,
) -> Backbone:
    """The backbone of a run with its best weights, frozen, held against what that run pins.

    Args:
        output: the layer of its head at which it is cut; None takes the backbone alone.
        norms_of: the spec that trains it on, as whose phases want them the batch normalisations of
            an application of Keras are.

    Raises:
        DataError: see :func:`load_earlier`.
        SpecError: see :func:`load_earlier`.
    """
    spec, record = spec_of(paths), record_of(paths)
    try:
        restored, _ = restored_weights(paths, spec, record, None, say)
    except UsageError as error:
        raise unfit("the run has no checkpoint yet", paths, "wait for its first one") from error
    wanted = Pinned.of(record)
    if earlier_run(spec.backbone.handle) is not None:
        base = load_earlier(spec, sizes, wanted, trust, distribution, say)
    else:
        base = load_source(spec, sizes, wanted, trust, distribution)
    say(f"backbone: that of step {restored.step} of {paths.root}")
    if norms_of is not None and _has_own_norms(spec, base.layer):
        base = replace(base, layer=with_norms_of(norms_of, base.layer, distribution))
    layer = base.layer if output is None else _with_head(spec, base.layer, sizes, distribution)
    tensors = averaged_tensors(restored)
    named = dict(zip(stable_names(layer.weights), layer.weights, strict=True))
    there = {n: v for n, v in named.items() if state.MODEL + n in tensors}
    state.assign(there, {state.MODEL + n: tensors[state.MODEL + n] for n in there}, state.MODEL)
    if output is not None:
        layer = _cut(layer, output)
    layer.trainable = False
    is_known = not first_source(spec).backbone.handle.startswith("plugin:")
    digest = digest_of_weights(_what(spec, base, output), layer) if is_known else None
    return Backbone(SCHEME + str(paths.root), layer, digest, paths.root, pixels_of(spec, base))


def _what(spec: Spec, base: Backbone, output: str | None) -> str:
    """All that decides what is made of the weights."""
    wanted = spec.backbone
    called = [wanted.signature, wanted.output, wanted.inputs, wanted.max_length]
    source = base.digest or wanted.handle  # of random weights, that of an application of Keras
    held = [source, base.preprocessor_digest, *called, spec.head.pooling, output]
    return f"{SCHEME} {json.dumps(held)}"


def _with_head(
    spec: Spec,
    layer: tf_keras.layers.Layer,
    sizes: Sequence[int],
    distribution: Distribution,
) -> tf_keras.Model:
    """Backbone and head of a run, without its dropout, which has no weights."""
    from harness.data.content import content_of_spec
    from harness.model.backbone import input_of

    if spec.head.plugin is not None:
        raise SpecError(
            "the head of that run is a plug-in and cannot be cut",
            got=f"head.plugin: {spec.head.plugin.plugin}",
            allowed="null, which takes the backbone of the run alone",
            action="remove backbone.output",
            path="backbone.output",
        )
    takes = input_of(content_of_spec(spec).element(sizes[0] if len(sizes) == 1 else None))
    inputs = tf_keras.Input(takes.shape, dtype=takes.dtype, name=takes.name)
    features = layer(inputs)
    if (pooling := pooling_after(spec)) is not None:
        features = Pooling(pooling, name="pooling")(features)
    logits = dense_head(
        features,
        1,  # is cut away
        hidden=spec.head.hidden,
        activation=spec.head.activation,
        dropout=0.0,
        draws=Draws(spec.training.seed, distribution),
        seed=0,
        batch_norm=spec.head.batch_norm,
    )
    last = logits.node.layer
    assert last.name == _OUTPUT, "the last layer of a head has this name"
    return tf_keras.Model(inputs, last.input, name="earlier")


def _cut(model: tf_keras.Model, output: str) -> tf_keras.Model:
    backbone = model.layers[1].name
    layers = [each.name for each in model.layers[2:]]
    if output not in layers:
        raise SpecError(
            "the head of that run has no layer of this name",
            got=output,
            allowed=", ".join(layers) or "null: its head is one layer",
            action=f"name one, or leave it out, which takes {backbone} alone",
            path="backbone.output",
        )
    return tf_keras.Model(model.inputs, model.get_layer(output).output, name="earlier")
