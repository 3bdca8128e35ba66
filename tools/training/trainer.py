"""The training loop: batches, losses, schedule, checkpoints, logs.

A run is a pure function of its options: the batch of step ``n`` is drawn from the seed and ``n`` alone, and the
learning rate is computed from ``n``. So a run resumed from the checkpoint of step ``n`` goes on bit for bit as if never
stopped.
"""

from __future__ import annotations

import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from tqdm import tqdm

from configs.options import TrainOptions
from lib.errors import UserError
from models.checkpoint import WeightsHeader, load_tensors, save_tensors, save_weights
from models.contract import probability
from models.nenet import Maps, NENet
from tools.data.batch_sources import BatchSource, drawn_ahead
from tools.data.batches import Batch
from tools.Losses import dice, local_connectivity_loss, weighted_cross_entropy
from tools.training.log import RunLog

STATE_FILE, BEST_FILE, LAST_FILE = "state.safetensors", "best.safetensors", "last.safetensors"
SETTLING = 16
"""Batches over which the batch-norm statistics are measured before validation."""
_STATE_KIND = "the state of a run"
_DOUBLE_SIGNAL = 1.0
"""Seconds within which a second signal is the first one's echo: torchrun passes on the Ctrl-C that all have got."""

_log = logging.getLogger(__name__)

Augment = Callable[[Batch, torch.Generator], Batch]


class TrainingNet(nn.Module):
    """NENet as training calls it: one forward pass over tiles and the states inside them (what DDP wraps)."""

    def __init__(self, net: NENet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, owner: Tensor, corner: Tensor, walk: Tensor) -> Maps:
        """Centerline logits of the tiles, node and edge logits of the states; see :class:`~tools.data.batches.Batch`."""
        # Read before encoding: on a GPU, reading waits for all work given to it so far.
        owner, corner = owner.cpu(), corner.cpu()
        features = self.net.encode(image)
        crops = crop_features(features, owner, corner, walk.shape[2:])
        node, edge = self.net.heads(crops, walk.to(crops.dtype))
        return Maps(self.net.centerline(features), node, edge)


def crop_features(features: Tensor, owner: Tensor, corner: Tensor, shape: torch.Size) -> Tensor:
    """Crops ``(K, W, *shape)`` of features ``(T, W, *S)``, at integer ``corner`` ``(K, ndim)`` of tile ``owner``."""
    if features.shape[2:] == shape:
        return features[owner]
    return _Crops.apply(features, boxes(owner, corner, shape))


Box = tuple[int | slice, ...]


def boxes(owner: Tensor, corner: Tensor, shape: torch.Size) -> list[Box]:
    """Index of each crop in the features."""
    places = torch.cat([owner[:, None], corner], dim=1).tolist()
    return [(tile, slice(None), *(slice(a, a + n) for a, n in zip(low, shape, strict=True))) for tile, *low in places]


class _Crops(torch.autograd.Function):
    """Crops with a gradient of its own: indexing would lay out one gradient of all the features for every crop."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, places: list[Box]) -> Tensor:
        ctx.shape, ctx.places = features.shape, places
        return torch.stack([features[place] for place in places])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.shape)
        for place, part in zip(ctx.places, gradient, strict=True):
            whole[place] += part
        return whole, None


def losses(maps: Maps, batch: Batch, options: TrainOptions) -> dict[str, Tensor]:
    """The terms of ``L = L_cl + L_node + L_e + λ·L_conn`` (paper, "Loss functions"), each times its weight."""
    beta = options.beta
    return {
        "centerline": weighted_cross_entropy(maps.centerline.float(), batch.centerline, beta, ignored=batch.ignored),
        "node": weighted_cross_entropy(maps.node.float(), batch.node, beta),
        "edge": options.edge_weight * weighted_cross_entropy(maps.edge.float(), batch.edge, beta),
        "connectivity": options.connectivity_weight * local_connectivity_loss(maps.edge.float(), batch.branch),
    }


def learning_rate(step: int, total: int, options: TrainOptions) -> float:
    """Cosine from ``lr`` to ``lr_final`` over ``total`` steps, after a linear warm-up."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    share = (step - options.warmup) / max(total - options.warmup, 1)
    return options.lr_final + 0.5 * (options.lr - options.lr_final) * (1 + math.cos(math.pi * min(share, 1.0)))


@contextmanager
def fresh_statistics(net: nn.Module) -> Iterator[None]:
    """Forget the running statistics of the batch norms; they become the plain mean over the batches seen inside."""
    momentum = {module: module.momentum for module in net.modules() if isinstance(module, _BatchNorm)}
    for norm in momentum:
        norm.reset_running_stats()
        norm.momentum = None
    try:
        yield
    finally:
        for norm, value in momentum.items():
            norm.momentum = value


def freeze_norms(net: nn.Module) -> None:
    """Let the batch norms use and keep their running statistics, as in tracing, while everything else trains on."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@dataclass
class Progress:
    """Where a run stands: what its checkpoint must hold besides tensors."""

    step: int = 0
    best: float = -1.0


class Trainer:
    """One training run.

    Parameters
    ----------
    net
        The network; trained in place.
    header
        What the run's weight files say; metrics are filled in.
    train, validation
        Sources of batches; validation batches are 0, 1, ... ``validation.steps_per_epoch − 1``.
    augment, plain
        Turn uint8 batches into float ones, for training and for validation.
    options
        The run's options; ``auto`` precision is ``fp32`` here.
    """

    def __init__(
        self,
        net: NENet,
        header: WeightsHeader,
        train: BatchSource,
        validation: BatchSource,
        augment: Augment,
        plain: Callable[[Batch], Batch],
        options: TrainOptions,
    ) -> None:
        self.options, self.header = options, header
        self.source, self.validation = train, validation
        self.augment, self.plain = augment, plain
        self.total = train.steps_per_epoch * options.nb_epoch
        self.progress = Progress()
        # Mixed precision is not left to accelerate: its setting is one per process, and there may be many runs in one.
        self.accelerator = Accelerator(cpu=options.device == "cpu", mixed_precision="no")
        wrapped = TrainingNet(net)
        optimizer = torch.optim.Adam(wrapped.parameters(), lr=options.lr)
        if net.ndim == 3 and self.accelerator.device.type == "cpu":
            # A fifth faster at width 8; in 2D it makes no difference.
            net.to(memory_format=torch.channels_last_3d)
        self.model, self.optimizer = self.accelerator.prepare(wrapped, optimizer)
        self.net = net
        self._stop = _StopSignal(self.accelerator.num_processes)
        self._saved: int | None = None

    # ---- one step --------------------------------------------------------------------------------------------------

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(_mixed_seed(self.options.seed, step, self.accelerator.process_index))

    def _augmented(self, step: int, raw: Batch) -> Batch:
        return self.augment(raw.to(self.accelerator.device), self._generator(step))

    def _step(self, step: int, raw: Batch) -> dict[str, Tensor]:
        """One optimizer step on a batch; returns the loss terms, on the device."""
        batch = self._augmented(step, raw)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.total, self.options)
        device_type = self.accelerator.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            maps = self.model(batch.image, batch.owner, batch.corner, batch.walk)
        terms = losses(maps, batch, self.options)
        total = sum(terms.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(total)
        self.optimizer.step()
        return {"loss": total.detach()} | {f"loss_{name}": term.detach() for name, term in terms.items()}

    def _draw(self, steps: Iterable[int]) -> Iterator[Batch]:
        """This process's batches of some steps; to be closed."""
        return drawn_ahead(self.source, steps, self.accelerator.process_index, self.accelerator.num_processes)

    @torch.no_grad()
    def settle(self) -> None:
        """Measure the batch-norm statistics of the present weights on the batches of the last steps.

        The running ones are a noisy mean where a batch holds few tiles, and they lag behind weights that change fast.
        A smaller momentum trades one for the other: on DRIVE at lr 1.5e-3 with two tiles a batch, the held-out loss
        in ``eval`` mode was 0.077 with momentum 0.1, 0.081 with 0.05, 0.1 to 0.6 with 0.02, and 0.063 measured so.
        Training itself uses neither. Done at the ends of epochs only, so that a run stopped elsewhere still goes on
        bit for bit. Frozen statistics stay as they are.
        """
        if self._frozen(self.progress.step - 1):
            return
        steps = range(max(0, self.progress.step - min(SETTLING, self.source.steps_per_epoch)), self.progress.step)
        model = self._bare()
        with closing(self._draw(steps)) as batches, fresh_statistics(model):
            for step, raw in zip(steps, batches, strict=True):
                batch = self._augmented(step, raw)
                model(batch.image, batch.owner, batch.corner, batch.walk)

    def _frozen(self, step: int) -> bool:
        """Whether the batch norms are frozen in this step."""
        return step >= self.total - self.options.frozen_epochs * self.source.steps_per_epoch

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and Dice of the three heads on the held-out images, a pixel being positive where its probability is ≥ 0.5."""
        model = self._bare()
        model.eval()
        rows = []
        with closing(drawn_ahead(self.validation, range(self.validation.steps_per_epoch))) as batches:
            for raw in batches:
                batch = self.plain(raw.to(self.accelerator.device))
                rows.append(self._scores(model(batch.image, batch.owner, batch.corner, batch.walk), batch))
        model.train()
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _scores(self, maps: Maps, batch: Batch) -> dict[str, float]:
        """Loss and Dice of one batch."""
        terms = losses(maps, batch, self.options)
        row = {"val_loss": float(sum(terms.values()))}
        for name in Maps._fields:
            prediction = probability(getattr(maps, name).float(), self.options.beta) >= 0.5
            counted = ~batch.ignored if name == "centerline" else True
            row[f"dice_{name}"] = float(dice(prediction & counted, getattr(batch, name) & counted))
        return row

    def _bare(self) -> TrainingNet:
        """The model without what makes it one of several processes."""
        return self.accelerator.unwrap_model(self.model)

    # ---- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train to the end of the schedule, or to ``max_steps``.

        Ctrl-C and SIGTERM end the run after the step in progress, which is saved; a second one ends it at once.

        Raises
        ------
        KeyboardInterrupt
            If the run was ended by such a signal, after saving; the scripts make exit code 130 of it.
        UserError
            If the run's folder cannot be written, its state does not fit, or the loss is no longer a number.
        """
        if self.options.resume:
            self._load_state()
        last = min(self.total, self.options.max_steps or self.total)
        main = self.accelerator.is_main_process
        with self._stop.watched(), RunLog(self.options.run, first_step=self.progress.step, active=main) as log:
            self._steps(log, last)
            if self._saved != self.progress.step:
                self._save(log)
        self.accelerator.wait_for_everyone()
        if self.progress.step < last:
            if main:
                _log.warning("stopped at step %d of %d and saved; --resume goes on", self.progress.step, self.total)
            raise KeyboardInterrupt
        return self.progress

    def _steps(self, log: RunLog, last: int) -> None:
        """Train up to step ``last``, or until told to stop."""
        shown = {"initial": self.progress.step, "total": self.total, "unit": "step"}
        per_epoch, stopped = self.source.steps_per_epoch, False
        with tqdm(disable=not self.accelerator.is_main_process, **shown) as bar:
            while self.progress.step < last and not stopped:
                epoch_end = (self.progress.step // per_epoch + 1) * per_epoch
                stopped = self._steps_of_epoch(range(self.progress.step, min(epoch_end, last)), log, bar)

    def _steps_of_epoch(self, steps: range, log: RunLog, bar: tqdm) -> bool:
        """Train some steps; returns whether told to stop.

        Batches are drawn ahead inside an epoch only, so that nothing else asks the source while it is settled.
        """
        self.model.train()
        if self._frozen(steps.start):
            freeze_norms(self.model)
        with closing(self._draw(steps)) as batches:
            for step, batch in zip(steps, batches, strict=True):
                terms = self._step(step, batch)
                self.progress.step = step + 1
                bar.update()
                self._after_step(terms, log, bar)
                if self._stop.agreed():
                    return True
        return False

    def _after_step(self, terms: Mapping[str, Tensor], log: RunLog, bar: tqdm) -> None:
        """Log, validate and save when it is time to."""
        done, per_epoch = self.progress.step, self.source.steps_per_epoch
        if done % self.options.log_every == 0 or done == self.total:
            row = {name: float(value) for name, value in terms.items()}
            if not math.isfinite(row["loss"]):
                raise UserError(f"the loss is {row['loss']} at step {done}; give a lower --lr, or a --warmup")
            log.row(done, done / per_epoch, row | {"lr": self.optimizer.param_groups[0]["lr"]})
            bar.set_postfix(loss=f"{row['loss']:.4f}")
        if done % per_epoch == 0 or done == self.total:
            self._validated(log)
        if done % self.options.save_every == 0:
            self._save(log)

    def _validated(self, log: RunLog) -> None:
        """Settle the statistics and validate, on the main process (the others take them over), and keep the best."""
        if not self.accelerator.is_main_process:
            return
        self.settle()
        scores = self.validate()
        log.row(self.progress.step, self.progress.step / self.source.steps_per_epoch, scores)
        mean = float(np.mean([scores[f"dice_{name}"] for name in Maps._fields]))
        if mean > self.progress.best:
            self.progress.best = mean
            self._save_weights(BEST_FILE, scores)

    # ---- checkpoints -----------------------------------------------------------------------------------------------

    def _save_weights(self, name: str, scores: Mapping[str, float]) -> None:
        header = asdict(self.header) | {"metrics": {"step": self.progress.step, **scores}}
        save_weights(self.options.run / name, self.net, WeightsHeader(**header))

    def _save(self, log: RunLog) -> None:
        """Checkpoint of this step: tensors for resuming, and the weights as they are."""
        self._saved = self.progress.step
        if not self.accelerator.is_main_process:
            return
        log.flush()
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        header = {"kind": _STATE_KIND, **asdict(self.progress), "total": self.total}
        save_tensors(self.options.run / STATE_FILE, tensors, header)
        self._save_weights(LAST_FILE, {})
        if self.progress.best < 0:
            self._save_weights(BEST_FILE, {})

    def _load_state(self) -> None:
        """Continue from the run's last checkpoint; from the start where there is none yet."""
        path = self.options.run / STATE_FILE
        if not path.is_file():
            return
        tensors, header = load_tensors(path)
        if header.get("kind") != _STATE_KIND:
            raise UserError(f"{path}: is not {_STATE_KIND}; train again, or give the file as --init")
        if header["total"] != self.total:
            found = f"was a run of {header['total']} steps, this one has {self.total}"
            raise UserError(f"{path}: {found}; give the options it was started with")
        try:
            self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": _adam_state(tensors), "param_groups": groups})
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path}: is of another network; give the options it was started with") from error
        self.progress = Progress(header["step"], header["best"])


def _adam_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Adam's part of a checkpoint, by number of the parameter."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    return state


class _StopSignal:
    """Notes Ctrl-C and SIGTERM, and makes all processes of a run stop at the same step.

    A process that stopped alone would leave the others waiting for its gradients.
    """

    def __init__(self, processes: int) -> None:
        self.wanted = False
        self._since = 0.0
        # Through gloo, in main memory: asking through the GPU would make every step wait for it.
        self._group = torch.distributed.new_group(backend="gloo") if processes > 1 else None

    def agreed(self) -> bool:
        """Whether any process has been told to stop; the same answer in all of them, which must all ask."""
        if self._group is None:
            return self.wanted
        flag = torch.tensor(int(self.wanted))
        torch.distributed.all_reduce(flag, group=self._group)
        return bool(flag)

    def _note(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if self.wanted and now - self._since > _DOUBLE_SIGNAL:
            raise KeyboardInterrupt
        self.wanted, self._since = True, now

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While inside, signals are noted; a second one raises KeyboardInterrupt."""
        if threading.current_thread() is not threading.main_thread():
            # Python allows handlers only in the main thread.
            yield
            return
        before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _mixed_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, without their patterns."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
