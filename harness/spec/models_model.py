"""The part of the spec that says what is trained: task, backbone, head, adaptation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from harness.spec.base import (
    NAME_PATTERN,
    Complaint,
    IsPath,
    Many,
    Options,
    PathText,
    PluginRef,
    Sha256,
    SpecModel,
    Words,
    complain,
    show,
)
from harness.spec.handles import FILE_URL, split_handle
from harness.spec.keras_names import PIXELS, keras_name
from harness.spec.models_augment import MEDIA_WORDS

TASKS = tuple(
    f"{medium}_{kind}"
    for medium in ("image", "text", "audio")
    for kind in ("classification", "multilabel", "regression")
)
REGRESSIONS = tuple(task for task in TASKS if task.endswith("_regression"))
MULTILABEL = tuple(task for task in TASKS if task.endswith("_multilabel"))
Learned = Literal["class", "labels", "numbers"]
"""What is learned of an example: its class, several labels at once, or numbers."""
HANDLE_FORMS = (
    "https://... (TensorFlow Hub), hub:PATH, file:PATH or a path (a SavedModel, its folder or an "
    "archive of it), keras:NAME, model:PATH, run:DIR or plugin:NAME"
)
_SCHEMES = ("https", "hub", "file", "keras", "model", "run", "plugin")


def _known_task(value: str) -> str:
    if value in TASKS:
        return value
    if value.startswith("plugin:") and re.fullmatch(NAME_PATTERN, value[len("plugin:") :]):
        return value
    raise complain(Complaint("", "is not a task", show(value), ", ".join(TASKS) + ", plugin:NAME"))


def _known_handle(value: str) -> str:
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):(.*)", value, re.DOTALL)
    if not value.isprintable() or not value.strip():
        raise complain(Complaint("", "is not a handle", show(value), HANDLE_FORMS))
    if scheme is None:
        return value
    if scheme.group(1) not in _SCHEMES or not scheme.group(2).strip("/"):
        raise complain(Complaint("", "is not a kind of handle", show(value), HANDLE_FORMS))
    if value.startswith(FILE_URL) and split_handle(value)[1] is None:
        action = "write file:///PATH, with three slashes, for a file on these disks"
        allowed = "file:///PATH or file:PATH"
        raise complain(Complaint("", "names another machine", show(value), allowed, action))
    name = keras_name(value)
    if name is not None and name not in PIXELS:
        near = get_close_matches(name, PIXELS, 3, 0.5) or ["MobileNetV2", "ResNet50"]
        allowed = f"keras: and one of {len(PIXELS)} names, as {', '.join(near)}"
        raise complain(Complaint("", "is not a Keras application", show(value), allowed))
    if scheme.group(1) == "plugin" and not re.fullmatch(NAME_PATTERN, scheme.group(2)):
        raise complain(Complaint("", "is not a plug-in's name", show(value), HANDLE_FORMS))
    return value


TaskText = Annotated[
    str,
    AfterValidator(_known_task),
    Words("a task: " + ", ".join(TASKS) + ", plugin:NAME"),
]
WeightsText = Annotated[
    str,
    Field(pattern=r"\S"),
    IsPath("weights"),
    Words("imagenet, random, or a path"),
]
HandleText = Annotated[
    str, AfterValidator(_known_handle), IsPath("handle"), Words("a handle: " + HANDLE_FORMS)
]


class Backbone(SpecModel):
    """The pretrained part."""

    handle: HandleText
    """Where the pretrained model comes from: a TensorFlow Hub address, `hub:PATH`, `file:PATH` or a
    path of a SavedModel (its folder, or a `.tar.gz`, `.tgz` or `.tar` of it), `keras:NAME`,
    `model:PATH`, `run:DIR` (the directory of an earlier run) or `plugin:NAME`."""
    digest: Sha256 | None = None
    """SHA-256 that the backbone must have; null records the one found at first use.
    A `plugin:NAME` backbone has none."""
    options: Options = Field(default_factory=dict)
    """Options of a `plugin:NAME` backbone, handed to it as they are."""
    weights: WeightsText | None = None
    """Weights of a `keras:NAME` backbone: `imagenet`, from the cache, into which `harness stage`
    and `harness submit` fetch them; `random`; or the path of a file of its weights without the top.
    Null is `imagenet`."""
    pixels: Literal["unit", "symmetric", "bytes", "imagenet", "caffe"] | None = None
    """Range and channels of the pixels that the backbone was trained on: `unit` 0..1 (TensorFlow
    Hub), `symmetric` -1..1 (Keras' MobileNet, Inception), `bytes` 0..255 (Keras' EfficientNet),
    `imagenet` less mean and by deviation (PyTorch's), `caffe` blue first and less mean (Keras' VGG,
    ResNet). Null is what the application of `keras:NAME` wants, and else `unit`, as SavedModels do
    not say."""
    preprocessor: HandleText | None = None
    """Handle of the module that turns texts into the backbone's inputs, in TensorFlow Hub's form:
    `hub:PATH`, `file:PATH`, a path or an address. Null is for a backbone that takes texts."""
    inputs: Annotated[dict[str, str], Field(min_length=1)] | None = None
    """Names of the backbone's inputs by those of the preprocessor's tensors that they are given, as
    `{input_word_ids: input_ids, input_mask: attention_mask}`; null where both are the same."""
    output: str | None = None
    """Name of the output that is the feature vector, of a module that gives several
    (`pooled_output`); null for one that gives it alone. Of a `model:PATH` the layer at which it is
    cut; null takes it whole. Of a `run:DIR` the layer of its head at which that is cut; null takes
    the backbone alone."""
    signature: str | None = None
    """Signature of the SavedModel that is called; null calls the model itself."""
    max_length: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Tokens to which the preprocessor cuts a text or fills it up; null is its own length."""

    def checks(self) -> Iterator[Complaint]:
        if self.options and not self.handle.startswith("plugin:"):
            yield Complaint(
                "options",
                "only a plug-in takes options",
                show(self.options),
                "{} with this handle",
                "remove the options or use a plugin:NAME handle",
            )
        for name in ("signature", "output"):
            value = getattr(self, name)
            one = ("plugin:", "keras:", *(["model:", "run:"] if name == "signature" else []))
            if value is not None and self.handle.startswith(one):
                what = "only a SavedModel has several"
                yield Complaint(name, what, show(value), "null with this handle", "remove it")
        yield from self._of_preprocessor()
        if self.weights is not None and not self.handle.startswith("keras:"):
            what = "only an application of Keras is given weights"
            yield Complaint(
                "weights", what, show(self.weights), "null with this handle", "remove it"
            )
        if self.signature is not None and self.output is None:
            yield Complaint(
                "output",
                "a signature gives its outputs by name, and none is chosen",
                "null",
                "the name of an output of backbone.signature",
                "`saved_model_cli show --dir FOLDER --all` lists them",
            )
        own = self.handle.startswith("plugin:") or self.weights == "random"
        if self.digest is not None and own:
            whose = "a plug-in has" if self.handle.startswith("plugin:") else "random weights have"
            yield Complaint(
                "digest",
                f"{whose} no files to pin",
                show(self.digest),
                "null with this handle",
                "remove it",
            )

    def of_other_media(self, medium: str) -> Iterator[Complaint]:
        """What is of examples of another kind than ``medium``: image, text or audio."""
        for name, kind in (("pixels", "image"), ("preprocessor", "text")):
            value = getattr(self, name)
            if value is not None and medium != kind:
                what = f"is of {MEDIA_WORDS[kind]}, and the examples are {MEDIA_WORDS[medium]}"
                yield Complaint(name, what, show(value), "null", "remove it")

    def _of_preprocessor(self) -> Iterator[Complaint]:
        """What is of a preprocessor where there is none, and the like."""
        before = self.preprocessor
        if before is None:
            for name in ("inputs", "max_length"):
                value = getattr(self, name)
                if value is not None:
                    what = "is of a preprocessor, and there is none"
                    action = "remove it, or set backbone.preprocessor"
                    yield Complaint(name, what, show(value), "null", action)
            return
        other = ("keras:", "plugin:", "model:", "run:")
        if before.startswith(other):
            allowed = "https://..., hub:PATH, file:PATH or a path"
            yield Complaint("preprocessor", "is no SavedModel", show(before), allowed)
        if self.handle.startswith(("keras:", "plugin:", "run:")):
            what = "only a SavedModel or a model of Keras has one before it"
            yield Complaint(
                "preprocessor", what, show(before), "null with this handle", "remove it"
            )
        targets = list((self.inputs or {}).values())
        twice = sorted({name for name in targets if targets.count(name) > 1})
        if twice:
            what = f"two tensors cannot go to one input ({', '.join(twice)})"
            yield Complaint("inputs", what, show(self.inputs), "each input once")


class Head(SpecModel):
    """The new part, on top of the backbone's features."""

    hidden: Many[Annotated[int, Field(ge=1, le=1_000_000)]] = ()
    """Widths (units) of the dense layers before the output layer, in order."""
    activation: Literal[
        "relu",
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "linear",
        "mish",
        "selu",
        "sigmoid",
        "softplus",
        "softsign",
        "swish",
        "tanh",
    ] = "relu"
    """Activation of the hidden layers."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which a feature is dropped, before every dense layer."""
    batch_norm: bool = False
    """Batch normalisation after every hidden layer."""
    pooling: Literal["average", "max"] | None = None
    """How the places of a feature map or sequence that the backbone gives become one vector: their
    average or largest values. null is for a backbone that gives a vector; `keras:NAME` averages."""
    plugin: PluginRef | None = None
    """A plug-in of kind head that replaces the layers above."""

    def checks(self) -> Iterator[Complaint]:
        if self.plugin is None:
            return
        for name, default in (("hidden", ()), ("activation", "relu"), ("dropout", 0.0)):
            if getattr(self, name) != default:
                yield Complaint(
                    name,
                    "has no effect, since head.plugin replaces the layers",
                    show(getattr(self, name)),
                    show(default),
                    "remove it, or give it to the plug-in in head.plugin.options",
                )


_WEIGHT = 0.1


class Adaptation(SpecModel):
    """Unsupervised adaptation to a target domain without labels."""

    method: Literal["dann", "coral", "mmd", "adabn"]
    """Domain-adversarial, correlation alignment, maximum mean discrepancy or adaptive
    batch normalisation."""
    target: PathText
    """Examples of the target domain: a folder (with or without a folder for each class), a
    manifest, or a packed set. Their labels are not read."""
    weight: Annotated[float, Field(ge=0)] = _WEIGHT
    """Weight of the adaptation loss beside the task's loss; of `dann`, of the reversed gradient at
    the end of its schedule."""

    def checks(self) -> Iterator[Complaint]:
        if self.method == "adabn" and self.weight != _WEIGHT:
            what, got = "adabn adds no loss that could be weighted", show(self.weight)
            yield Complaint("weight", what, got, "no weight with method: adabn", "remove it")
