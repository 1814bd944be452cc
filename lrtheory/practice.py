"""What to do with one's own run: the quick win of a drop, predicted from a number that every trainer can log."""

from __future__ import annotations

from dataclasses import dataclass

from .theorems import claim


@dataclass(frozen=True)
class QuickWin:
    """The predicted fall of the loss: between `low` and `high`, in the units of the loss.  Prints in words."""

    learning_rate: float
    new_learning_rate: float
    low: float
    high: float
    bounded_by_noise: bool

    def __str__(self) -> str:
        why = (
            "the upper end uses the noise variance"
            if self.bounded_by_noise
            else "the upper end is the whole floor; give noise_variance for a narrower range"
        )
        return (
            f"Lowering the rate from {self.learning_rate:g} to {self.new_learning_rate:g} should lower the loss by "
            f"{self.low:.4g} to {self.high:.4g} ({why}), if the run is at its noise floor: a plateau of a "
            "quadratic valley, reached at the old rate."
        )

    __repr__ = __str__


def quick_win(
    learning_rate: float,
    mean_squared_gradient_norm: float,
    new_learning_rate: float = 0.0,
    *,
    noise_variance: float | None = None,
) -> QuickWin:
    """What lowering the learning rate would gain at once, before the slow part of the loss has moved.

    `mean_squared_gradient_norm` is the mean of ‖g‖² over many steps at the plateau, g the gradient of the mean loss
    over a mini-batch, as it is applied, weight decay included; not for a run that clips often.  `noise_variance` is
    that number minus the squared norm of the full gradient.  Plain SGD only.

    Returns a `QuickWin`.  Raises `ValueError` for a rate that is not lowered, or numbers that cannot be.
    Source: the claim `quick_win.gain_from_gradient_norm`, exact for quadratics.

    >>> quick_win(0.5, 0.854, 0.05, noise_variance=0.8).low
    0.096075
    >>> quick_win(0.05, 0.854, 0.5)
    Traceback (most recent call last):
    ...
    ValueError: new_learning_rate = 0.5 is not below learning_rate = 0.05: a drop goes down; choose a smaller one
    """
    if new_learning_rate >= learning_rate:
        raise ValueError(
            f"new_learning_rate = {new_learning_rate} is not below learning_rate = {learning_rate}: "
            "a drop goes down; choose a smaller one"
        )
    if new_learning_rate < 0:
        raise ValueError(f"new_learning_rate = {new_learning_rate}: a rate is 0 or more")
    # the floor at the old rate bounds every drop; it is the claim's interval with no noise known
    whole = claim("quick_win.from_gradient_norm")(
        eta=float(learning_rate), mean_squared_gradient=float(mean_squared_gradient_norm)
    )
    if new_learning_rate == 0:  # then all of the floor is won
        return QuickWin(float(learning_rate), 0.0, whole, whole, noise_variance is not None)
    interval = claim("quick_win.gain_from_gradient_norm")(
        eta1=float(learning_rate),
        eta2=float(new_learning_rate),
        mean_squared_gradient=float(mean_squared_gradient_norm),
        noise_variance=None if noise_variance is None else float(noise_variance),
    )
    low, high = (interval, whole) if noise_variance is None else interval
    return QuickWin(float(learning_rate), float(new_learning_rate), low, high, noise_variance is not None)
