"""The change that lets Horovod's thread sleep until there is something to sum.

As released it looks every ``HOROVOD_CYCLE_TIME`` milliseconds, and each look is a conversation of
all ranks.  On CPUs that work is taken from the step; a longer time delays every sum by as much.
With the change it sleeps for ``HOROVOD_IDLE_TIME`` milliseconds while nothing waits to be summed,
and is woken by what comes.  Without the variable nothing is different.  docs/horovod.md tells more.
"""

from __future__ import annotations

from harness.launch.horovod_replace import replaced

_DECLARED = """  bool IsEmpty() const;

  // Sleeps until a tensor is added to any queue of this process, or for as long as given.
  static void WaitForTensors(std::chrono::steady_clock::duration most);

  void RemoveJoinTensor();
"""

_DEFINED = """
namespace {

std::mutex added_mutex;
std::condition_variable added_condition;
bool added = false;

void NoteAdded() {
  {
    std::lock_guard<std::mutex> guard(added_mutex);
    added = true;
  }
  added_condition.notify_one();
}

} // namespace

bool TensorQueue::IsEmpty() const {
  std::lock_guard<std::mutex> guard(mutex_);
  return tensor_table_.empty();
}

void TensorQueue::WaitForTensors(std::chrono::steady_clock::duration most) {
  std::unique_lock<std::mutex> lock(added_mutex);
  added_condition.wait_for(lock, most, [] { return added; });
  added = false;
}
"""

LOOKS = """  auto start_time = std::chrono::steady_clock::now();
  auto sleep_duration = state.last_cycle_start +
                        std::chrono::microseconds(long(
                            state.parameter_manager.CycleTimeMs() * 1000.)) -
                        start_time;
  if (sleep_duration > std::chrono::steady_clock::duration::zero()) {
    std::this_thread::sleep_for(sleep_duration);
  }
"""

_LOOKS_OR_WAITS = """  static const double idle_ms =
      GetDoubleEnvOrDefault("HOROVOD_IDLE_TIME", 0.0);
  bool idle = idle_ms > 0.0;
  if (idle) {
    for (auto id : state.process_set_table.Ids()) {
      idle = idle && state.process_set_table.Get(id).tensor_queue.IsEmpty();
    }
  }
  double cycle_ms = idle ? idle_ms : state.parameter_manager.CycleTimeMs();
  auto start_time = std::chrono::steady_clock::now();
  auto sleep_duration = state.last_cycle_start +
                        std::chrono::microseconds(long(cycle_ms * 1000.)) -
                        start_time;
  if (sleep_duration > std::chrono::steady_clock::duration::zero()) {
    if (idle) {
      TensorQueue::WaitForTensors(sleep_duration);
    } else {
      std::this_thread::sleep_for(sleep_duration);
    }
  }
"""


def with_waiting_queue_declared(text: str) -> str:
    """``horovod/common/tensor_queue.h`` with a wait for the next tensor."""
    text = replaced(text, "#include <iostream>\n", "#include <chrono>\n#include <iostream>\n")
    return replaced(text, "  void RemoveJoinTensor();\n", _DECLARED)


def with_waiting_queue(text: str) -> str:
    """``horovod/common/tensor_queue.cc``: both ways to add tensors end the wait."""
    text = replaced(
        text, "#include <assert.h>\n", "#include <assert.h>\n#include <condition_variable>\n"
    )
    opening = "namespace horovod {\nnamespace common {\n"
    text = replaced(text, opening, opening + _DEFINED)
    for added in (
        "  message_queue_.push(std::move(message));\n  return Status::OK();\n",
        "    message_queue_.push(std::move(messages[i]));\n  }\n  return Status::OK();\n",
    ):
        noted = added.replace("  return", "  NoteAdded();\n  return")
        text = replaced(text, added, noted)
    return text


def with_idle_time(text: str) -> str:
    """``horovod/common/operations.cc``: the thread's loop sleeps longer while nothing waits."""
    return replaced(text, LOOKS, _LOOKS_OR_WAITS)
