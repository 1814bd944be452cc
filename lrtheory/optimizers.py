"""The update rules, as a paper writes them: positional arguments are the state, keywords the hyper-parameters.

Each rule is a plain function of numbers, arrays, Fractions or SymPy symbols.  Everything else in the package
is read off these lines: the moment equations, the exact enumeration, the simulation and the JavaScript.

>>> sgd(4.0, grad=lambda theta: theta, eta=0.5)
2.0

The first element of the state is always the parameter `theta`; the others are the rule's memory, and start at
0 unless said.  `grad` is called once per step and returns the mini-batch gradient at its argument.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

Gradient = Callable[[Any], Any]


def sign(x: Any) -> Any:
    """The sign of a number, an array or an expression, with sign(0) = 0 (the subgradient that the book uses).

    >>> sign(Fraction(-3, 2)), sign(0), sign(sp.Symbol("theta", real=True))
    (-1, 0, sign(theta))
    """
    if isinstance(x, sp.MatrixBase):
        return x.applyfunc(sp.sign)
    if isinstance(x, sp.Basic):
        return sp.sign(x)
    if isinstance(x, (int, Fraction)):
        return (x > 0) - (x < 0)
    return np.sign(x)


def root(x: Any) -> Any:
    """The square root of a number, an array or an expression.

    >>> root(4.0), root(sp.Integer(4))
    (np.float64(2.0), 2)
    """
    return sp.sqrt(x) if isinstance(x, sp.Basic) else np.sqrt(x)


def sgd(theta: Any, *, grad: Gradient, eta: Any) -> Any:
    """One step against the gradient (Robbins & Monro 1951).

    >>> sgd(1.0, grad=lambda theta: 2 * theta, eta=0.25)
    0.5
    """
    return theta - eta * grad(theta)


def heavy_ball(theta: Any, v: Any, *, grad: Gradient, eta: Any, beta: Any) -> Any:
    """Momentum in PyTorch's convention: the buffer adds up gradients, the rate scales the buffer (Polyak 1964).

    >>> heavy_ball(1.0, 1.0, grad=lambda theta: theta, eta=0.5, beta=0.5)
    (0.25, 1.5)
    """
    v = beta * v + grad(theta)
    return theta - eta * v, v


def keras_momentum(theta: Any, u: Any, *, grad: Gradient, eta: Any, beta: Any) -> Any:
    """Momentum in Keras' convention: the buffer adds up steps, so that past steps keep the rate that they had.

    At a constant rate it is `heavy_ball` with u = -eta * v; after a drop of the rate it is not.

    >>> keras_momentum(1.0, -0.5, grad=lambda theta: theta, eta=0.5, beta=0.5)
    (0.25, -0.75)
    """
    u = beta * u - eta * grad(theta)
    return theta + u, u


def dampened(theta: Any, v: Any, *, grad: Gradient, eta: Any, beta: Any) -> Any:
    """Momentum whose buffer is an average of gradients: heavy ball at the rate eta * (1 - beta).

    >>> dampened(1.0, 1.0, grad=lambda theta: theta, eta=0.5, beta=0.5)
    (0.5, 1.0)
    """
    v = beta * v + (1 - beta) * grad(theta)
    return theta - eta * v, v


def nesterov(theta: Any, v: Any, *, grad: Gradient, eta: Any, beta: Any) -> Any:
    """Nesterov's momentum as PyTorch and optax write it: `theta` is the look-ahead point.

    >>> nesterov(1.0, 1.0, grad=lambda theta: theta, eta=0.5, beta=0.5)
    (0.125, 1.5)
    """
    g = grad(theta)
    v = beta * v + g
    return theta - eta * (g + beta * v), v


def averaged(theta: Any, average: Any, *, grad: Gradient, eta: Any, gamma: Any) -> Any:
    """SGD together with the exponential moving average of its parameters (Polyak & Juditsky 1992).

    >>> averaged(1.0, 1.0, grad=lambda theta: theta, eta=0.5, gamma=0.5)
    (0.5, 0.75)
    """
    theta = theta - eta * grad(theta)
    return theta, gamma * average + (1 - gamma) * theta


def summed(theta: Any, total: Any, *, grad: Gradient, eta: Any) -> Any:
    """SGD together with the sum of its parameters so far, for their plain mean (Polyak & Juditsky 1992).

    >>> summed(1.0, 0.0, grad=lambda theta: theta, eta=0.5)
    (0.5, 0.5)
    """
    theta = theta - eta * grad(theta)
    return theta, total + theta


def adam(theta: Any, m: Any, v: Any, t: Any, *, grad: Gradient, eta: Any, beta1: Any, beta2: Any, epsilon: Any) -> Any:
    """Adam, with both averages corrected for their start at 0 (Kingma & Ba 2015); t counts the steps.

    >>> adam(1.0, 0.0, 0.0, 0, grad=lambda theta: 3 * theta, eta=0.25, beta1=0.5, beta2=0.75, epsilon=0)
    (np.float64(0.75), 1.5, 2.25, 1)
    """
    g = grad(theta)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g**2
    t = t + 1
    return theta - eta * (m / (1 - beta1**t)) / (root(v / (1 - beta2**t)) + epsilon), m, v, t


def sign_sgd(theta: Any, *, grad: Gradient, eta: Any) -> Any:
    """A step of fixed length against the sign of the gradient (Bernstein et al. 2018).

    >>> sign_sgd(4.0, grad=lambda theta: theta, eta=0.5)
    np.float64(3.5)
    """
    return theta - eta * sign(grad(theta))
