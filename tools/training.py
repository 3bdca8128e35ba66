"""The training loop: batches, losses, schedule, checkpoints, logs.

A run is a pure function of its options: the batch of step ``n`` is drawn from the seed and ``n`` alone, and the learning
rate is computed from ``n``. So a run resumed from the checkpoint of step ``n`` goes on bit for bit as if never stopped.
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from configs.options import TrainOptions
from lib.errors import UserError
from models.checkpoint import WeightsHeader, load_tensors, load_weights, save_tensors, save_weights
from models.nenet import Maps, NENet
from tools.Losses import chance, dice, local_connectivity_loss, weighted_cross_entropy
from tools.runlog import RunLog
from tools.scenes import Batch

STATE_FILE, BEST_FILE, LAST_FILE = "state.safetensors", "best.safetensors", "last.safetensors"
OPTIONS_FILE = "options.json"

Augment = Callable[[Batch, torch.Generator], Batch]


class BatchSource(Protocol):
    """Where training batches come from."""

    steps_per_epoch: int

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Batch of a step, uint8 images, the share of process ``rank`` of ``world``."""
        ...


class TrainingNet(nn.Module):
    """NENet as training calls it: one forward pass over tiles and the states inside them (what DDP wraps)."""

    def __init__(self, net: NENet) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, owner: Tensor, corner: Tensor, walk: Tensor) -> Maps:
        """Tiles ``(T, C, *S)`` and states (see :class:`~tools.scenes.Batch`) to maps: centerline of tiles, rest of states."""
        features = self.net.encode(image)
        crops = crop_features(features, owner, corner, walk.shape[2:])
        node, edge = self.net.heads(crops, walk.to(crops.dtype))
        return Maps(self.net.centerline(features), node, edge)


def crop_features(features: Tensor, owner: Tensor, corner: Tensor, shape: torch.Size) -> Tensor:
    """Crops ``(K, W, *shape)`` of ``features`` ``(T, W, *S)``, at integer ``corner`` ``(K, ndim)`` of tile ``owner``."""
    if features.shape[2:] == shape:
        return features[owner]
    places = zip(owner.tolist(), corner.tolist(), strict=True)
    boxes = ([slice(a, a + size) for a, size in zip(low, shape, strict=True)] for _, low in places)
    return torch.stack([features[(tile, slice(None), *box)] for tile, box in zip(owner.tolist(), boxes, strict=True)])


def losses(maps: Maps, batch: Batch, beta: float, connectivity_weight: float) -> dict[str, Tensor]:
    """The terms of ``L = L_cl + L_node + L_e + λ·L_conn`` (paper, "Loss functions"); the last is already times λ."""
    return {
        "centerline": weighted_cross_entropy(maps.centerline.float(), batch.centerline, beta),
        "node": weighted_cross_entropy(maps.node.float(), batch.node, beta),
        "edge": weighted_cross_entropy(maps.edge.float(), batch.edge, beta),
        "connectivity": connectivity_weight * local_connectivity_loss(maps.edge.float(), batch.branch),
    }


def learning_rate(step: int, total: int, options: TrainOptions) -> float:
    """Cosine from ``lr`` to ``lr_final`` over ``total`` steps, after a linear warm-up."""
    if step < options.warmup:
        return options.lr * (step + 1) / options.warmup
    share = (step - options.warmup) / max(total - options.warmup, 1)
    return options.lr_final + 0.5 * (options.lr - options.lr_final) * (1 + math.cos(math.pi * min(share, 1.0)))


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
        The run's options.
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
        wrapped = TrainingNet(net)
        precision = options.precision if options.precision != "auto" else "fp32"
        mixed = "bf16" if precision == "bf16" else "no"
        self.accelerator = Accelerator(cpu=options.device == "cpu", mixed_precision=mixed)
        optimizer = torch.optim.Adam(wrapped.parameters(), lr=options.lr)
        self.model, self.optimizer = self.accelerator.prepare(wrapped, optimizer)
        self.net = net
        self._interrupted = False

    # ---- one step --------------------------------------------------------------------------------------------------

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(_mixed_seed(self.options.seed, step, self.accelerator.process_index))

    def _step(self, step: int) -> dict[str, Tensor]:
        """One optimizer step; returns the loss terms, on the device."""
        accelerator = self.accelerator
        raw = self.source.batch(step, accelerator.process_index, accelerator.num_processes)
        batch = self.augment(raw.to(accelerator.device), self._generator(step))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.total, self.options)
        maps = self.model(batch.image, batch.owner, batch.corner, batch.walk)
        terms = losses(maps, batch, self.options.beta, self.options.connectivity_weight)
        total = sum(terms.values())
        self.optimizer.zero_grad(set_to_none=True)
        accelerator.backward(total)
        self.optimizer.step()
        return {"loss": total.detach()} | {f"loss_{name}": term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Loss and Dice of the three heads on the held-out images, a pixel being positive where its chance is ≥ 0.5."""
        self.model.eval()
        rows = []
        for step in range(self.validation.steps_per_epoch):
            batch = self.plain(self.validation.batch(step).to(self.accelerator.device))
            maps = TrainingNet.forward(self._bare(), batch.image, batch.owner, batch.corner, batch.walk)
            terms = losses(maps, batch, self.options.beta, self.options.connectivity_weight)
            row = {"val_loss": float(sum(terms.values()))}
            for name in Maps._fields:
                prediction = chance(getattr(maps, name).float(), self.options.beta) >= 0.5
                row[f"dice_{name}"] = float(dice(prediction, getattr(batch, name)))
            rows.append(row)
        self.model.train()
        return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}

    def _bare(self) -> TrainingNet:
        return self.accelerator.unwrap_model(self.model)

    # ---- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> Progress:
        """Train to the end of the schedule, or until interrupted (Ctrl-C, SIGTERM): then the last step is saved."""
        options = self.options
        if options.resume:
            self._load_state()
        log = RunLog(options.run, first_step=self.progress.step, active=self.accelerator.is_main_process)
        self.model.train()
        last = min(self.total, options.max_steps or self.total)
        with self._interruptible(), log:
            bar = tqdm(
                range(self.progress.step, last),
                initial=self.progress.step,
                total=self.total,
                unit="step",
                disable=not self.accelerator.is_main_process,
            )
            for step in bar:
                terms = self._step(step)
                self.progress.step = step + 1
                self._after_step(terms, log, bar)
                if self._interrupted:
                    break
        self._save(log)
        return self.progress

    def _after_step(self, terms: Mapping[str, Tensor], log: RunLog, bar: tqdm) -> None:
        """Log, validate and save when it is time to."""
        done, per_epoch = self.progress.step, self.source.steps_per_epoch
        if done % self.options.log_every == 0 or done == self.total:
            row = {name: float(value) for name, value in terms.items()}
            row |= {"lr": self.optimizer.param_groups[0]["lr"]}
            log.row(done, done / per_epoch, row)
            bar.set_postfix(loss=f"{row['loss']:.4f}")
        if done % per_epoch == 0 or done == self.total:
            self._validated(log)
        if done % self.options.save_every == 0:
            self._save(log)

    def _validated(self, log: RunLog) -> None:
        """Validate on the main process and keep the best weights."""
        if not self.accelerator.is_main_process:
            return
        scores = self.validate()
        log.row(self.progress.step, self.progress.step / self.source.steps_per_epoch, scores)
        mean = float(np.mean([scores[f"dice_{name}"] for name in Maps._fields]))
        if mean > self.progress.best:
            self.progress.best = mean
            self._save_weights(BEST_FILE, scores)

    def _save_weights(self, name: str, scores: Mapping[str, float]) -> None:
        header = asdict(self.header) | {"metrics": {"step": self.progress.step, **scores}}
        save_weights(self.options.run / name, self._bare().net, WeightsHeader(**header))

    def _save(self, log: RunLog) -> None:
        """Checkpoint of this step: tensors for resuming, and the weights as they are."""
        if not self.accelerator.is_main_process:
            return
        log.flush()
        tensors = {f"net.{name}": tensor for name, tensor in self._bare().net.state_dict().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in state.items()}
        header = {"kind": "the state of a run", **asdict(self.progress), "total": self.total}
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
        if header.get("total") != self.total:
            raise UserError(f"{path}: was a run of {header.get('total')} steps, this one has {self.total}; use its options")
        self.progress = Progress(header["step"], header["best"])
        network = {k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")}
        self._bare().net.load_state_dict(network)
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".", 2)
                state.setdefault(int(index), {})[key] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the run after the step in progress; a second one ends it at once."""

        def stop(number: int, frame: Any) -> None:
            if self._interrupted:
                raise KeyboardInterrupt
            self._interrupted = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _mixed_seed(*numbers: int) -> int:
    """One 63-bit seed from several numbers, without their patterns."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def step_rng(seed: int, step: int, rank: int) -> np.random.Generator:
    """Generator of one step's batch."""
    return np.random.default_rng([seed, step, rank])


def faster_precision(net: NENet, batch: Batch, device: torch.device, *, repeats: int = 3) -> str:
    """``bf16`` or ``fp32``, whichever runs a training step of this network on this device faster, measured now."""
    model = TrainingNet(net).to(device)
    batch = batch.to(device)
    seconds = {}
    for precision in ("fp32", "bf16"):
        times = []
        for _ in range(repeats):
            started = time.perf_counter()
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                maps = model(batch.image, batch.owner, batch.corner, batch.walk)
            sum(m.float().mean() for m in maps).backward()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
        seconds[precision] = min(times)
    model.zero_grad(set_to_none=True)
    return min(seconds, key=seconds.__getitem__)


def start_network(build: Callable[[int], NENet], options: TrainOptions) -> NENet:
    """A fresh network from the seed, or the weights of ``--init``."""
    if options.init is not None:
        net, header = load_weights(options.init)
        if header.width != options.width:
            raise UserError(f"{options.init}: width {header.width}, but --width is {options.width}; give the same")
        return net.train()
    torch.manual_seed(options.seed)
    return build(options.width)


def write_options(options: TrainOptions) -> None:
    """Keep the run's options beside its checkpoints."""
    options.run.mkdir(parents=True, exist_ok=True)
    (options.run / OPTIONS_FILE).write_text(json.dumps(asdict(options), indent=2, default=str) + "\n")
