"""lrtheory: the closed-form dynamics of SGD, derived by machine and checked against experiments.

>>> import lrtheory as lr
>>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic())
>>> theta, = rec.state
>>> lr.stationary(rec)[theta**2]
-eta*sigma**2/(lam*(eta*lam - 2))
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# public name -> module, in reading order; a module is imported when one of its names is first used
_HOME = {
    "symbol": "letters",
    "symbols": "letters",
    "trace": "recursion",
    "Recursion": "recursion",
    "stationary": "moments",
    "after": "moments",
    "stable_when": "stability",
    "contraction": "stability",
    "spirals_when": "stability",
    "enumerate_paths": "enumeration",
    "stationary_law": "enumeration",
    "simulate": "monte_carlo",
    "Simulation": "monte_carlo",
    "progress_bar": "progress",
    "escape_time": "first_passage",
    "expected_loss": "schedules",
    "LeastSquares": "least_squares",
    "best_constant": "planning",
    "best_drop": "planning",
    "best_pieces": "planning",
    "best_schedule": "planning",
    "expected_training_loss": "early_stopping",
    "in_sample_risk": "early_stopping",
    "to_javascript": "javascript",
    "Claim": "ledger",
    "Rival": "ledger",
    "Verdict": "doubt",
    "claims": "theorems",
    "claim": "theorems",
    "check": "theorems",
    "quick_win": "practice",
    "at_the_floor": "practice",
    "when_to_drop": "practice",
    "Monitor": "monitor",
    "read_log": "logs",
}
_MODULES = ("optimizers", "landscapes", "noise", "schedules", "theorems", "plotting", "moving", "practice")
__all__ = [*_HOME, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"lrtheory has no {name!r}; it has {', '.join(__all__)}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
