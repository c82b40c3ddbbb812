"""What training is put together from: every room's part made, before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
import tf_keras

from harness.checkpoint.manifest import list_checkpoints
from harness.deploy.evaluate import Evaluator
from harness.distribute.choose import Choice
from harness.errors import DataError, SpecError
from harness.model.adaptation.alignment import FIGURES as ADAPTATION_FIGURES
from harness.model.assemble import Assembled
from harness.model.backbone import DIGESTS, Pinned
from harness.model.guard import guard
from harness.observe.jsonl import RESERVED
from harness.runs.earlier import earlier_run
from harness.runs.paths import RunPaths
from harness.runs.record import read_record
from harness.spec import Spec, Trust, spec_digest
from harness.train.callbacks import Callbacks
from harness.train.optimizer import make_optimizer
from harness.train.plan import Plan, make_plan
from harness.worker.backbones import bring_for_run
from harness.worker.building import build_model
from harness.worker.cached import Caches
from harness.worker.datasets import (
    Datasets,
    check_unchanged,
    open_datasets,
    walks_through_records,
)
from harness.worker.devices import choose_devices
from harness.worker.facts import start_facts
from harness.worker.feeds import Feeds
from harness.worker.precision import check_compiled, check_precision
from harness.worker.ranks import Ranks
from harness.worker.target import check_statistics


@dataclass(frozen=True)
class Made:
    """What training is put together from, before anything is written."""

    choice: Choice
    sets: Datasets
    feeds: Feeds
    model: Assembled
    plan: Plan
    optimizer: tf_keras.optimizers.Optimizer
    callbacks: Callbacks
    evaluator: Evaluator
    scaled_for: int
    """Replicas that ``training.scale_learning_rate`` goes by: those of the run's beginning."""
    features_before: Mapping[str, Any]
    """What the record said of the feature cache when the last attempt ended."""

    def not_exact(self, spec: Spec) -> list[str]:
        """Reasons against an exact resume that show before the first step."""
        return [
            *self.model.not_exact(),
            *self.callbacks.not_exact(),
            *self.feeds.augmenter.hidden_randomness(spec.data.image_size),
        ]


def make(
    paths: RunPaths,
    spec: Spec,
    trust: Trust,
    say: Callable[[str], None],
    environment: Mapping[str, str],
    ranks: Ranks,
) -> Made:
    """Looks at machine, data and backbone, and builds the model; reads the run, writes nothing.

    Raises:
        EnvironmentNotAble, DataError, SpecError, UsageError: something does not fit.
    """
    mine = say if ranks.first else None  # of what one rank is enough to say
    choice = _devices(spec, environment, ranks, mine)
    # One reads for all: on a shared disk each rank may see another moment.
    known = ranks.from_first("record", lambda: _known(paths))
    # Before the first checkpoint nothing hangs on the data yet: mended files are just taken.
    sets = _open(spec, known["named"], ranks, say)
    if known["begun"]:
        check_unchanged(sets, known["data_digest"])
    _bring_together(spec, sets, ranks, lambda: bring_for_run(spec, paths.root, environment, say))
    caches = Caches(spec, _read_again(spec, sets), environment, ranks.topology, say)
    feeds = Feeds(spec, sets, choice.distribution, paths, ranks, known["order"], caches)
    model = _built(spec, sets, choice, Pinned.of(known), trust, ranks, say)
    check_metric_names(spec, model, feeds.validation is not None)
    _prepare_arithmetic(spec, model, choice, mine)
    check_statistics(spec, model, choice.distribution.replicas, say)
    scaled_for = known["scaled_for"] or choice.distribution.replicas
    plan = make_plan(spec, feeds.steps_per_epoch, scaled_for)
    optimizer = make_optimizer(spec)
    return Made(
        choice,
        sets,
        feeds,
        model,
        plan,
        optimizer,
        Callbacks(spec.training.callbacks, model.keras, optimizer, plan),
        Evaluator(model.keras, model.task, choice.distribution),
        scaled_for,
        known["feature_cache"],
    )


def _built(
    spec: Spec,
    sets: Datasets,
    choice: Choice,
    pinned: Pinned,
    trust: Trust,
    ranks: Ranks,
    say: Callable[[str], None],
) -> Assembled:
    """The model; of an earlier run all ranks have the same weights, though it may go on."""
    heard = say if ranks.first else _hush
    model = build_model(spec, sets.classes, choice, pinned, trust, scaling=sets.scaling, say=heard)
    if earlier_run(spec.backbone.handle) is not None:
        _check_same(ranks.gather("backbone", {"backbone": model.backbone.digest or ""}))
    return model


def _open(spec: Spec, named: tuple[Any, Any], ranks: Ranks, say: Callable[[str], None]) -> Datasets:
    if ranks.topology.size > 1 and walks_through_records(spec):
        # Rank 0 keeps what it sees in the cache, where the others find it.
        ranks.from_first("look", lambda: len(open_datasets(spec, _hush, *named).train.index))
    return open_datasets(spec, say, *named)


def _hush(text: str) -> None:
    """What is known of the data is said when each rank opens them."""


def _devices(
    spec: Spec, environment: Mapping[str, str], ranks: Ranks, say: Callable[[str], None] | None
) -> Choice:
    """What this process computes on, ready to compute as the spec wants it."""
    choice = choose_devices(spec, environment, ranks)
    if spec.training.deterministic:
        tf.config.experimental.enable_op_determinism()
    check_precision(spec.training.precision, say)
    return choice


def _prepare_arithmetic(
    spec: Spec, model: Assembled, choice: Choice, say: Callable[[str], None] | None
) -> None:
    """Readies the model for what it will be computed in, and by."""
    check_compiled(spec.training, model.keras, choice.distribution.replicas, say)
    if spec.training.precision != "float32":
        guard(model.keras)


def _read_again(spec: Spec, sets: Datasets) -> dict[str, int]:
    """Examples of the data sets that every epoch reads; the others are read once, at the end."""
    once = {"test"} if spec.trains_on_target else {"test", "target"}
    return {name: count for name, count in sets.counts().items() if name not in once}


def _known(paths: RunPaths) -> dict[str, Any]:
    """What the record says of earlier attempts, and whether one has saved anything."""
    record = read_record(paths)
    names = ("classes", "targets", "data_digest", "scaled_for", *DIGESTS)
    begun = bool(list_checkpoints(paths.checkpoints))
    # Until then another number of replicas may still be meant.
    kept = {name: record.get(name) for name in names}
    order = {name: record[name] for name in ("block", "window") if begun and name in record}
    return {
        **kept,
        "named": (kept["classes"], kept["targets"]) if begun else (None, None),
        "order": order,
        "begun": begun,
        "feature_cache": record.get("feature_cache", {}) if begun else {},
        "scaled_for": kept["scaled_for"] if begun else None,
    }


def _bring_together(spec: Spec, sets: Datasets, ranks: Ranks, bring: Callable[[], bool]) -> None:
    """Holds that all ranks see the same, and has rank 0 fetch what all of them need."""
    _check_same(ranks.gather("data", {"spec": spec_digest(spec), **sets.digests()}))
    ranks.from_first("backbone", bring)


def _check_same(digests: list[dict[str, str]]) -> None:
    """Holds that all ranks see the same spec and data sets.

    Args:
        digests: by rank; each by the name of what it is of.

    Raises:
        DataError: a rank sees others.
    """
    odd = [rank for rank, each in enumerate(digests) if each != digests[0]]
    if odd:
        names = [name for name in digests[0] if digests[odd[0]].get(name) != digests[0][name]]
        raise DataError(
            f"the ranks do not see the same {' and '.join(names) or 'data sets'}",
            got=f"rank {', '.join(map(str, odd[:8]))} sees other files than rank 0",
            allowed="the same names, sizes and modification times on every node",
            action="put run and data on storage that all nodes share, and wait until it is written",
            path="data",
        )


def facts_of(spec: Spec, made: Made) -> dict[str, Any]:
    """What the record holds of an attempt's beginning."""
    model = made.model
    return {
        **start_facts(made.choice),
        "data_digest": made.sets.digests(),
        **model.backbone.facts(),
        "classes": list(made.sets.classes),
        "targets": made.sets.scaling and made.sets.scaling.to_json(made.sets.classes),
        "counts": {**made.sets.counts(), "missing": made.sets.missing},
        "weight_fill": made.sets.weight_fill,
        "parameters": {
            "backbone": model.backbone.parameters(),
            "trainable": _parameters(model.trainable()),
        },
        "trainable_variables": len(model.trainable()),
        "trained": _trained(made),
        "examples_per_epoch": made.feeds.order.n,
        "lanes": made.feeds.order.lanes,  # of the first phase; of each in `trained`
        "block": made.feeds.order.block,
        "window": made.feeds.order.window,
        "total_steps": made.plan.total_steps,
        "replicas": made.choice.distribution.replicas,
        "scaled_for": made.scaled_for,
        "staging": {},
        "feature_cache": dict(made.features_before),
        "exact": True,
        "not_exact_because": [],
    }


def _trained(made: Made) -> list[dict[str, Any]]:
    """What each phase trains: variables and the scalars in them, and blocks of the backbone."""
    return [
        {
            "phase": phase.name,
            "batch_size": phase.batch_size,
            "image_size": phase.image_size,
            "lanes": made.feeds.lanes_of(phase.batch_size or 0),
            "variables": len(made.model.trainable(phase.index)),
            "parameters": _parameters(made.model.trainable(phase.index)),
            "blocks": list(made.model.phases[phase.index].unfrozen.blocks),
        }
        for phase in made.plan.phases
    ]


def _parameters(variables: Sequence[tf.Variable]) -> int:
    return sum(int(variable.shape.num_elements() or 0) for variable in variables)


def check_metric_names(spec: Spec, model: Assembled, validated: bool) -> None:
    """Holds the metrics that the spec asks for against those that the run will have.

    Raises:
        SpecError: one is not among them; said before training, not after its first epoch.
    """
    from harness.train.best import value_of

    names = model.task.sums.figure_names()
    taken = [name for name in (*RESERVED, *ADAPTATION_FIGURES) if name in names] + sorted(
        {name for name in names if list(names).count(name) > 1}
    )
    if taken:
        raise SpecError(
            "a metric plug-in has a name that is taken",
            got=", ".join(taken),
            allowed="a name of its own",
            action="register it under another name",
            path="training.metrics",
        )
    known = dict.fromkeys(names, 0.0)
    if validated:
        known |= {f"val_{name}": 0.0 for name in names}
    value_of(known, spec.checkpoint.best.metric, "checkpoint.best.metric")
    if spec.training.schedule.watched is not None:
        value_of(known, spec.training.schedule.watched, "training.schedule.metric")
    if spec.training.early_stopping is not None:
        value_of(known, spec.training.early_stopping.metric, "training.early_stopping.metric")
