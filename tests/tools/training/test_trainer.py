"""The training loop: learning rate, crops, prefetched batches, checkpoints, bit-exact resuming, stopping, logs."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.options import TrainOptions
from lib.errors import UserError
from models.checkpoint import WeightsHeader, load_tensors, load_weights, save_tensors, save_weights
from models.nenet import NENet
from models.RPNet_2D import build_rpnet_2d
from tests.tools.training.training_runs import (
    PATCH,
    ROOT,
    SMALL,
    SPEC,
    assert_same_run,
    options,
    rows,
    start,
    training_image,
    words,
    write_dataset,
)
from tools.data.augment import to_unit
from tools.data.batch_sources import OnlinePatches, OnlineTiles, image_shares, prefetched
from tools.data.batches import Batch
from tools.data.prepared import PreparedDataset
from tools.data.training_image import Source
from tools.dataset_2d import augment_2d
from tools.training.log import RunLog
from tools.training.run import start_network, train_run
from tools.training.trainer import STATE_FILE, Trainer, TrainingNet, crop_features, freeze_norms, learning_rate, losses

SCRIPT = str(ROOT / "train_2D.py")
HEADER = WeightsHeader(2, 3, 4, "toy", 1.0, "centre", PATCH, 6.0, 2.0, "tile")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six steps."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train_run(options(data, run), SPEC)
    return run


# ---- pieces --------------------------------------------------------------------------------------------------------


def test_learning_rate_follows_a_cosine() -> None:
    chosen = TrainOptions(lr=1e-3, lr_final=1e-5)
    assert learning_rate(0, 100, chosen) == pytest.approx(1e-3)
    assert learning_rate(50, 100, chosen) == pytest.approx((1e-3 + 1e-5) / 2)
    assert learning_rate(100, 100, chosen) == pytest.approx(1e-5)
    assert learning_rate(99, 100, chosen) < learning_rate(98, 100, chosen)
    assert TrainOptions().lr == 3e-4 and TrainOptions().lr_final == 1e-7


def test_warmup() -> None:
    chosen = TrainOptions(lr=1e-3, lr_final=0, warmup=4)
    assert [learning_rate(step, 20, chosen) for step in range(5)] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3])
    assert learning_rate(20, 20, chosen) == pytest.approx(0)


def test_warmup_longer_than_the_run() -> None:
    assert learning_rate(5, 6, TrainOptions(lr=1.0, warmup=10)) == pytest.approx(0.6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_crops_and_their_gradient(ndim: int) -> None:
    features = torch.rand((2, 3, *(9,) * ndim), dtype=torch.float64, requires_grad=True)
    owner = torch.tensor([0, 1, 1])
    corner = torch.tensor([[0] * ndim, [5] * ndim, [3] * ndim])
    crops = crop_features(features, owner, corner, torch.Size((4,) * ndim))
    by_hand = [features[tile][(..., *(slice(c, c + 4),) * ndim)] for tile, c in ((0, 0), (1, 5), (1, 3))]
    assert torch.equal(crops, torch.stack(by_hand))
    weight = torch.rand_like(crops)
    (found,) = torch.autograd.grad((crops * weight).sum(), features)
    (wanted,) = torch.autograd.grad((torch.stack(by_hand) * weight).sum(), features)
    torch.testing.assert_close(found, wanted)


def test_crop_of_a_whole_patch_is_the_patch() -> None:
    features = torch.rand(2, 3, 8, 8)
    owner, corner = torch.tensor([1, 1]), torch.zeros((2, 2), dtype=torch.int64)
    assert torch.equal(crop_features(features, owner, corner, torch.Size((8, 8))), features[[1, 1]])


def test_loss_terms(data: Path) -> None:
    source = OnlineTiles([training_image("a", 0)], 1, 2, 4, (64, 64), PATCH, 0)
    batch = to_unit(source.batch(0))
    maps = TrainingNet(NENet(2, 3, 2))(batch.image, batch.owner, batch.corner, batch.walk)
    terms = losses(maps, batch, TrainOptions())
    assert terms.keys() == {"centerline", "node", "edge", "connectivity"}
    weighted = losses(maps, batch, TrainOptions(edge_weight=0.5, connectivity_weight=2))
    assert weighted == terms | {"edge": terms["edge"] / 2, "connectivity": 2 * terms["connectivity"]}


def test_edge_head_is_untrained_without_its_losses() -> None:
    source = OnlineTiles([training_image("a", 0)], 1, 2, 4, (64, 64), PATCH, 0)
    net = NENet(2, 3, 2)
    batch = to_unit(source.batch(0))
    maps = TrainingNet(net)(batch.image, batch.owner, batch.corner, batch.walk)
    sum(losses(maps, batch, TrainOptions(edge_weight=0, connectivity_weight=0)).values()).backward()
    assert all(not part.grad.any() for part in net.edge_head.parameters())
    assert all(part.grad.any() for part in net.node_head[-1].parameters())


# ---- frozen batch norms --------------------------------------------------------------------------------------------


def statistics(path: Path, prefix: str) -> dict[str, torch.Tensor]:
    """Running batch-norm statistics in a checkpoint, of the network or of the averaged one."""
    tensors = load_tensors(path / STATE_FILE)[0]
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix) and "running_" in k}


def test_frozen_norms_keep_the_averaged_statistics(data: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    chosen = {"frozen_epochs": 1, "average": 0.4}
    train_run(options(data, whole, **chosen), SPEC)
    for last in (3, 5, 6):  # the end of the first epoch, the middle of the frozen one, the end
        train_run(options(data, parts, **chosen, max_steps=last, resume=last > 3), SPEC)
        if last == 3:
            averaged = statistics(parts, "average.module.")
            assert not all(torch.equal(averaged[name], tensor) for name, tensor in statistics(parts, "net.").items())
    assert_same_run(whole, parts)
    found = statistics(whole, "net.")
    assert found.keys() == averaged.keys() and all(torch.equal(found[name], averaged[name]) for name in averaged)
    train_run(options(data, tmp_path / "free", average=0.4), SPEC)
    free = statistics(tmp_path / "free", "net.")
    assert not all(torch.equal(tensor, averaged[name]) for name, tensor in free.items())


def test_saved_weights_are_a_running_average(data: Path, tmp_path: Path) -> None:
    """Over half of six steps the newest weights count a third, as in a mean over three steps."""
    nets = []
    for steps in range(1, 7):
        train_run(options(data, tmp_path, average=0.5, max_steps=steps, resume=steps > 1), SPEC)
        nets.append(load_tensors(tmp_path / STATE_FILE)[0])
    name = "first.conv1.weight"
    expected = nets[0][f"net.{name}"]
    for state in nets[1:]:
        expected = expected + (state[f"net.{name}"] - expected) / 3
        torch.testing.assert_close(state[f"average.module.{name}"], expected)
    saved = load_tensors(tmp_path / "last.safetensors")[0][name].float()
    torch.testing.assert_close(saved, expected, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(saved, nets[-1][f"net.{name}"], rtol=1e-3, atol=1e-4)


def test_frozen_norms_compute_the_same_as_in_tracing() -> None:
    net, image = NENet(2, 3, 2), torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        free = net.centerline(net.encode(image))
        traced = net.eval().centerline(net.encode(image))
        freeze_norms(net.train())
        frozen = net.centerline(net.encode(image))
    assert torch.equal(frozen, traced) and not torch.allclose(free, traced)


# ---- sources -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tiles", "patches"])
def test_batch_is_a_function_of_seed_step_and_rank(kind: str) -> None:
    training_images = [training_image("a", 0), training_image("b", 1)]

    def batch(seed: int, step: int, rank: int = 0) -> Batch:
        if kind == "tiles":
            return OnlineTiles(training_images, 1, 4, 4, (64, 64), PATCH, seed).batch(step, rank, 2)
        return OnlinePatches(training_images, 1, 16, PATCH, seed).batch(step, rank, 2)

    first, same = batch(0, 3), batch(0, 3)
    assert all(torch.equal(getattr(first, name), getattr(same, name)) for name in vars(first))
    assert len(first.image) == (2 if kind == "tiles" else 8)
    for other in (batch(0, 4), batch(1, 3), batch(0, 3, rank=1)):
        assert not torch.equal(first.image, other.image)


class Numbers:
    """A batch source that returns the arguments of each call."""

    steps_per_epoch = 100

    def __init__(self, bad: int = -1) -> None:
        self.asked: list[int] = []
        self.bad = bad

    def batch(self, step: int, rank: int = 0, world: int = 1) -> tuple[int, int, int]:
        self.asked.append(step)
        if step == self.bad:
            raise UserError("stack.tif: broken")
        return step, rank, world


def test_batches_are_prefetched_in_order_for_this_process() -> None:
    assert list(prefetched(Numbers(), range(3, 9), 1, 2)) == [(step, 1, 2) for step in range(3, 9)]
    assert list(prefetched(Numbers(), range(0))) == []


def test_few_batches_are_prefetched_and_the_thread_ends() -> None:
    source, before = Numbers(), threading.active_count()
    with closing(prefetched(source, range(100))) as batches:
        assert next(batches)[0] == 0
        time.sleep(0.05)
        assert source.asked == [0, 1, 2]
    assert threading.active_count() == before


def test_error_in_the_thread_is_raised_unchanged() -> None:
    batches: Iterator = prefetched(Numbers(bad=4), range(9))
    assert [next(batches)[0] for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(UserError, match=r"stack\.tif: broken"):
        next(batches)


# ---- whole runs ----------------------------------------------------------------------------------------------------


def test_loss_decreases_and_all_files_are_written(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    changed = {"nb_epoch": 3, "epoch_size": 120, "log_every": 5, "width": 4}
    assert train_run(options(data, run, **changed), SPEC).step == 45
    losses = [float(row["loss"]) for row in rows(run) if row["loss"]]
    dice = [float(row["dice_centerline"]) for row in rows(run) if row["dice_centerline"]]
    assert len(losses) == 9 and len(dice) == 3
    assert losses[-1] < 0.6 * losses[0] and dice[-1] > dice[0]
    found = {path.name for path in run.iterdir()}
    assert found == {
        *("best.safetensors", "last.safetensors", "state.safetensors"),
        *("metrics.csv", "curves.png", "options.json", "tensorboard"),
    }
    assert list((run / "tensorboard").iterdir())
    net, header = load_weights(run / "best.safetensors", ndim=2)
    assert (net.width, header.dataset, header.features) == (4, "custom", "tile")
    assert header.metrics.keys() >= {"step", "val_loss", "dice_edge"} and header.training["hold_out"] == ["b"]


@pytest.mark.parametrize(
    "changed",
    [{"features": "patch"}, {"features": "patch", "sampling": "stacks"}, {"precision": "bf16"}, {"precision": "auto"}],
    ids=lambda changed: "-".join(changed.values()),
)
def test_other_modes_of_training(data: Path, tmp_path: Path, changed: dict[str, str]) -> None:
    assert train_run(options(data, tmp_path, max_steps=2, **changed), SPEC).step == 2
    assert len(rows(tmp_path)) == 2
    assert load_weights(tmp_path / "last.safetensors")[0].width == SMALL["width"]


def trainer(run: Path, *, nb_epoch: int = 1, steps: int = 24, **changed: object) -> Trainer:
    training_images = [training_image("a", 0), training_image("b", 1)]
    torch.manual_seed(0)
    return Trainer(
        build_rpnet_2d(4),
        HEADER,
        OnlineTiles(training_images, steps, 2, 4, (64, 64), PATCH, 0),
        OnlineTiles(training_images, 1, 8, 4, (64, 64), PATCH, 9),
        lambda batch, generator: augment_2d(batch, generator, turn=False),
        to_unit,
        replace(TrainOptions(), **{**SMALL, "run": run, "nb_epoch": nb_epoch, **changed}),
    )


def test_nan_loss_ends_the_run(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    made.augment = lambda batch, generator: to_unit(batch).with_image(batch.image.float() * float("nan"))
    with pytest.raises(UserError, match="the loss is nan at step 1; give a lower --lr"):
        made.run()
    assert not (tmp_path / STATE_FILE).exists()


def test_error_in_a_source_ends_the_run_unchanged(tmp_path: Path) -> None:
    made = trainer(tmp_path)

    class Broken(OnlineTiles):
        def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
            if step == 2:
                raise UserError("stack.tif: broken")
            return super().batch(step, rank, world)

    made.source = Broken(**vars(made.source))
    with pytest.raises(UserError, match=r"stack\.tif: broken"):
        made.run()
    assert made.progress.step == 2


# ---- resuming ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [3, 4])
def test_resumed_run_equals_uninterrupted_run(data: Path, whole: Path, tmp_path: Path, stop: int) -> None:
    """Stopped at the end of an epoch, and inside one."""
    assert train_run(options(data, tmp_path, max_steps=stop), SPEC).step == stop
    assert train_run(options(data, tmp_path, resume=True), SPEC).step == 6
    assert_same_run(tmp_path, whole)


def test_resume_without_a_checkpoint_starts_a_run(data: Path, whole: Path, tmp_path: Path) -> None:
    train_run(options(data, tmp_path, resume=True), SPEC)
    assert_same_run(tmp_path, whole)


def test_resuming_a_finished_run_changes_nothing(data: Path, whole: Path) -> None:
    before = rows(whole)
    assert train_run(options(data, whole, resume=True), SPEC).step == 6
    assert rows(whole) == before


def started(run: Path, process, *, file: str = "metrics.csv", count: int = 1) -> None:
    """Wait until a run has written ``count`` lines."""
    path = run / file
    while not path.is_file() or path.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def test_killed_and_resumed_run_equals_uninterrupted_run(data: Path, tmp_path: Path) -> None:
    """SIGKILL while a run saves after every step; the resumed run ends with the same files."""
    changed = {"epoch_size": 80, "nb_epoch": 1, "save_every": 1}
    process = start(SCRIPT, *words(data, tmp_path / "killed", **changed))
    started(tmp_path / "killed", process, count=3)
    time.sleep(0.15)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    step = load_tensors(tmp_path / "killed" / STATE_FILE)[1]["step"]
    assert 1 <= step < 10
    # A kill while writing leaves a temporary file or an incomplete row.
    (tmp_path / "killed" / f".{STATE_FILE}.1.tmp").write_bytes(b"half")
    with (tmp_path / "killed" / "metrics.csv").open("a") as file:
        file.write("9,0.9")
    changed["save_every"] = 1000
    train_run(options(data, tmp_path / "killed", resume=True, **changed), SPEC)
    train_run(options(data, tmp_path / "whole", **changed), SPEC)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert not list((tmp_path / "killed").glob(".*"))


def test_ctrl_c_saves_and_reports_it(data: Path, tmp_path: Path) -> None:
    process = start(SCRIPT, *words(data, tmp_path, nb_epoch=500, epoch_size=80, save_every=100_000))
    started(tmp_path, process, count=4)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    step = load_tensors(tmp_path / STATE_FILE)[1]["step"]
    assert errors.splitlines()[-1] == f"stopped at step {step} of 5000 and saved; --resume goes on"
    assert int(rows(tmp_path)[-1]["step"]) == step
    assert load_weights(tmp_path / "last.safetensors")[1].metrics["step"] == step


def state_refused(run: Path) -> str:
    with pytest.raises(UserError) as error:
        trainer(run, resume=True).run()
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{run / STATE_FILE}: ")


def test_unsuitable_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / STATE_FILE
    save_weights(path, build_rpnet_2d(4), HEADER)
    assert state_refused(tmp_path).startswith("is not the state of a run")
    header = {"kind": "the state of a run", "step": 1, "best": 0.1, "total": 24}
    save_tensors(path, {}, header | {"total": 7})
    assert (
        state_refused(tmp_path)
        == "belongs to a run of 7 steps, but this one has 24; give the options it was started with"
    )
    net = {f"net.{name}": tensor for name, tensor in build_rpnet_2d(2).state_dict().items()}
    save_tensors(path, net, header)
    assert state_refused(tmp_path) == "belongs to another network; give the options it was started with"
    path.write_bytes(path.read_bytes()[:1000])
    assert state_refused(tmp_path).startswith("damaged or not a safetensors file")


# ---- the log -------------------------------------------------------------------------------------------------------


def test_log_drops_rows_after_the_resumed_step(tmp_path: Path) -> None:
    with RunLog(tmp_path, first_step=0) as log:
        for step in (1, 2, 3):
            log.row(step, step / 2, {"loss": 0.5})
    with RunLog(tmp_path, first_step=2) as log:
        assert [row["step"] for row in rows(tmp_path)] == ["1", "2"]
        log.flush()
    with RunLog(tmp_path, first_step=0):
        assert rows(tmp_path) == []


def test_inactive_log_writes_nothing(tmp_path: Path) -> None:
    with RunLog(tmp_path / "run", first_step=0, active=False) as log:
        log.row(1, 1, {"loss": 0.5})
        log.flush()
    assert not list(tmp_path.iterdir())


def test_unwritable_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match=r"metrics\.csv: cannot be written"):
        RunLog(tmp_path / "run", first_step=0)


def test_weights_that_are_no_numbers_are_not_saved_between_two_rows_of_the_log(tmp_path: Path) -> None:
    made = trainer(tmp_path, log_every=1000, save_every=1, max_steps=2)
    made.augment = lambda batch, generator: to_unit(batch).with_image(batch.image.float() * float("nan"))
    with pytest.raises(UserError, match="the loss is nan at step 1; give a lower --lr"):
        made.run()
    assert not [path for path in tmp_path.rglob("*.safetensors")]


# ---- kinds of tube -------------------------------------------------------------------------------------------------


def test_a_network_learns_to_tell_kinds_apart(tmp_path: Path, whole: Path) -> None:
    folder = write_dataset(tmp_path / "data", kinds=True)
    chosen = options(folder, tmp_path / "run", crossings=0.5, equal_parts=True, init=whole / "last.safetensors")
    train_run(chosen, SPEC)
    net, header = load_weights(tmp_path / "run" / "last.safetensors")
    assert header.kinds == net.kinds == 2
    found = rows(tmp_path / "run")
    assert all(float(row["loss_kind"]) > 0 for row in found if row["loss"])
    assert all(0 <= float(row["accuracy_kind"]) <= 1 for row in found if row["val_loss"])
    # All but the new head began with the given weights, which have no kinds.
    before, _ = load_weights(whole / "last.safetensors")
    begun = start_network(build_rpnet_2d, chosen, PreparedDataset.load(folder)).state_dict()
    assert all(torch.equal(begun[name], tensor) for name, tensor in before.state_dict().items())
    assert {name.split(".")[0] for name in begun.keys() - before.state_dict().keys()} == {"kind_head"}


# ---- local contrast ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sampling", "features"), [("online", "tile"), ("stacks", "patch")])
def test_weights_of_photographs_learn_to_see_local_contrast(
    tmp_path: Path, whole: Path, sampling: str, features: str
) -> None:
    folder, init = write_dataset(tmp_path / "data", kinds=True, local_contrast=30.0), whole / "last.safetensors"
    chosen = options(folder, tmp_path / "run", init=init, sampling=sampling, features=features)
    before, _ = load_weights(init)
    begun = start_network(build_rpnet_2d, chosen, PreparedDataset.load(folder))
    image = torch.rand(1, 6, 64, 64)
    torch.testing.assert_close(begun.eval().encode(image), before.eval().encode(image[:, :3]))
    train_run(chosen, SPEC)
    net, header = load_weights(tmp_path / "run" / "last.safetensors")
    assert header.local_contrast == 30.0 and header.in_channels == net.in_channels == 6
    assert net.first.conv1.weight[:, 3:].abs().max() > 1e-3
    # With another window, or with none, it would see something else.
    for sigma, wrong in ((40.0, "saw --local_contrast 30, the data has 40"), (0.0, "the data has 0")):
        other = write_dataset(tmp_path / f"data{sigma}", local_contrast=sigma)
        with pytest.raises(UserError, match=wrong):
            train_run(options(other, tmp_path / "other", init=tmp_path / "run" / "last.safetensors"), SPEC)


def test_each_dataset_has_an_equal_part_of_the_tiles() -> None:
    one, two = training_image("a", 0), training_image("b", 1)
    images = [replace(one, source=Source(name)) for name in ("X", "Y", "Y", "Y")] + [two]
    shares = image_shares(images, equal_parts=True)
    np.testing.assert_allclose([shares[0], shares[1:4].sum(), shares[4]], 1 / 3)
    assert image_shares(images)[0] == pytest.approx(image_shares(images)[1])
