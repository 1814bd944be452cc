"""A training log in a CSV file, read and answered: what would a lower rate win, and may one believe it?"""

from __future__ import annotations

import csv
import io
import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import shown
from .practice import BATCHES, QuickWin, _balance, _batch_means, quick_win

REQUIRED = ("step", "loss", "learning_rate", "grad_norm")
OPTIONAL = ("update_norm", "theta_norm")
LEAST = 2 * BATCHES  # rows at one rate
LARGEST_STEP = 2.0**53  # beyond it floats skip whole numbers
LARGEST_CELL = 1e75  # floats hold sums of the squares of its square


@dataclass(frozen=True)
class TrainingLog:
    """The columns of a log, each of shape (rows,): norms are not squared; a column that was not logged is None."""

    step: np.ndarray
    loss: np.ndarray
    learning_rate: np.ndarray
    grad_norm: np.ndarray
    update_norm: np.ndarray | None = None
    theta_norm: np.ndarray | None = None

    def __post_init__(self) -> None:
        shapes = {name: np.shape(column) for name, column in vars(self).items() if column is not None}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"the columns have the shapes {shapes}: give one number of each for each row")

    def rows(self, first: int, last: int) -> TrainingLog:
        """The rows from `first` up to, not including, `last`."""
        cut: dict[str, Any] = {name: None if c is None else c[first:last] for name, c in vars(self).items()}
        return TrainingLog(**cut)


def read_log(path: str | os.PathLike[str]) -> TrainingLog:
    """Reads a CSV file with the columns step, loss, learning_rate and grad_norm (‖g‖, of the mini-batch gradient).

    It may also have update_norm (‖v‖, of the momentum buffer), theta_norm (‖θ‖, of the parameters), and others, which
    are left alone.

    Raises `ValueError` for a file that is no text, missing columns, cells that are no numbers of a plausible size, and
    steps out of order, with the line (the last one, of a row that takes several); `OSError` for a file that cannot be
    read.

    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "log.csv")
    ...     _ = file.write_text("step,loss,learning_rate,grad_norm\\n0,2.5,0.1,1.5\\n10,2.25,0.1,1.25\\n")
    ...     read_log(file).loss
    array([2.5 , 2.25])
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise UnicodeError("it holds null characters")
        reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
        table = [(reader.line_num, row) for row in reader]
    except (csv.Error, UnicodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): unpack it first if it is compressed, and save it as "
            "UTF-8 text with commas"
        ) from None
    if not table:
        raise ValueError(f"{path} is empty: give a log with the columns {', '.join(REQUIRED)}")
    header = [name.strip() for name in table[0][1]]
    if missing := [name for name in REQUIRED if name not in header]:
        other = next((separator for separator in ";\t|" if separator in "".join(header)), None)
        near = [get_close_matches(name, header, n=1) for name in missing]
        hints = [f"is {shown(found[0])} the {name}?" for name, found in zip(missing, near, strict=True) if found]
        if other:
            hints = [f"separate them by commas, not by {other!r}"]
        raise ValueError(
            f"{path}, line 1 lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)} (it is "
            f"{shown(', '.join(header)) if any(header) else 'blank'}): "
            + "; ".join([f"name the columns {', '.join(REQUIRED)}", *hints])
        )
    places = {name: header.index(name) for name in REQUIRED + OPTIONAL if name in header}
    if twice := [name for name in places if header.count(name) > 1]:
        raise ValueError(f"{path}, line 1: {', '.join(twice)} stands there twice; drop one of the columns")
    rows: list[list[float]] = []
    for line, cells in table[1:]:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {line}: {len(cells)} cells under {len(header)} columns; mend or drop the line"
            )
        try:
            row = [_cell(name, cells[place].strip()) for name, place in places.items()]
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}; mend or drop the line") from None
        if rows and row[0] <= rows[-1][0]:
            raise ValueError(
                f"{path}, line {line}: step = {row[0]:.17g} does not rise above {rows[-1][0]:.17g}; give one run, in "
                "order"
            )
        rows.append(row)
    if not rows:
        raise ValueError(f"{path} has no rows under its header: log the run first")
    return TrainingLog(**{name: np.array(column) for name, column in zip(places, zip(*rows, strict=True), strict=True)})


def _cell(name: str, text: str) -> float:
    try:
        # 1_000, or digits of another script, would be a slip
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    most = LARGEST_STEP if name == "step" else LARGEST_CELL
    if math.isnan(number):
        problem = "is not a number"
    elif abs(number) > most:
        problem = f"is beyond {most:g}"
    elif number < 0 and name not in ("step", "loss"):
        problem = "is negative"
    else:
        return number
    raise ValueError(f"{name} = {shown(text)} {problem}")


@dataclass(frozen=True)
class Assumption:
    """Something that the prediction rests on; `holds` is None where the log cannot tell."""

    holds: bool | None
    says: str


@dataclass(frozen=True)
class Answer:
    """What a log says about a drop: the rows that were read, the prediction, and what it rests on.  Prints in words."""

    window: TrainingLog
    win: QuickWin
    assumptions: tuple[Assumption, ...]

    def __str__(self) -> str:
        first, last, loss = self.window.step[0], self.window.step[-1], self.window.loss.mean()
        mark = {True: "holds", False: "FAILS", None: "not known"}
        failed = [a for a in self.assumptions if a.holds is False]
        lines = [
            f"Read: {len(self.window.step):,} rows, steps {first:g} to {last:g}, at the rate "
            f"{self.win.learning_rate:g}; mean loss {loss:.4g}.",
            str(self.win),
            f"That would take the mean loss from {loss:.4g} to about {loss - (self.win.low + self.win.high) / 2:.4g}.",
            *(f"  [{mark[a.holds]}] {a.says}" for a in self.assumptions),
        ]
        if failed:
            lines.append("Do not rely on the prediction: " + f"{len(failed)} of its assumptions fail.")
        return "\n".join(lines)


def _stretches(rates: np.ndarray) -> list[tuple[int, int]]:
    """Where the rate stays the same: first row, and the row after the last."""
    cuts = [0, *(np.flatnonzero(np.diff(rates)) + 1), len(rates)]
    return [(int(a), int(b)) for a, b in pairwise(cuts)]


def answer(
    log: TrainingLog,
    new_learning_rate: float | None = None,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    noise_variance: float | None = None,
) -> Answer:
    """Predicts the quick win of a drop (default: to a tenth of the rate) and says what the prediction rests on.

    Read is the second half of the last stretch of at least 64 rows at one rate.  With `momentum` the log needs the
    column update_norm.

    Returns an `Answer`.  Raises `ValueError` for a log without such a stretch, and as `quick_win` does.

    >>> rng, t = np.random.default_rng(0), np.arange(0, 4000, 10.0)
    >>> noisy = 1 + 0.1 * rng.normal(size=t.size)
    >>> log = TrainingLog(t, 1.2 * noisy, np.full(t.size, 0.5), 0.9 * noisy)
    >>> print(answer(log, 0.05))
    Read: 200 rows, steps 2000 to 3990, at the rate 0.5; mean loss 1.189.
    Lowering the rate from 0.5 to 0.05 should lower the loss by 0.09048 to 0.1005, standard error 0.0015 ...
    """
    if not isinstance(log, TrainingLog):
        raise TypeError(f"log = {shown(log)} is no log: read one with lrtheory.read_log")
    long = [(a, b) for a, b in _stretches(log.learning_rate) if b - a >= 2 * LEAST]
    if not long:
        raise ValueError(
            f"no {2 * LEAST} rows in a row have one learning_rate: a floor belongs to a rate; log a stretch at a "
            "constant one, or log more often"
        )
    first, last = long[-1]
    window = log.rows((first + last) // 2, last)
    rate = float(window.learning_rate[0])
    squares = window.grad_norm**2
    buffer = None if window.update_norm is None else window.update_norm**2
    if momentum and buffer is None:
        raise ValueError(
            f"momentum = {momentum:g}, and the log has no column update_norm: log the norm of the momentum buffer "
            "(in PyTorch, of optimizer.state[p]['momentum_buffer'] over all p)"
        )
    win = quick_win(
        rate,
        None if momentum else squares,
        rate / 10 if new_learning_rate is None else new_learning_rate,
        noise_variance=noise_variance,
        momentum=momentum,
        dampening=dampening,
        mean_squared_update=buffer if momentum else None,
    )
    moved = buffer if momentum and buffer is not None else squares
    return Answer(window, win, _assumptions(window, win, moved, momentum))


def _assumptions(window: TrainingLog, win: QuickWin, moved: np.ndarray, momentum: float) -> tuple[Assumption, ...]:
    middles, means = _batch_means(np.array([window.step, window.loss]))
    (slope, _), covariance = np.polyfit(middles, means, 1, cov=True)
    span = window.step[-1] - window.step[0]
    fall, error = -slope * span, span * covariance[0, 0] ** 0.5
    still = abs(fall) > 3 * error and abs(fall) > 0.1 * win.high
    found = [
        Assumption(
            not still,
            f"the loss is level: it {'fell' if fall >= 0 else 'rose'} by {abs(fall):.2g} ± {error:.2g} over these steps"
            + (
                ""
                if not still
                else ", so the slow part is not over; the drop would slow it down, and the prediction is of the rest"
                if fall > 0
                else ", so the run is not at a floor"
            ),
        )
    ]
    if window.theta_norm is None:
        says = "the level is a noise floor and not a flat stretch: log theta_norm, the norm of the parameters, "
        found.append(Assumption(None, says + "and this can be told"))
    else:
        steps, lengths, squares = _batch_means(np.array([window.step, window.theta_norm**2, moved]))
        balance = _balance(win.learning_rate, momentum, steps, lengths, squares, np.ones(BATCHES))
        found.append(Assumption(balance.at_floor, f"the level is a noise floor and not a flat stretch: {balance}"))
    loss = float(window.loss.mean())
    enough = win.low <= loss
    found.append(
        Assumption(
            enough,
            f"the loss is at least what is to be won: {loss:.4g} against {win.low:.4g}"
            + ("" if enough else "; is it a loss of another scale, or a gradient summed over the batch?"),
        )
    )
    share = float(np.mean(np.isclose(window.grad_norm, window.grad_norm.max(), rtol=1e-6)))
    found.append(
        Assumption(
            share < 0.05,
            f"the gradients are not clipped: {share:.0%} of the norms are at the largest"
            + ("" if share < 0.05 else ", which looks like a limit; the rule does not hold for a clipped run"),
        )
    )
    relative = (win.standard_error or 0.0) / win.high
    found.append(
        Assumption(
            relative < 0.1,
            f"the squared norms are known well enough: to {relative:.1%}"
            + ("" if relative < 0.1 else "; a few large ones decide, so log more steps"),
        )
    )
    return tuple(found)


def plot(log: TrainingLog, found: Answer) -> Any:
    """The log's loss, and the level that a drop at its end should reach: a figure in the book's style.

    >>> t, one = np.arange(200.0), np.ones(200)
    >>> log = TrainingLog(t, 2 * one, 0.1 * one, one * np.resize([1, 1.1], 200))
    >>> plot(log, answer(log)).axes[0].get_xlabel()
    'step'
    """
    from . import plotting

    figure, ax = plotting.axes("step", "loss")
    bins = np.array_split(np.arange(len(log.step)), min(len(log.step), 200))
    x, y = np.array([[log.step[b].mean(), log.loss[b].mean()] for b in bins]).T
    plotting.theory(ax, x, y, role="kept", linewidth=1.5)
    window, end, loss = found.window, log.step[-1], found.window.loss.mean()
    after = np.array([end, end + (end - log.step[0]) / 4])
    plotting.rival(ax, after, [loss, loss], f"rate {found.win.learning_rate:g} kept", role="kept")
    low, high = loss - found.win.high, loss - found.win.low
    ax.fill_between(after, low, high, color=plotting.color("dropped"), alpha=0.35, linewidth=0)
    line = plotting.theory(ax, after, np.full(2, (low + high) / 2), role="dropped")
    plotting.label_line(ax, line, f"lowered to {found.win.new_learning_rate:g}", "dropped")
    ax.axvspan(window.step[0], window.step[-1], color=plotting.color("measured"), alpha=0.12, linewidth=0)
    # the fall of the first steps would hide what is to be seen
    top = max(loss + 3 * max(found.win.high, y[-len(y) // 2 :].std()), high)
    bottom = min(low, y.min())
    ax.set_ylim(bottom - 0.1 * (top - bottom), top)
    return figure


def picture_path(log: str, plot: str | None) -> Path | None:
    """Where the picture of a log may be written: at `plot`, or else beside the log; None beside one that is no file.

    Raises `ValueError` for a place that may not be written in.
    """
    if plot is None and not Path(log).is_file():
        return None
    picture = Path(f"{log}.quick-win.svg" if plot is None else plot)
    if picture.suffix != ".svg":
        raise ValueError(f"--plot {picture}: the picture is an SVG file; give a name that ends in .svg")
    if picture.exists() and (not picture.is_file() or (Path(log).exists() and picture.samefile(log))):
        what = "the log itself" if picture.is_file() else "what is not a regular file"
        raise ValueError(f"the picture {picture} would replace {what}: name another with --plot")
    with _naming(picture), tempfile.TemporaryFile(dir=os.path.dirname(os.path.realpath(picture))):
        return picture


def write_picture(picture: Path, drawn: str) -> None:
    """Writes it; raises `ValueError` that names the picture if that fails."""
    with _naming(picture):
        write_whole(picture, drawn)


@contextmanager
def _naming(picture: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"the picture {picture} cannot be written ({error.strerror}): name another with --plot"
        ) from None


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Writes a file all at once: it holds the old text or the new one, whatever interrupts.  Raises `OSError`.

    A symbolic link stays one, and the file that it names is written.
    """
    target = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
