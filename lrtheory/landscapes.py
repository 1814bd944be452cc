"""Landscapes: the loss of one sample, whose gradient SymPy derives.

The loss that a chapter plots is the mean of the sample loss over its noise.  "Additive noise" is the sample loss
loss(theta) + sigma * xi * theta: its gradient is the gradient of the loss plus sigma * xi.

>>> quadratic().gradient
lam*theta + sigma*xi
>>> absolute().gradient
sign(theta)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import sympy as sp

from .inputs import shown, whole
from .letters import symbol
from .noise import Noise, any_law, gaussian, logistic

THETA, XI = symbol("theta"), symbol("xi")
LAM, SIGMA, SCALE = symbol("lam"), symbol("sigma"), symbol("scale")
_MOST_COPIES = 1000  # each is written out


@dataclass(frozen=True)
class Landscape:
    """A sample loss in its coordinates (`theta`) and in the noise symbols, and the law of each noise."""

    name: str
    sample_loss: sp.Expr
    noises: tuple[tuple[sp.Symbol, Noise], ...]
    coordinates: tuple[sp.Symbol, ...] = (THETA,)

    def __post_init__(self) -> None:
        for letter, law in self.noises:
            if not isinstance(law, Noise):
                raise TypeError(
                    f"the noise {letter} is {shown(law)}: give a law of noise, for instance lrtheory.noise.gaussian"
                )

    @cached_property
    def gradients(self) -> tuple[sp.Expr, ...]:
        """The derivatives of the sample loss; at a kink the middle of the subgradient, sign(0) = 0."""
        return tuple(sp.expand(sp.diff(self.sample_loss, x)) for x in self.coordinates)

    @property
    def gradient(self) -> sp.Expr:
        """The derivative of the sample loss of one coordinate."""
        if len(self.coordinates) != 1:
            names = ", ".join(map(str, self.coordinates))
            raise ValueError(f"{self.name} has {len(self.coordinates)} coordinates, {names}: take its `gradients`")
        return self.gradients[0]

    @cached_property
    def loss(self) -> sp.Expr:
        """The mean of the sample loss, where it is a polynomial in the noise.

        >>> quadratic().loss
        lam*theta**2/2
        """
        symbols = [s for s, _ in self.noises]
        laws = dict(self.noises)
        terms = sp.Poly(self.sample_loss, *symbols).terms() if symbols else [((), self.sample_loss)]
        return sp.Add(*(c * sp.prod([laws[s].moment(n) for s, n in zip(symbols, m, strict=True)]) for m, c in terms))


def quadratic(noise: Noise = any_law) -> Landscape:
    """lam * theta**2 / 2 with gradient noise of standard deviation sigma: a valley near its bottom.

    >>> quadratic().sample_loss
    lam*theta**2/2 + sigma*theta*xi
    """
    return Landscape("quadratic", LAM * THETA**2 / 2 + SIGMA * XI * THETA, ((XI, noise),))


def absolute(noise: Noise | None = None) -> Landscape:
    """``|theta|``: the L1 loss, theta measured from its minimum; with a law given, plus additive gradient noise.

    >>> absolute(any_law).gradient
    sigma*xi + sign(theta)
    """
    if noise is None:
        return Landscape("absolute", sp.Abs(THETA), ())
    return Landscape("noisy absolute", sp.Abs(THETA) + SIGMA * XI * THETA, ((XI, noise),))


def flipped_absolute(flip: Noise) -> Landscape:
    """``|theta|`` whose subgradient is multiplied by a random sign: the law `flip` takes the values ±1.

    >>> from lrtheory.noise import rademacher
    >>> flipped_absolute(rademacher).gradient
    xi*sign(theta)
    """
    return Landscape("flipped absolute", XI * sp.Abs(THETA), ((XI, flip),))


def absolute_to_sample(noise: Noise = logistic) -> Landscape:
    """``|theta - scale * xi|``: its minimum is the median of the samples.

    >>> absolute_to_sample().gradient
    -sign(scale*xi - theta)
    """
    return Landscape("absolute to a sample", sp.Abs(THETA - SCALE * XI), ((XI, noise),))


def pinball(noise: Noise = logistic) -> Landscape:
    """The pinball loss on fresh samples scale * xi: its minimum is their quantile at the level tau_level.

    A sample above theta pulls with the weight tau_level, one below with the weight 1 - tau_level.

    >>> pinball().gradient
    -tau_level - sign(scale*xi - theta)/2 + 1/2
    """
    above, level = SCALE * XI - THETA, symbol("tau_level")
    return Landscape("pinball", sp.Abs(above) / 2 + (level - sp.Rational(1, 2)) * above, ((XI, noise),))


def quadratic_to_sample(noise: Noise = any_law) -> Landscape:
    """lam * (theta - scale * xi)**2 / 2: each sample pulls to itself, and the minimum is the mean of the samples.

    >>> quadratic_to_sample().gradient
    -lam*scale*xi + lam*theta
    """
    return Landscape("quadratic to a sample", LAM * (THETA - SCALE * XI) ** 2 / 2, ((XI, noise),))


def batched(landscape: Landscape, batch: int) -> Landscape:
    """The mean of the sample losses of a mini-batch: `batch` copies of the landscape, each with its own noise.

    >>> batched(quadratic(), 2).gradient
    lam*theta + sigma*xi_sample1/2 + sigma*xi_sample2/2
    """
    if not isinstance(landscape, Landscape):
        raise TypeError(f"{shown(landscape)} is no landscape: give one, for instance quadratic()")
    batch = whole("batch", batch, 1, _MOST_COPIES)
    copies = [{s: symbol(f"{s}_sample{b + 1}") for s, _ in landscape.noises} for b in range(batch)]
    loss = sp.Add(*(landscape.sample_loss.xreplace(own) for own in copies)) / batch
    noises = tuple((own[s], law) for own in copies for s, law in landscape.noises)
    return Landscape(f"{landscape.name}, {batch} at a time", loss, noises, landscape.coordinates)


def double_well(noise: Noise = any_law) -> Landscape:
    """(theta**2 - 1)**2 / 4 with additive gradient noise: two valleys and a ridge between them.

    >>> double_well().gradient
    sigma*xi + theta**3 - theta
    """
    return Landscape("double well", (THETA**2 - 1) ** 2 / 4 + SIGMA * XI * THETA, ((XI, noise),))


def two_valleys() -> Landscape:
    """The lower of two parabolas: a sharp valley around -1 (curvature h_sharp) and a flat one around 1 (h_flat).

    >>> two_valleys().sample_loss.subs(THETA, 0)
    h_flat/4 + h_sharp/4 - Abs(h_flat/2 - h_sharp/2)/2
    """
    sharp, flat = symbol("h_sharp") * (THETA + 1) ** 2 / 2, symbol("h_flat") * (THETA - 1) ** 2 / 2
    return Landscape("two valleys", (sharp + flat - sp.Abs(sharp - flat)) / 2, ())


def huber() -> Landscape:
    """big_l * theta**2 / 2 within the distance `width` of the minimum, a straight line beyond: the Huber loss.

    >>> huber().gradient.subs({THETA: 3, symbol("width"): 1, symbol("big_l"): 5})
    5
    """
    width, big_l = symbol("width"), symbol("big_l")
    right, left = THETA + width, THETA - width
    return Landscape("huber", big_l * (right * sp.Abs(right) - left * sp.Abs(left) - 2 * width**2) / 4, ())


def linear_regression(noise: Noise = any_law, inputs: Noise = gaussian, dim: int = 1, batch: int = 1) -> Landscape:
    """Squared loss on fresh samples each step: inputs sqrt(lam) * chi, label noise sigma * xi; noise grows with theta.

    With `dim` coordinates the curvatures are lam_1, lam_2 …; `batch` samples are averaged.

    >>> linear_regression().gradient
    chi**2*lam*theta - chi*sqrt(lam)*sigma*xi
    >>> linear_regression(dim=2).coordinates
    (theta_1, theta_2)
    """
    dim = whole("dim", dim, 1, _MOST_COPIES)
    numbered = [f"_{i + 1}" for i in range(dim)] if dim > 1 else [""]
    thetas, lams, chis = (tuple(symbol(name + i) for i in numbered) for name in ("theta", "lam", "chi"))
    prediction = sp.Add(*(sp.sqrt(lam) * chi * theta for lam, chi, theta in zip(lams, chis, thetas, strict=True)))
    noises = (*((chi, inputs) for chi in chis), (XI, noise))
    one = Landscape("linear regression", (prediction - SIGMA * XI) ** 2 / 2, noises, thetas)
    return batched(one, batch) if batch != 1 else one
