"""The user's Keras callbacks, called as ``Model.fit`` with ``steps_per_execution`` would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tf_keras

from harness.distribute.base import Distribution
from harness.errors import SpecError
from harness.plugins import PREFIX, registry
from harness.spec import PluginRef
from harness.train.plan import Plan


class Callbacks:
    """A ``CallbackList`` and the state of those callbacks that can give it.

    A callback with ``get_state() -> dict`` (JSON) and ``set_state(dict)`` goes on after a
    resume as if nothing had happened; one without makes the run say "not exact".
    """

    def __init__(
        self,
        refs: Sequence[PluginRef],
        model: tf_keras.Model,
        optimizer: tf_keras.optimizers.Optimizer,
        plan: Plan,
    ) -> None:
        self._named = [(ref.plugin.removeprefix(PREFIX), _make(ref)) for ref in refs]
        self._model = model
        # What callbacks of fit() find on their model.
        model.optimizer = optimizer
        model.stop_training = False
        self._list = tf_keras.callbacks.CallbackList(
            [callback for _, callback in self._named],
            add_history=False,
            add_progbar=False,
            model=model,
            epochs=plan.total_epochs,
            steps=plan.phases[0].steps_per_epoch,
            verbose=0,
        )

    def __getattr__(self, hook: str) -> Any:
        if hook.startswith("on_"):
            return getattr(self._list, hook)
        raise AttributeError(hook)

    @property
    def stop_training(self) -> bool:
        """True once a callback has asked for the end of training."""
        return bool(self._model.stop_training)

    def agree(self, distribution: Distribution) -> None:
        """Ends training on all ranks once a callback has asked for it on one of them."""
        if self._named:
            self._model.stop_training = distribution.agree(self.stop_training)

    def not_exact(self) -> list[str]:
        """A reason for every callback whose state cannot be kept."""
        return [
            f"callback {name} has no get_state/set_state"
            for name, callback in self._named
            if not _has_state(callback)
        ]

    def to_json(self) -> dict[str, Any]:
        """For the checkpoint's state, by the callbacks' names."""
        states = {name: cb.get_state() for name, cb in self._named if _has_state(cb)}
        return {"callbacks": states, "stop_training": self.stop_training}

    def from_json(self, state: Mapping[str, Any]) -> None:
        """Gives every callback its state back."""
        for name, callback in self._named:
            if _has_state(callback) and name in state["callbacks"]:
                callback.set_state(state["callbacks"][name])
        self._model.stop_training = state["stop_training"]


def _has_state(callback: Any) -> bool:
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")


def _make(ref: PluginRef) -> tf_keras.callbacks.Callback:
    callback = registry.get("callback", ref.plugin)(**ref.options)
    if not isinstance(callback, tf_keras.callbacks.Callback):
        raise SpecError(
            "the callback plug-in gives no Keras callback",
            got=type(callback).__name__,
            allowed="a tf_keras.callbacks.Callback",
            action="derive it from tf_keras.callbacks.Callback, not from keras",
            path="training.callbacks",
        )
    return callback
