"""A monitor that rides along with a training run: is it at its floor, and what would a drop win?

It needs the parameters, the mini-batch gradient and the rate, as arrays of any library or as nests of them, keeps a
few numbers whatever the length of the run, and looks only at every twentieth step, since neighbouring steps say nearly
the same.

    monitor = Monitor()
    for batch in batches:
        g = gradient(theta, batch)
        monitor.update(theta, g, eta)      # before the step
        theta = theta - eta * g
    monitor.balance(), monitor.quick_win(eta / 10)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import replace
from numbers import Real
from typing import Any

import numpy as np

from .inputs import number, numbers, positive, shown, whole
from .practice import BATCHES, LARGEST, Balance, QuickWin, _balance, _momentum, _weighted_mean, quick_win

_LEAST = BATCHES // 2  # blocks: fewer say too little of the error
_KEPT = 4 * BATCHES  # blocks: an older one would weigh less than a fiftieth of the newest


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    if hasattr(tree, "shape"):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key in sorted(tree, key=str):
            yield from _leaves(tree[key], f"{path}[{key!r}]")
    elif isinstance(tree, (list, tuple)):
        for i, item in enumerate(tree):
            yield from _leaves(item, f"{path}[{i}]")
    elif isinstance(tree, Iterator):
        raise TypeError(f"{path} is an iterator, which can be read only once: give list({path})")
    elif tree is not None:  # a frozen part
        yield path, tree


def _are_shapes(shapes: Any) -> bool:
    lists = isinstance(shapes, list) and shapes and all(isinstance(shape, list) for shape in shapes)
    return bool(lists) and all(type(n) is int and n >= 0 for shape in shapes for n in shape)


def _square(path: str, array: Any) -> float:
    """‖array‖², summed in double precision where the processor reaches the array, which costs least in NumPy."""
    kind = str(getattr(array, "dtype", type(array)))  # whose name every library has: float32, torch.bfloat16
    real = "float" in kind or "int" in kind if hasattr(array, "dtype") else isinstance(array, Real)
    if not real or isinstance(array, bool):
        raise TypeError(f"{path} is of the type {kind}: give arrays of real numbers, or dicts, lists, tuples of them")
    if not isinstance(array, (Real, np.generic, np.ndarray)):
        try:
            array = np.from_dlpack(array)
        except Exception:  # each library refuses with an error of its own; its own sum serves then
            if "16" in kind or "8" in kind:  # which would end at a few hundred
                array = array.float() if hasattr(array, "float") else array.astype("float32")
            return float((array * array).sum())
    flat = np.asarray(array, dtype=float).ravel()
    return float(flat @ flat)


class Monitor:
    """Watches a run of plain or heavy-ball SGD in constant memory.

    `window`: how many steps the exponential window remembers; it should outlast the relaxation of the run many times.
    `every`: it looks at every so-manieth step.  `momentum` and `dampening` as the run has them, in PyTorch's
    convention.  The window starts anew whenever the rate changes, since a floor belongs to a rate.

    Raises `ValueError` for numbers that cannot be.

    >>> rng, theta, monitor = np.random.default_rng(0), np.zeros(5), Monitor(window=4000, every=2)
    >>> for noise in rng.normal(size=(20_000, 5)):
    ...     g = theta + noise
    ...     monitor.update(theta, g, 0.1)
    ...     theta = theta - 0.1 * g
    >>> monitor.balance().at_floor
    True
    >>> win = monitor.quick_win(0.01)  # exactly 5 / 2 (0.1 / 1.9 - 0.01 / 1.99) = 0.119
    >>> win.low - 3 * win.standard_error < 0.119 < win.high + 3 * win.standard_error
    True
    """

    def __init__(self, window: int = 10_000, every: int = 20, *, momentum: float = 0.0, dampening: float = 0.0):
        self.every = whole("every", every, 1)
        self.window = whole("window", window, BATCHES * self.every)
        self.momentum, self.dampening = _momentum(momentum, dampening)
        self._shapes: list[list[int]] | None = None
        self._rate: float | None = None
        self._start_anew()

    @property
    def _block(self) -> int:
        """The looks in a block, of which a window has so many as a mean of a log has stretches."""
        return self.window // (BATCHES * self.every)

    def _start_anew(self) -> None:
        self._steps = self._looks = 0
        self._sums = np.zeros(2)  # ‖θ‖² and ‖g‖² (with momentum ‖v‖²) over the looks of the block that is being filled
        self._blocks: list[list[float]] = []  # of the full blocks, the newest last: the step, and these two means

    def update(self, parameters: Any, gradient: Any, learning_rate: float, buffer: Any = None) -> None:
        """Take in one step: to be called with the parameters at which the gradient was taken, once per step.

        `parameters` and `gradient` are arrays or nests (dict, list, tuple) of them, alike in shape, or functions that
        return them and are called only at the steps that are looked at.  The gradient is that of the mean loss over
        the mini-batch, as it is applied, weight decay included.  With momentum, `buffer` is the momentum buffer.

        Raises `ValueError` for a shape that changed or does not fit, values that are not finite, and a rate that is
        not positive; `TypeError` for what is not made of real numbers.  A step that raises is not counted, and what
        was counted stays.
        """
        rate = positive("learning_rate", learning_rate)
        fresh = rate != self._rate
        if not fresh and self._steps % self.every:  # not a step to look at
            self._steps += 1
            return
        seen, shapes = self._look(parameters, gradient, buffer)
        if fresh:
            self._start_anew()
            self._rate = rate
        self._shapes = shapes
        self._steps += 1
        self._looks += 1
        self._sums += seen
        if self._looks % self._block == 0:
            self._blocks = [*self._blocks, [float(self._steps), *(self._sums / self._block).tolist()]][-_KEPT:]
            self._sums = np.zeros(2)

    def _look(self, parameters: Any, gradient: Any, buffer: Any) -> tuple[Any, list[list[int]]]:
        if self.momentum and buffer is None:
            raise ValueError(f"momentum = {self.momentum:g}: give the momentum buffer as `buffer`")
        trees = {"parameters": parameters, "gradient": gradient}
        if self.momentum:
            trees["buffer"] = buffer
        leaves = {name: list(_leaves(tree() if callable(tree) else tree, name)) for name, tree in trees.items()}
        shapes = {name: [list(getattr(x, "shape", ())) for _, x in found] for name, found in leaves.items()}
        places = {name: [path.removeprefix(name) for path, _ in found] for name, found in leaves.items()}
        for name in trees:
            if shapes[name] != shapes["parameters"] or places[name] != places["parameters"]:
                raise ValueError(
                    f"{name} and parameters do not match: {self._first_difference(leaves, name)}; give both alike"
                )
        if self._shapes is not None and shapes["parameters"] != self._shapes:
            raise ValueError(
                f"the parameters have shapes {shapes['parameters']} and had {self._shapes} before: "
                "start another Monitor for another model"
            )
        if not any(math.prod(shape) for shape in shapes["parameters"]):
            raise ValueError("parameters hold no array, or empty ones: give the arrays that are trained")
        with np.errstate(over="ignore"):  # infinity is refused
            squares = {name: [(path, _square(path, leaf)) for path, leaf in found] for name, found in leaves.items()}
        if bad := [path for found in squares.values() for path, value in found if not value <= LARGEST]:
            raise ValueError(
                f"{', '.join(bad)} is not finite or far too large at step {self._steps} of this rate: the run diverged "
                "or a batch is bad; this step is not counted"
            )
        theta, *_, moved = (sum(value for _, value in found) for found in squares.values())
        return (theta, moved), shapes["parameters"]

    @staticmethod
    def _first_difference(leaves: Mapping[str, list[tuple[str, Any]]], name: str) -> str:
        pair = leaves[name], leaves["parameters"]
        if len(pair[0]) != len(pair[1]):
            return f"{len(pair[0])} arrays and {len(pair[1])}"
        shapes = ((path, np.shape(a), other, np.shape(b)) for (path, a), (other, b) in zip(*pair, strict=True))
        return next(
            f"{path} has shape {a} and {other} {b}"
            for path, a, other, b in shapes
            if a != b or path.removeprefix(name) != other.removeprefix("parameters")
        )

    def _read(self) -> tuple[np.ndarray, np.ndarray]:
        """The full blocks as columns, and their weights."""
        if len(self._blocks) < _LEAST:
            raise ValueError(
                f"the monitor has seen {self._steps} steps at the rate {self._rate}: it reads from "
                f"{_LEAST * self._block * self.every} steps at one rate on (half of its window)"
            )
        age = np.arange(len(self._blocks))[::-1]
        return np.array(self._blocks).T, np.exp(-age / BATCHES)

    def balance(self) -> Balance:
        """2·E[θ·g] over η·E‖g‖² in the window, with its error: 1 at a floor.  See `practice.at_the_floor`.

        Raises `ValueError` if the rate was kept for less than half a window, or the run does not move.
        """
        (steps, lengths, squares), weights = self._read()
        return _balance(float(self._rate or 0), self.momentum, steps, lengths, squares, weights)

    def quick_win(self, new_learning_rate: float = 0.0, *, noise_variance: float | None = None) -> QuickWin:
        """What a drop to `new_learning_rate` would win at once, with its error.  See `practice.quick_win`.

        Raises `ValueError` if the rate was kept for less than half a window, or is not lowered.
        """
        (_, _, squares), weights = self._read()
        square, error = _weighted_mean(squares, weights)
        form = {"momentum": self.momentum, "dampening": self.dampening, "noise_variance": noise_variance}
        name = "mean_squared_update" if self.momentum else "mean_squared_gradient_norm"
        win = quick_win(self._rate or 0.0, new_learning_rate=new_learning_rate, **form, **{name: square})  # type: ignore[arg-type]
        return replace(win, standard_error=win.high * (error / square))

    def state_dict(self) -> dict[str, Any]:
        """All that the monitor knows, as plain numbers and lists, for a checkpoint; JSON can hold it."""
        return {
            name.lstrip("_"): value.tolist() if isinstance(value, np.ndarray) else deepcopy(value)
            for name, value in vars(self).items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned.  Another thing raises `ValueError` or `TypeError` and changes nothing.

        >>> monitor, other = Monitor(), Monitor()
        >>> monitor.update([np.ones(3)], [np.ones(3)], 0.1)
        >>> other.load_state_dict(monitor.state_dict())
        >>> other.state_dict() == monitor.state_dict()
        True
        """
        mine = self.state_dict()
        if not isinstance(state, Mapping):
            raise TypeError(f"state = {shown(state)}: give what state_dict() returned")
        if wrong := set(mine) ^ set(state):
            names = ", ".join(sorted(map(str, wrong)))
            raise ValueError(f"the state differs in {names}: give what state_dict() returned")
        for name in ("window", "every", "momentum", "dampening"):
            if number(name, state[name]) != mine[name]:
                raise ValueError(
                    f"the state was made with {name} = {state[name]} and this monitor has {mine[name]}: "
                    "make it with the same"
                )
        steps, looks, shapes = whole("steps", state["steps"]), whole("looks", state["looks"]), state["shapes"]
        rate = positive("rate", state["rate"]) if steps else state["rate"]
        sums, blocks = numbers("sums", state["sums"]), numbers("blocks", state["blocks"])
        ends = [self.every * (self._block * (i + 1) - 1) + 1 for i in range(looks // self._block)[-_KEPT:]]
        could_be = {
            "rate": steps > 0 or rate is None,
            "shapes": _are_shapes(shapes) if steps else shapes is None,
            "looks": looks == -(-steps // self.every),
            "sums": sums.shape == (2,) and np.all((sums >= 0) & (sums < np.inf)),
            "blocks": blocks.shape == ((len(ends), 3) if ends else (0,))
            and np.all((blocks >= 0) & (blocks < np.inf))
            and [row[0] for row in blocks.tolist()] == ends,
        }
        for name, good in could_be.items():
            if not good:
                raise ValueError(
                    f"{name} = {shown(state[name])} in the state of {steps} steps: give what state_dict() returned"
                )
        self._shapes, self._rate, self._steps, self._looks = shapes, rate, steps, looks
        self._sums, self._blocks = sums.copy(), blocks.tolist()
