"""How far a long computation has come."""

from __future__ import annotations

import sys


def progress_bar(done: int, of: int, what: str = "") -> None:
    """Draw a bar on the error stream, over the last one; it goes away once all is done.  Nothing, if there is none.

    To be given to `simulate` as its `progress`.

    >>> import lrtheory as lr
    >>> rec = lr.trace(lr.optimizers.sgd, lr.landscapes.quadratic(lr.noise.gaussian))
    >>> result = lr.simulate(rec, {"eta": 0.5, "lam": 1, "sigma": 1}, 40, 20_000, progress=progress_bar)
    """
    if sys.stderr is None:  # closed
        return
    filled = round(30 * done / of)
    text = f"[{'#' * filled}{'.' * (30 - filled)}] {done:,}/{of:,} {what}"
    blank = f"\r{'':<90}\r"
    print(blank if done >= of else f"\r{text:<90}", end="", file=sys.stderr, flush=True)
