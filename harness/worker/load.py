"""A run opened again, to use what it made."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.data.regression import Scaling
from harness.errors import UsageError
from harness.runs.earlier import first_source
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.spec import Spec, Trust, spec_from_file_resolved
from harness.worker.backbones import bring_alone
from harness.worker.environment import import_tensorflow, prepare

if TYPE_CHECKING:
    from harness.deploy.export import Exported
    from harness.deploy.predict import Prediction
    from harness.distribute.choose import Choice
    from harness.model.assemble import Assembled
    from harness.train.parts import RestoredState


@dataclass(frozen=True)
class LoadedRun:
    """The model of a run with the weights of one of its checkpoints."""

    paths: RunPaths
    spec: Spec
    record: dict[str, Any]
    model: Assembled
    choice: Choice
    step: int
    phase: int
    """Index of the phase that made these weights, whose sizes are theirs."""

    @property
    def image_size(self) -> int | None:
        """Height and width in pixels; None of what is no picture."""
        return self.spec.image_size_of(self.phase)

    def predict(self, names: Sequence[str]) -> Iterator[Prediction]:
        """One prediction for each example that ``names`` (files, folders, manifests) mean."""
        from harness.data.content import content_of_spec
        from harness.data.manifest_columns import ManifestOptions
        from harness.data.tfds import options_for_prediction
        from harness.deploy.predict import Predictor, expand

        spec, content = self.spec, content_of_spec(self.spec)
        keras, task = self.model.keras, self.model.task
        predictor = Predictor(keras, task, self.image_size, content)
        options = ManifestOptions.of(spec.data, spec.medium)
        records = options_for_prediction(spec.data, spec.medium)
        return predictor.files(expand(names, options, records))

    def evaluate(self, path: str | None) -> dict[str, float]:
        """Figures over the folder or manifest ``path``, by default over the spec's test set.

        Raises:
            UsageError: neither is there.
            DataError: the data set cannot be used.
        """
        from harness.data.content import content_of_spec
        from harness.data.pipeline import Feed
        from harness.deploy.evaluate import Evaluator
        from harness.worker.datasets import open_test_set
        from harness.worker.feeds import one_pass
        from harness.worker.recorders import make_recorder

        classes, fill = self.model.task.classes, self.record.get("weight_fill")
        scaling = _scaling(self.record)
        examples = open_test_set(self.spec, path, classes, fill, scaling)
        if examples is None:
            raise UsageError(
                "the run's spec names no test data",
                action="say which with --data PATH",
                path="data.test",
            )
        recorder = make_recorder(self.spec, len(examples.index), "test", None)
        content = content_of_spec(self.spec)
        feed = Feed(examples.index, recorder=recorder, load=examples.load, content=content)
        evaluator = Evaluator(self.model.keras, self.model.task, self.choice.distribution)
        return one_pass(self.spec, feed, evaluator, self.phase, recorder.check)

    def export(self, folder: Path) -> Exported:
        """Writes a SavedModel; see :func:`harness.deploy.export.export`."""
        from harness.data.content import least_side
        from harness.deploy.export import export

        card = {
            "run_id": self.record["run_id"],
            "name": self.record["name"],
            "step": self.step,
            "classes": list(self.model.task.classes),
            "targets": self.record.get("targets"),
            "image_size": self.image_size,
            **self.model.backbone.facts(),
            "spec_digest": self.record["spec_digest"],
            "metrics": self.record.get("final", {}),
            "about": self.spec.about.model_dump(mode="json"),
            "versions": self.record.get("versions", {}),
        }
        least = least_side(self.spec)
        return export(self.model.keras, self.model.task, folder, card, self.spec.access, least)


def load_run(
    paths: RunPaths,
    trust: Trust,
    *,
    step: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> LoadedRun:
    """Opens a run with its best weights, or with those of ``step``.

    Raises:
        UsageError: the run has no checkpoint yet.
        DataError: the backbone is gone or has changed.
        StorageError: no checkpoint verifies.
    """
    record = read_record(paths)
    spec = spec_from_file_resolved(paths.spec)
    classes = record.get("classes")
    if not classes:
        raise UsageError(
            "this run has not begun to train, there is nothing to use yet",
            got=str(paths.root),
            action="run it first",
        )
    prepare(os.environ, say)
    first = first_source(spec)
    bring_alone(first.backbone, first.image_sizes(), say)
    import_tensorflow(paths.log)
    return _open(paths, spec, record, trust, step, say)


def _open(
    paths: RunPaths,
    spec: Spec,
    record: dict[str, Any],
    trust: Trust,
    step: int | None,
    say: Callable[[str], None],
) -> LoadedRun:
    from harness.distribute.choose import choose
    from harness.distribute.topology import Topology
    from harness.model.arithmetic import set_precision
    from harness.model.backbone import Pinned
    from harness.train.keeper import load_weights, phase_of
    from harness.worker.adapted import load_adapted
    from harness.worker.building import build_model
    from harness.worker.plugins import load_run_plugins

    load_run_plugins(paths, trust)
    set_precision("float32")  # on any machine, and to the bit what an export computes
    # One device whatever the training had: a finished model is used anywhere, so what was trained
    # on GPUs alone is used on the CPU where there is none.
    device = "cpu" if spec.cluster.device == "cpu" else "auto"
    choice = choose("single", device, Topology())
    restored, adapted = restored_weights(paths, spec, record, step, say)
    classes, pinned = tuple(record["classes"]), Pinned.of(record)
    phase = phase_of(restored)
    sizes = tuple(size for size in (spec.image_size_of(phase),) if size is not None)
    model = build_model(spec, classes, choice, pinned, trust, sizes, _scaling(record), say)
    if adapted:
        load_adapted(model, restored)
    else:
        load_weights(model, restored, averaged=True)
    return LoadedRun(paths, spec, record, model, choice, restored.step, phase)


def restored_weights(
    paths: RunPaths,
    spec: Spec,
    record: dict[str, Any],
    step: int | None,
    say: Callable[[str], None],
) -> tuple[RestoredState, bool]:
    """The weights of a step (None: the best), and whether they are adapted to a target.

    Raises:
        UsageError: the run has no checkpoint yet.
        StorageError: none verifies.
    """
    from harness.checkpoint.store import Store

    store = Store(paths.checkpoints, keep=spec.checkpoint.keep, access=spec.access, log=say)
    wanted = step if step is not None else best_step(record, store)
    # Those of a step that is asked for are as training saved them.
    newest = max((info.step for info in store.list()), default=None)
    adapted = step is None and is_adapted(record, newest if wanted is None else wanted)
    store = Store(paths.adapted, keep=1, access=spec.access, log=say) if adapted else store
    restored = store.restore(wanted)
    if restored is None:
        raise UsageError(
            "this run has no checkpoint yet",
            got=str(paths.root),
            action="wait for its first one, or run it again",
        )
    return restored, adapted


def _scaling(record: dict[str, Any]) -> Scaling | None:
    """How the run has standardised its targets; None of one that is no regression."""
    targets = record.get("targets")
    return Scaling.of_json(targets, record["classes"]) if targets else None


def is_adapted(record: dict[str, Any], step: int | None) -> bool:
    """Whether the weights of ``step``, the best or else the newest, were given the statistics of a
    target.

    They were not where a run trains on, or has not come to its end yet.
    """
    adapted = record.get("adapted")
    return adapted is not None and adapted["step"] == step


def best_step(record: dict[str, Any], store: Any) -> int | None:
    """The step of the best weights: as recorded at the end, else as the newest checkpoint says.

    None when no epoch has been validated yet; the newest checkpoint is used then.
    """
    there = {info.step for info in store.list()}
    best = record.get("best") or {}
    if best.get("step") in there:
        return int(best["step"])
    newest = store.restore()
    step = newest.state["best"]["step"] if newest is not None else None
    return step if step in there else None
