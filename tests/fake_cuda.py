"""A CUDA device without a GPU: tensors that say they are on ``cuda`` hold CPU data, and refuse what CUDA would.

Three kinds of faults raise an AssertionError that names the line of this repository:

* an operation that mixes devices; only a single CPU number may take part in one that works pixel by pixel,
* inside :meth:`FakeCuda.step`, anything that makes the CPU wait for the GPU,
* calls that only work on a CPU, and random generators of the wrong device.

To PyTorch's C++ code the tensors are on the CPU, so that autograd and autocast work in a build without CUDA.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NoReturn, cast
from unittest.mock import patch

import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

ROOT = Path(__file__).parents[1]
CUDA = torch.device("cuda", 0)
_aten = torch.ops.aten
_WAITING_TAGS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_DECOMPOSED = "CompositeImplicitAutograd"
"""Operations that are made of others; in inference mode they come whole."""
_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_"}
_COPIES = {"aten::copy_", "aten::_to_copy"}
_CPU_ONLY = {"aten::mkldnn_convolution", "aten::to_mkldnn"}


class CudaTensor(Tensor):
    """A tensor that says it is on ``cuda``; ``held`` is its CPU tensor."""

    held: Tensor
    device = CUDA  # pyright: ignore
    is_cuda, is_cpu = True, False  # pyright: ignore
    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore

    def __new__(cls, held: Tensor) -> CudaTensor:
        """Wrap a CPU tensor."""
        made = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> NoReturn:
        raise AssertionError(f"{func} on a tensor of a fake GPU, outside of its context")

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        with torch.no_grad():
            copied = self.clone()
        memo[id(self)] = torch.nn.Parameter(copied, self.requires_grad) if hasattr(self, "_is_param") else copied
        return memo[id(self)]

    # With these two, Module.to gives a parameter the new class in place.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> CudaTensor:
        return CudaTensor(inner["held"])


class CudaGenerator(torch.Generator):
    """A generator that says on which device it is."""

    place: str

    def __new__(cls, device: Any = "cpu") -> CudaGenerator:
        made = super().__new__(cls)
        made.place = torch.device(device).type
        return made

    def manual_seed(self, seed: int) -> CudaGenerator:
        """Set the seed; returns the generator itself."""
        super().manual_seed(seed)
        return self


def fault(what: str) -> NoReturn:
    """Raise an AssertionError that names the innermost line of this repository."""
    frame = sys._getframe(1)
    while frame and (frame.f_code.co_filename == __file__ or not _own(frame.f_code.co_filename)):
        frame = cast("Any", frame.f_back)
    place = f"{Path(frame.f_code.co_filename).relative_to(ROOT)}:{frame.f_lineno}" if frame else "outside"
    raise AssertionError(f"{place}: {what}")


def _own(file: str) -> bool:
    return file.startswith(f"{ROOT}/") and "site-packages" not in file


def _tensors(*values: Any) -> Iterator[Tensor]:
    """The tensors among the values, and those in lists and dicts among them."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple, dict)):
            yield from _tensors(*(value.values() if isinstance(value, dict) else value))


def _cuda(*values: Any) -> bool:
    """Whether a tensor among the values is on the fake GPU."""
    return any(isinstance(tensor, CudaTensor) for tensor in _tensors(*values))


def _held(value: Any) -> Any:
    return value.held if isinstance(value, CudaTensor) else value


class FakeCuda:
    """A GPU; active inside :meth:`active`.

    Attributes
    ----------
    copies
        Copies to the CPU made so far.
    pinned
        Tensors put into page-locked memory so far.
    """

    def __init__(self) -> None:
        self.copies = self.pinned = 0
        self._allowed: int | None = None
        self._inside = False

    @contextmanager
    def active(self) -> Iterator[FakeCuda]:
        """Make torch and accelerate believe in the GPU, and watch what happens on it."""
        autocast = torch.autocast
        answers: dict[str, Any] = {"is_available": True, "device_count": 1, "current_device": 0, "set_device": None}
        answers |= {"mem_get_info": (int(8e9), int(8e9)), "memory_reserved": 0, "memory_allocated": 0}
        with ExitStack() as stack:
            for name, answer in answers.items():
                stack.enter_context(patch.object(torch.cuda, name, lambda *_, answer=answer: answer))
            stack.enter_context(patch.object(torch.cuda, "synchronize", lambda *_: self.waits("synchronize")))
            stack.enter_context(patch.object(torch, "Generator", CudaGenerator))
            # Not by the modes below: they are for one thread, and batches are drawn in another.
            stack.enter_context(patch.object(Tensor, "pin_memory", self._pin))
            stack.enter_context(
                patch.object(torch, "autocast", lambda _, *rest, **more: autocast("cpu", *rest, **more))
            )
            for state in (PartialState, AcceleratorState):
                stack.enter_context(patch.dict(state._shared_state, clear=True))
            stack.enter_context(_Operations(self))
            stack.enter_context(_Functions(self))
            yield self

    @contextmanager
    def step(self, copies: int = 0) -> Iterator[None]:
        """Refuse to wait for the GPU inside, but for so many copies to the CPU."""
        before, self._allowed = self._allowed, copies
        try:
            yield
        finally:
            self._allowed = before

    def waits(self, what: str) -> None:
        """Count something that waits for the GPU as a fault, inside a step."""
        if self._allowed is not None:
            fault(f"{what} waits for the GPU")

    def copy_back(self) -> None:
        """Count a copy to the CPU."""
        self.copies += 1
        if not self._allowed:
            self.waits("a copy to the CPU")
        else:
            self._allowed -= 1

    def _pin(self, tensor: Tensor) -> Tensor:
        self.pinned += 1
        return tensor

    @contextmanager
    def inside(self, on_gpu: bool) -> Iterator[None]:
        """Put tensors that PyTorch makes of itself, such as zeros in a backward pass, on the GPU."""
        before, self._inside = self._inside, on_gpu or self._inside
        try:
            yield
        finally:
            self._inside = before

    # ---- calls from Python ------------------------------------------------------------------------------------------

    def call(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        """A function of torch: conversions, and functions that make tensors on a device."""
        name = getattr(func, "__name__", "")
        if func is Tensor.cuda or func is Tensor.cpu:
            return self._moved(args[0], torch.device(name), kwargs.get("memory_format"))
        if func is Tensor.to:
            keywords = {key: value for key, value in kwargs.items() if key != "copy"}
            if isinstance(args[-1], CudaTensor) and len(args) > 1:
                return self._moved(args[0], CUDA, None, dtype=args[1].dtype)
            device, dtype, _, layout = torch._C._nn._parse_to(*args[1:], **keywords)  # pyright: ignore
            if device is not None:
                return self._moved(args[0], device, layout, dtype=dtype)
        if _cuda(args[:1]) and name in ("numpy", "__array__"):
            fault(f"{name} of a tensor on the GPU")
        if _cuda(args[:1]) and name in ("tolist", "__repr__", "__format__"):
            self.waits(name)
            return func(args[0].held, *args[1:])
        return self._made(func, args, kwargs)

    def _moved(self, tensor: Tensor, device: torch.device, layout: Any, dtype: Any = None) -> Tensor:
        """A tensor on another device, or on the same."""
        options: dict[str, Any] = {"dtype": dtype or tensor.dtype, "memory_format": layout or torch.preserve_format}
        if isinstance(tensor, CudaTensor) == (device.type == "cuda"):
            return tensor.to(**options)
        assert not (tensor.requires_grad and torch.is_grad_enabled()), "copies between devices have no gradient here"
        if device.type == "cuda":
            return CudaTensor(tensor.detach().to(**options, copy=True))
        self.copy_back()
        return cast("CudaTensor", tensor).held.to(**options, copy=True)

    def _made(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a function, on the GPU if its arguments or its ``device`` are there."""
        wanted = kwargs.get("device")
        there = _cuda(args, kwargs) if wanted is None else torch.device(wanted).type == "cuda"
        generator = kwargs.get("generator")
        if generator is not None and (generator.place == "cuda") != there:
            fault(f"{getattr(func, '__name__', func)} with a random generator of another device")
        if there and wanted is not None:
            kwargs = kwargs | {"device": None}
        with self.inside(there):
            made = func(*args, **kwargs)
        # torch.tensor and others do not pass through the dispatcher.
        lost = there and wanted is not None and not isinstance(made, CudaTensor)
        return CudaTensor(made) if lost else made

    # ---- operations -------------------------------------------------------------------------------------------------

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation of PyTorch: on the CPU tensors that its arguments hold."""
        tensors = list(_tensors(args, kwargs))
        if not _cuda(tensors):
            made = func(*args, **kwargs)
            return tree_map(_wrapped, made) if self._inside and not tensors else made
        self._check(func, args, tensors)
        outer = {id(tensor.held): tensor for tensor in tensors if isinstance(tensor, CudaTensor)}
        made = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if any(made is tensor for tensor in tensors):
            return made
        return tree_map(lambda value: outer.get(id(value)) if id(value) in outer else _wrapped(value), made)

    def _check(self, func: Any, args: tuple[Any, ...], tensors: list[Tensor]) -> None:
        name = func._schema.name
        if name in _CPU_ONLY:
            fault(f"{name} works on a CPU only")
        if name in _COPIES:
            if not _cuda(args[0]):
                self.copy_back()
            return
        if name in _INDEXING and _cuda(args[0]):
            return self._check_indexing(name, args)
        single = torch.Tag.pointwise in func.tags and not (name.endswith("_") and not _cuda(args[0]))
        if not all(_cuda(tensor) or (single and tensor.ndim == 0) for tensor in tensors):
            fault(f"{name} mixes tensors on the CPU with tensors on the GPU")
        if name.startswith("aten::_fused") and any(
            len({x.stride() for x in same}) > 1 for same in zip(*args[:4], strict=True)
        ):
            fault(f"{name} of weights, gradients and moments in different layouts")
        if _WAITING_TAGS & set(func.tags):
            self.waits(name)

    def _check_indexing(self, name: str, args: tuple[Any, ...]) -> None:
        """CUDA takes indices on the CPU, and copies them at once; it counts the pixels of masks first."""
        indices = [index for index in args[1] if index is not None]
        if any(not _cuda(index) for index in indices):
            self.waits("an index on the CPU")
        values = args[2] if "put" in name else None
        if values is not None and not _cuda(values) and values.ndim:
            fault(f"{name} mixes tensors on the CPU with tensors on the GPU")
        filled = values is not None and values.numel() == 1
        if any(index.dtype in (torch.bool, torch.uint8) for index in indices) and not filled:
            self.waits("indexing by a mask")


def _wrapped(value: Any) -> Any:
    return CudaTensor(value) if isinstance(value, Tensor) else value


class _Functions(TorchFunctionMode):
    def __init__(self, gpu: FakeCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.gpu.call(func, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __init__(self, gpu: FakeCuda) -> None:
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _DECOMPOSED):
            with self:
                return func.decompose(*args, **(kwargs or {}))
        return self.gpu.compute(func, args, kwargs or {})
