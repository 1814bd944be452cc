"""The claims, one file per chapter, in the book's order."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from difflib import get_close_matches
from functools import cache
from importlib import import_module

from ..doubt import WITNESSES, Verdict
from ..doubt import check as _check
from ..ledger import Claim

CHAPTERS = (
    "l1_cycle",
    "noise_floor",
    "quick_win",
    "slow_road",
    "minibatch",
    "shuffling",
    "momentum",
    "averaging",
    "schedules",
    "escape",
    "overfitting",
    "boosting",
    "worst_case",
)


@cache
def _chapter(name: str) -> dict[str, Claim]:
    # read when first asked for: one formula should not cost the typing of all the others
    module = import_module(f".{name}", __name__)
    return {value.id: value for value in vars(module).values() if isinstance(value, Claim)}


def claims() -> dict[str, Claim]:
    """All claims by id, in the book's order.

    >>> next(iter(claims()))
    'l1_cycle.entry'
    """
    return {id: claim for chapter in CHAPTERS for id, claim in _chapter(chapter).items()}


def claim(id: str) -> Claim:
    """The claim of that id; raises `KeyError` with the nearest ids if there is none.

    >>> claim("noise_floor.variance")(eta=1, lam=1, sigma=1)
    1
    """
    chapter = str(id).split(".")[0]
    if chapter not in CHAPTERS or id not in _chapter(chapter):
        raise KeyError(f"there is no claim {id!r}: {nearest(str(id))}")
    return _chapter(chapter)[id]


def nearest(id: str) -> str:
    """What may have been meant by an id that no claim has, as a hint.

    >>> nearest("noise_floor.varianse")[:34]
    'did you mean noise_floor.variance '
    """
    close = get_close_matches(id, claims(), 3, cutoff=0.4)
    return f"did you mean {' or '.join(close)}?" if close else "python -m lrtheory claims lists them"


def check(
    claim_or_id: Claim | str,
    seed: int = 0,
    executor: Executor | None = None,
    witnesses: Sequence[str] = WITNESSES,
) -> Verdict:
    """Question one claim; returns a `Verdict`, which prints as a table.

    The same seed gives the same verdict for any executor.  False alarms are controlled over the whole ledger.
    `witnesses` are the kinds to hear: derivation, enumeration, simulation, outside.

    >>> check("noise_floor.mean").passed
    True
    """
    asked = claim(claim_or_id) if isinstance(claim_or_id, str) else claim_or_id
    return _check(asked, seed, executor, len(claims()), witnesses)
