"""The claims, one file per chapter, in the book's order."""

from __future__ import annotations

from concurrent.futures import Executor
from difflib import get_close_matches

from ..doubt import Verdict
from ..doubt import check as _check
from ..ledger import Claim
from . import l1_cycle, noise_floor, quick_win, slow_road

_TABLE: dict[str, Claim] = {
    value.id: value
    for chapter in (l1_cycle, noise_floor, quick_win, slow_road)
    for value in vars(chapter).values()
    if isinstance(value, Claim)
}


def claims() -> dict[str, Claim]:
    """All claims by id, in the book's order.

    >>> next(iter(claims()))
    'l1_cycle.entry'
    """
    return dict(_TABLE)


def claim(id: str) -> Claim:
    """The claim of that id; raises `KeyError` with the nearest ids if there is none.

    >>> claim("noise_floor.variance")(eta=1, lam=1, sigma=1)
    1
    """
    if id not in _TABLE:
        close = get_close_matches(str(id), _TABLE, 3, cutoff=0.4)
        hint = f"did you mean {' or '.join(close)}?" if close else "python -m lrtheory claims lists them"
        raise KeyError(f"there is no claim {id!r}: {hint}")
    return _TABLE[id]


def check(claim_or_id: Claim | str, seed: int = 0, executor: Executor | None = None) -> Verdict:
    """Question one claim; returns a `Verdict`, which prints as a table.

    The same seed gives the same verdict for any executor.  False alarms are controlled over the whole ledger.

    >>> check("noise_floor.mean").passed
    True
    """
    asked = claim(claim_or_id) if isinstance(claim_or_id, str) else claim_or_id
    return _check(asked, seed, executor, tests=len(_TABLE))
