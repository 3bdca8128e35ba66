"""The training loop: steps, learning rate, validation, checkpoints, logs.

A run depends on its options alone: the batch of step ``n`` is drawn from the random seed and ``n``, and the learning
rate is computed from ``n``. A run resumed from a checkpoint therefore continues bit for bit like one that was never
stopped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import reduce

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from configs.options import TrainOptions
from lib.errors import UserError
from models.checkpoint import WeightsHeader, load_tensors, save_tensors, save_weights
from models.contract import crop_features, probability
from models.nenet import HEADS, Maps, NENet
from tools.data.batch_sources import BatchSource, prefetched
from tools.data.batches import Batch
from tools.Losses import dice, kind_cross_entropy, local_connectivity_loss, weighted_cross_entropy
from tools.training.log import RunLog
from tools.training.stop_signal import StopSignal

STATE_FILE, BEST_FILE, LAST_FILE = "state.safetensors", "best.safetensors", "last.safetensors"
_STATE_KIND = "the state of a run"
_log = logging.getLogger(__name__)

Augment = Callable[[Batch, torch.Generator], Batch]


class TrainingNet(nn.Module):
    """NENet with the forward pass of training: over tiles, and over states at positions inside them."""

    def __init__(self, net: NENet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, owner: Tensor, corner: Tensor, walk: Tensor) -> Maps:
        """Centerline logits of the tiles, node and edge logits of the states, logits of the kinds in the tiles.

        The parameters are the fields of the same names of :class:`~tools.data.batches.Batch`.
        """
        features = self.net.encode(image)
        shape = [size // factor for size, factor in zip(walk.shape[2:], self.net.stem, strict=True)]
        crops = crop_features(features, owner, corner // torch.tensor(self.net.stem), shape)
        node, edge = self.net.heads(crops, walk.to(crops.dtype))
        return Maps(self.net.centerline(features), node, edge, self.net.kind(features))


def losses(maps: Maps, batch: Batch, options: TrainOptions) -> dict[str, Tensor]:
    """The weighted terms of the loss ``L = L_cl + L_node + L_e + λ·L_conn`` (docs/paper.md §1).

    Parameters
    ----------
    maps
        Logits of the network.
    batch
        The targets.
    options
        β and the weights of the terms.

    Returns
    -------
    dict
        Scalars named ``centerline``, ``node``, ``edge`` and ``connectivity``, and ``kind`` where kinds are told apart.
    """
    beta = options.beta
    terms = {
        "centerline": weighted_cross_entropy(maps.centerline.float(), batch.centerline, beta, ignored=batch.ignored),
        "node": weighted_cross_entropy(maps.node.float(), batch.node, beta),
        "edge": options.edge_weight * weighted_cross_entropy(maps.edge.float(), batch.edge, beta),
        "connectivity": options.connectivity_weight * local_connectivity_loss(maps.edge.float(), batch.branch),
    }
    if maps.kind is not None:
        terms["kind"] = options.kind_weight * kind_cross_entropy(maps.kind.float(), batch.kind)
    return terms


def learning_rate(step: int, total: int, options: TrainOptions) -> float:
    """Learning rate of a step: a linear warm-up, then a cosine from ``lr`` to ``lr_final`` at step ``total``."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    share = (step - options.warmup) / max(total - options.warmup, 1)
    return options.lr_final + 0.5 * (options.lr - options.lr_final) * (1 + math.cos(math.pi * min(share, 1.0)))


def freeze_norms(net: nn.Module) -> None:
    """Make the batch norms use their running statistics without updating them, as in tracing."""
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


@dataclass
class Progress:
    """Progress of a run, stored in its checkpoint.

    Attributes
    ----------
    step
        Number of steps done.
    best
        Best mean Dice on the held-out images so far; -1 before the first validation.
    """

    step: int = 0
    best: float = -1.0


class Trainer:
    """One training run.

    Parameters
    ----------
    net
        The network; trained in place.
    header
        Header of the run's weight files, without metrics.
    train
        Source of training batches.
    validation
        Source of validation batches, of which one epoch is used.
    augment
        Turns a uint8 training batch into a float one, with random changes.
    plain
        Turns a uint8 validation batch into a float one.
    options
        The run's options; precision ``auto`` is treated as ``fp32``, layout ``auto`` as ``channels_first``.
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
        # step applies autocast: accelerate has one precision per process, but a process may run several trainings.
        self.accelerator = Accelerator(cpu=options.device == "cpu", mixed_precision="no")
        wrapped = TrainingNet(net.arrange(channels_last=options.layout == "channels_last"))
        optimizer = torch.optim.Adam(wrapped.parameters(), lr=options.lr, fused=True)
        self.model, self.optimizer = self.accelerator.prepare(wrapped, optimizer)
        self.net = net
        decay = 1 - 1 / max(1.0, options.average * self.total)
        self.average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self._stop = StopSignal(self.accelerator.num_processes)
        self._saved: int | None = None

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(_mixed_seed(self.options.seed, step, self.accelerator.process_index))

    def _augmented(self, step: int, raw: Batch) -> Batch:
        return self.augment(raw.to(self.accelerator.device), self._generator(step))

    def step(self, step: int, raw: Batch) -> dict[str, Tensor]:
        """Train on one batch; returns the loss and its terms, on the device."""
        batch = self._augmented(step, raw)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.total, self.options)
        device_type = self.accelerator.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            maps = self.model(batch.image, batch.owner, batch.corner, batch.walk)
        terms = losses(maps, batch, self.options)
        total = reduce(torch.add, terms.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.accelerator.backward(total)
        self.optimizer.step()
        self.average.update_parameters(self.net)
        return {"loss": total.detach()} | {f"loss_{name}": term.detach() for name, term in terms.items()}

    def draw(self, steps: Iterable[int]) -> Generator[Batch, None, None]:
        """This process's batches for the given steps; the caller closes the iterator."""
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return prefetched(self.source, steps, rank, world, pin=self._on_gpu)

    @property
    def _on_gpu(self) -> bool:
        return self.accelerator.device.type == "cuda"

    def _take_averaged_statistics(self) -> None:
        """Give the batch norms the running average of their statistics."""
        averaged = dict(self.averaged.named_buffers())
        for name, buffer in self.net.named_buffers():
            buffer.copy_(averaged[name])

    def _frozen(self, step: int) -> bool:
        """Whether the batch norms are frozen in a step."""
        return step >= self.total - self.options.frozen_epochs * self.source.steps_per_epoch

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and Dice of the three heads on the held-out images; pixels count as positive from probability 0.5 on.

        Returns
        -------
        dict
            ``val_loss`` and ``dice_<head>``, means over the batches; ``accuracy_kind`` where kinds are told apart.
        """
        model = TrainingNet(self.averaged).eval()
        rows = []
        with closing(prefetched(self.validation, range(self.validation.steps_per_epoch), pin=self._on_gpu)) as batches:
            for raw in batches:
                batch = self.plain(raw.to(self.accelerator.device))
                rows.append(self._scores(model(batch.image, batch.owner, batch.corner, batch.walk), batch))
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _scores(self, maps: Maps, batch: Batch) -> dict[str, float]:
        """Loss and Dice of one batch, and the share of pixels whose kind is right."""
        terms = losses(maps, batch, self.options)
        row = {"val_loss": float(sum(terms.values()))}
        for name in HEADS:
            prediction = probability(getattr(maps, name).float(), self.options.beta) >= 0.5
            counted = ~batch.ignored if name == "centerline" else True
            row[f"dice_{name}"] = float(dice(prediction & counted, getattr(batch, name) & counted))
        if maps.kind is not None:
            known = batch.kind > 0
            right = (maps.kind.argmax(dim=1) + 1 == batch.kind) & known
            row["accuracy_kind"] = float(right.sum() / known.sum().clamp(min=1))
        return row

    @property
    def averaged(self) -> NENet:
        """The network with the running average of the weights: the one that is validated and saved."""
        module = self.average.module
        assert isinstance(module, NENet)
        return module

    def run(self) -> Progress:
        """Train to the end of the schedule, or to ``max_steps``.

        Ctrl-C and SIGTERM stop the run after the current step and save it; a second one stops it at once.

        Raises
        ------
        KeyboardInterrupt
            If a signal stopped the run, after saving.
        UserError
            If the run's folder cannot be written, its checkpoint belongs to another run, or the loss is NaN or
            infinite.
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
        """Train up to step ``last``, or until a signal stops the run."""
        per_epoch, stopped = self.source.steps_per_epoch, False
        is_main = self.accelerator.is_main_process
        with tqdm(initial=self.progress.step, total=last, unit="step", disable=not is_main) as bar:
            while self.progress.step < last and not stopped:
                epoch_end = (self.progress.step // per_epoch + 1) * per_epoch
                stopped = self._steps_of_epoch(range(self.progress.step, min(epoch_end, last)), log, bar)

    def _steps_of_epoch(self, steps: range, log: RunLog, bar: tqdm) -> bool:
        """Train for some steps of one epoch; returns whether a signal stopped the run."""
        self.model.train()
        if self._frozen(steps.start):
            if not self._frozen(steps.start - 1):
                # Those of the last few batches are noisy.
                self._take_averaged_statistics()
            freeze_norms(self.model)
        with closing(self.draw(steps)) as batches:
            for step, batch in zip(steps, batches, strict=True):
                terms = self.step(step, batch)
                self.progress.step = step + 1
                bar.update()
                self._after_step(terms, log, bar)
                if self._stop.agreed():
                    return True
        return False

    def _after_step(self, terms: Mapping[str, Tensor], log: RunLog, bar: tqdm) -> None:
        """Log, validate and save, each at its interval."""
        done, per_epoch = self.progress.step, self.source.steps_per_epoch
        if done % self.options.log_every == 0 or done == self.total:
            row = {name: float(value) for name, value in terms.items()}
            self._check_finite(row["loss"])
            log.row(done, done / per_epoch, row | {"lr": self.optimizer.param_groups[0]["lr"]})
            bar.set_postfix(loss=f"{row['loss']:.4f}")
        if done % per_epoch == 0 or done == self.total:
            self._validate_and_keep_best(log, bar)
        if done % self.options.save_every == 0:
            self._save(log)

    def _check_finite(self, loss: float | None = None) -> None:
        """End the run if the loss or, where it is not given, a weight is not a finite number."""
        if loss is None and not all(bool(weight.isfinite().all()) for weight in self.net.parameters()):
            loss = math.nan
        if loss is not None and not math.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {self.progress.step}; give a lower --lr, or a --warmup")

    def _validate_and_keep_best(self, log: RunLog, bar: tqdm) -> None:
        """Validate on the main process and keep the best weights."""
        if not self.accelerator.is_main_process:
            return
        self._check_finite()
        bar.set_description("validating")
        scores = self.validate()
        bar.set_description()
        log.row(self.progress.step, self.progress.step / self.source.steps_per_epoch, scores)
        mean = float(np.mean([scores[f"dice_{name}"] for name in HEADS]))
        if mean > self.progress.best:
            self.progress.best = mean
            self._save_weights(BEST_FILE, scores)

    def _save_weights(self, name: str, scores: Mapping[str, float]) -> None:
        header = replace(self.header, metrics={"step": self.progress.step, **scores})
        save_weights(self.options.run / name, self.averaged, header)

    def _save(self, log: RunLog) -> None:
        """Write the checkpoint for resuming and the current weights."""
        self._check_finite()
        self._saved = self.progress.step
        if not self.accelerator.is_main_process:
            return
        log.flush()
        tensors = {f"net.{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        header = {"kind": _STATE_KIND, **asdict(self.progress), "total": self.total}
        save_tensors(self.options.run / STATE_FILE, tensors, header)
        self._save_weights(LAST_FILE, {})
        if self.progress.best < 0:
            self._save_weights(BEST_FILE, {})

    def _load_state(self) -> None:
        """Load the run's last checkpoint, if there is one."""
        path = self.options.run / STATE_FILE
        if not path.is_file():
            return
        tensors, header = load_tensors(path)
        if header.get("kind") != _STATE_KIND:
            raise UserError(f"{path}: is not {_STATE_KIND}; train again, or give the file as --init")
        if header["total"] != self.total:
            found = f"belongs to a run of {header['total']} steps, but this one has {self.total}"
            raise UserError(f"{path}: {found}; give the options it was started with")
        try:
            self.net.load_state_dict(_part(tensors, "net."))
            self.average.load_state_dict(_part(tensors, "average."))
            groups = self.optimizer.state_dict()["param_groups"]
            self.optimizer.load_state_dict({"state": _adam_state(tensors), "param_groups": groups})
            # The file has no memory layout, and the fused Adam takes that of the weights for granted.
            for weight, state in self.optimizer.state.items():
                state |= {name: torch.empty_like(weight).copy_(value) for name, value in state.items() if value.ndim}
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{path}: belongs to another network; give the options it was started with") from error
        self.progress = Progress(header["step"], header["best"])


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _adam_state(tensors: Mapping[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    """Adam's part of a checkpoint, by the index of the parameter."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("adam."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = tensor
    return state


def _mixed_seed(*numbers: int) -> int:
    """One well-mixed 63-bit random seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
