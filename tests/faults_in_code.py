"""Faults of one line, each of which the fast tests must catch: a test of the tests.

    python tests/faults_in_code.py              all faults, two at a time
    python tests/faults_in_code.py --only scan  those whose line or file contains a word

Each fault is made in a copy of the checkout; the checkout itself stays as it is. The test that
failed first is printed. The exit status is 1 if a fault went unnoticed.
"""

import argparse
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
FAST = "not long and not notebooks and not soak"  # as `make test` has it


class Fault(NamedTuple):
    """In `file`, `right`, which occurs once, becomes `wrong`; the tests of `files` must fail."""

    file: str
    right: str
    wrong: str
    files: str


LAYERS = "test_unfolded_lstm test_grid_lstm test_feedforward test_contract"
FLOW = "test_gradient_flow"
STATES = "test_state_gradients test_grid_lstm"

FAULTS = [
    # Gates and their biases.
    Fault(
        "keras_deeplstm/layers/gates.py",
        "z_i, z_f, _, z_o = parts",
        "z_f, z_i, _, z_o = parts",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/gates.py",
        "o * activation(seen)",
        "o * seen",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/gates.py",
        "c = c if shift is None else c + shift",
        "c = c",
        STATES,
    ),
    Fault(
        "keras_deeplstm/layers/weights.py",
        "forget_gate = max(1.0, math.log(depth))",
        "forget_gate = math.log(depth)",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/weights.py",
        "for gate, value in ((0, input_gate), (1, forget_gate)):",
        "for gate, value in ((1, input_gate), (0, forget_gate)):",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/gates.py",
        "lambda d: (d * c * f * (1 - f), _quotient(z_f, d))",
        "lambda d: (d * c * f * (1 - f), d)",
        "test_depth_lstm",
    ),
    Fault(
        "keras_deeplstm/layers/gates.py",
        "lambda d: (d * c * f * (1 - f), _quotient(z_f, d))",
        "lambda d: (d * c * f * (1 - f), d * f)",
        "test_kernels",
    ),
    # Layers round layers.
    Fault(
        "keras_deeplstm/layers/depth_lstm.py",
        "x, norm = branch(self._norm(h, w)),",
        "x, norm = branch(h),",
        "test_depth_lstm",
    ),
    Fault(
        "keras_deeplstm/layers/connections.py",
        "return h + branch(norm(h) * shrink)",
        "return h + branch(norm(h)) * shrink",
        "test_connections",
    ),
    Fault(
        "keras_deeplstm/layers/connections.py",
        "return transform * update + (1 - transform) * h",
        "return transform * h + (1 - transform) * update",
        "test_connections test_feedforward",
    ),
    Fault(
        "keras_deeplstm/layers/nested_layers.py",
        'offered |= {"mask": mask, f"{first.name}_mask": mask}',
        "pass",
        "test_depth_lstm",
    ),
    Fault(
        "keras_deeplstm/models/connected.py",
        "functools.partial(block, use_causal_mask=True)",
        "block",
        "test_models",
    ),
    Fault(
        "keras_deeplstm/text/steps.py",
        "moved = ops.where(seen < length,",
        "moved = ops.where(seen <= length,",
        "test_text",
    ),
    Fault(
        "experiments/tasks/text/streams.py",
        "self.first = epoch * self.steps",
        "self.first = epoch % self.parts * self.steps",
        "test_train_text",
    ),
    # The loop.
    Fault(
        "keras_deeplstm/layers/scan.py",
        "        maximum_iterations=length,\n",
        "",
        "test_contract",
    ),
    Fault(
        "keras_deeplstm/layers/scan.py",
        "(tf.constant(1), carry, outputs),",
        "(tf.constant(2), carry, outputs),",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/scan.py",
        "return (ops.stop_gradient(carry[0]), *carry[1:])",
        "return carry",
        STATES,
    ),
    Fault(
        "keras_deeplstm/layers/depth_block.py",
        "first[name], others[name] = value[0], value[1:]",
        "first[name], others[name] = value[-1], value[:-1]",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/gates.py",
        "o = recurrent_activation(z_o + peephole[2] * c)",
        "o = recurrent_activation(z_o + peephole[2] * memory_cell)",
        LAYERS,
    ),
    # Masks, and the order of time and depth.
    Fault(
        "keras_deeplstm/layers/masks.py",
        "return tuple(ops.where(valid, n, o) for n, o in zip(new, old, strict=True))",
        "return tuple(n for n, o in zip(new, old, strict=True))",
        "test_grid_lstm",
    ),
    Fault(
        "keras_deeplstm/layers/masks.py",
        "else last >= 0",
        "else last >= -1",
        "test_grid_lstm",
    ),
    Fault(
        "keras_deeplstm/layers/grid_lstm.py",
        "mask = ops.flip(mask, axis=1)",
        "pass",
        "test_grid_lstm",
    ),
    Fault(
        "keras_deeplstm/layers/grid_lstm.py",
        "if self.priority is None:",
        "if self.priority is not None:",
        "test_grid_lstm",
    ),
    Fault(
        "keras_deeplstm/layers/grid_lstm.py",
        "ops.concatenate([ops.ones_like(drawn[:1]), drawn], axis=0)",
        "ops.concatenate([drawn[:1], drawn], axis=0)",
        "test_grid_lstm",
    ),
    # Normalization and weights.
    Fault(
        "keras_deeplstm/layers/unfolded_lstm.py",
        "old * self.momentum + moment * (1 - self.momentum)",
        "moment * self.momentum + old * (1 - self.momentum)",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/normalization.py",
        "mean = ops.sum(ops.where(row_mask, x, 0.0), axis=0) / count",
        "mean = ops.sum(x, axis=0) / count",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/layers/weighted_layer.py",
        "variable.depth_steps = weight.steps",
        "variable.depth_steps = None",
        LAYERS,
    ),
    Fault(
        "keras_deeplstm/initializers.py",
        "with_seed(initializer, int(s))",
        "with_seed(initializer, 0)",
        LAYERS,
    ),
    # The tap and what is read of it.
    Fault(
        "callbacks/gradient_tap.py",
        "with before_averaging(self._optimizer, step.variables) as values:",
        "with contextlib.nullcontext([]) as values:",
        "test_update_ratios",
    ),
    Fault(
        "callbacks/tap_callback.py",
        "steps = min(steps, self._iterations() - iterations)",
        "pass",
        FLOW,
    ),
    Fault(
        "callbacks/divergence.py",
        "if self.diverged and self._good is not None:",
        "if False:",
        "test_divergence",
    ),
    Fault(
        "keras_deeplstm/diagnostics/signals.py",
        'by_step = by_step.mean(axis=tuple(range(1, by_step.ndim)), dtype="float64")',
        "by_step = by_step[:, 0]",
        "test_signal_flow",
    ),
    Fault(
        "callbacks/tapped_step.py",
        "return ops.divide(gradient, ops.cast(scale, gradient.dtype))",
        "return gradient",
        FLOW,
    ),
    Fault(
        "callbacks/gradient_tap.py",
        "functions[bool(due)](*args, **kwargs)",
        "functions[True](*args, **kwargs)",
        f"{FLOW} test_divergence",
    ),
    Fault(
        "callbacks/gradient_tap.py",
        "if not self._subscribers and self.model",
        "if self._subscribers and self.model",
        FLOW,
    ),
    Fault(
        "callbacks/tapped_step.py",
        "gradient = replica.all_reduce(tf.distribute.ReduceOp.SUM, gradient)",
        "gradient = replica.all_reduce(tf.distribute.ReduceOp.MEAN, gradient)",
        "test_contract",
    ),
    Fault(
        "callbacks/gradient_statistics.py",
        "return ops.sqrt(_sum_of_squares(wide, axes))",
        "return _sum_of_squares(wide, axes)",
        FLOW,
    ),
    Fault("callbacks/verdict.py", "ARRIVES_WITHIN = 10.0", "ARRIVES_WITHIN = 300.0", FLOW),
    Fault(
        "callbacks/divergence.py",
        "variable.assign(value)",
        "pass",
        "test_divergence",
    ),
    Fault(
        "callbacks/layer_outputs.py",
        "if first is not None and trace == current_trace():",
        "if first is not None:",
        "test_signal_flow",
    ),
    Fault(
        "callbacks/divergence.py",
        "self._layers[forward.argmin() - 1]",
        "self._layers[forward.argmin() - 2]",
        "test_divergence",
    ),
    Fault(
        "callbacks/alerts.py",
        'if alert.kind != "not finite" or alert is first]',
        "]",
        "test_alerts",
    ),
    Fault(
        "callbacks/gradient_noise.py",
        'share = 1 / first["batch_size"] + 1 / summary["batch_size"]',
        'share = 2 / first["batch_size"]',
        "test_gradient_noise",
    ),
    Fault(
        "callbacks/step_recorder.py",
        "for record in self._recorded() if record[0] > self._handed_on]",
        "for record in self._recorded()]",
        "test_sinks",
    ),
    # Runs: checkpoints, files, locks, resuming.
    Fault(
        "experiments/runs/checkpoints.py",
        'if _digest(content) != path.stem.rpartition("-")[2]:',
        "if not content:",
        "test_checkpoints",
    ),
    Fault(
        "experiments/runs/checkpoints.py",
        "earlier[: KEPT - 1]",
        "earlier[:0]",
        "test_checkpoints",
    ),
    Fault(
        "experiments/runs/files.py",
        'path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")',
        "path",
        "test_checkpoints test_runs test_faults",
    ),
    Fault("experiments/runs/locks.py", "        held.acquire()\n", "        pass\n", "test_runs"),
    Fault(
        "experiments/training/journal.py",
        'return {"model": self.model.variables, "optimizer": self.model.optimizer.variables}',
        'return {"model": self.model.variables}',
        "test_resume",
    ),
    Fault(
        "experiments/training/classifiers.py",
        "np.random.default_rng([self.seed, epoch])",
        "np.random.default_rng([self.seed])",
        "test_resume",
    ),
    # Tasks, metrics, commands.
    Fault(
        "experiments/tasks/measures.py",
        'return -value if self.direction == "max" else value',
        'return value if self.direction == "max" else -value',
        "test_measures test_own_file",
    ),
    Fault(
        "experiments/tasks/measures.py",
        'return value >= criterion if self.direction == "max"',
        'return value <= criterion if self.direction == "max"',
        "test_measures",
    ),
    Fault(
        "experiments/training/examinations.py",
        "complete = len(correct) == criterion.sequences",
        "complete = True",
        "test_solve",
    ),
    Fault("experiments/tasks/own.py", "largest = 255", "largest = 256", "test_tasks"),
    Fault(
        "keras_deeplstm/text/sampler.py",
        'ops.cast(logits[0, 0], "float32") / temperature',
        'ops.cast(logits[0, 0], "float32")',
        "test_text",
    ),
    Fault(
        "experiments/cli.py",
        'return getattr(interrupt, "status", 130)',
        "return 1",
        "test_cli",
    ),
]


def copy_of_checkout(folder):
    """The files that git knows or would take, links as links."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


def caught_by(fault, folder):
    """The first test that fails in `folder` with this fault; None if none does."""
    path = folder / fault.file
    text = path.read_text(encoding="utf-8")
    assert text.count(fault.right) == 1, f"{fault.file} does not hold once: {fault.right}"
    path.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")
    try:
        files = [f"tests/{name}.py" for name in fault.files.split()]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "-m", FAST, *files],
            cwd=folder,
            capture_output=True,
            text=True,
            env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(folder)},
        )
    finally:
        path.write_text(text, encoding="utf-8")
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    if failed is None:  # no test ran, so none has caught it
        raise RuntimeError(done.stdout[-3000:] + done.stderr[-3000:])
    return failed[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="a word of the file or of the line")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time")
    options = parser.parse_args()
    faults = [fault for fault in FAULTS if options.only in fault.file + fault.right]
    here = threading.local()
    with tempfile.TemporaryDirectory() as scratch:

        def attempt(fault):
            if not hasattr(here, "folder"):
                here.folder = copy_of_checkout(Path(tempfile.mkdtemp(dir=scratch)))
            return fault, caught_by(fault, here.folder)

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            unnoticed = 0
            for fault, test in pool.map(attempt, faults):
                unnoticed += test is None
                line = " ".join((fault.wrong or f"without {fault.right.strip()}").split())
                print(f"{fault.file}: {line}\n    {test or 'NOT CAUGHT'}", flush=True)
    print(f"{len(faults) - unnoticed} of {len(faults)} faults caught")
    return int(unnoticed > 0)


if __name__ == "__main__":
    sys.exit(main())
