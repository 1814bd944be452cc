"""The command line: list, evaluate and check claims, and predict a quick win.

python -m lrtheory claims
python -m lrtheory evaluate noise_floor.variance eta=1/10 lam=1 sigma=1
python -m lrtheory check noise_floor --seed 1
python -m lrtheory quick-win LOG.csv --new-lr 0.05
python -m lrtheory quick-win --lr 0.5 --grad-norm-sq 0.854 --new-lr 0.05
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from fractions import Fraction
from typing import Any


def _number(text: str) -> Any:
    """A number as typed: 3 and 1/3 stay exact, 0.1 and 1e-3 are floats.  Nothing is evaluated as code."""
    try:
        return Fraction(text) if "." not in text and "e" not in text.lower() else float(text)
    except (ValueError, ZeroDivisionError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number: write 0.1, 1e-3, 3 or a fraction such as 1/10"
        ) from None


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value, for instance eta=0.1")
    value = value.strip()
    return name.strip(), value if value.isalpha() else _number(value)  # a claim says which words it takes


def _list(_: argparse.Namespace) -> int:
    from .theorems import claims

    for id, claim in claims().items():
        print(f"{id}({', '.join(claim.parameters)})\n    {claim.says}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from .theorems import claim

    names = [name for name, _ in args.parameters]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} was given twice: give each parameter one value")
    print(claim(args.id)(**dict(args.parameters)))
    return 0


def _check(args: argparse.Namespace) -> int:
    from .doubt import summary
    from .progress import progress_bar
    from .theorems import check, claims

    table = claims()
    wanted = [id for id in table if not args.ids or id in args.ids or id.split(".")[0] in args.ids]
    for asked in args.ids:
        if not any(asked in (id, id.split(".")[0]) for id in wanted):
            from .theorems import claim

            claim(asked)  # raises with the nearest names
    verdicts = []
    for i, id in enumerate(wanted):
        if sys.stderr.isatty():
            progress_bar(i, len(wanted), id)
        verdicts.append(check(id, seed=args.seed))
    if sys.stderr.isatty():
        progress_bar(len(wanted), len(wanted))
    width = max(len(v.claim.id) for v in verdicts)
    print(f"{'claim':<{width}}  witnesses                          rivals  mutants told apart  outcome")
    for v in verdicts:
        kinds = " ".join(w.kind for w in v.witnesses)
        rejected = f"{sum(r.rejected for r in v.rivals)}/{len(v.rivals)}"
        best = max(v.killed.values(), default=0)
        kills = f"{best}/{v.made}" if v.killed else "-"
        print(f"{v.claim.id:<{width}}  {kinds:<34} {rejected:>6}  {kills:>18}  {'passed' if v.passed else 'FAILED'}")
    failed = [v for v in verdicts if not v.passed]
    for v in failed:
        print(f"\n{v}")
    print()
    rows = summary(verdicts)
    width = max(len(what) for what, _ in rows)
    for what, number in rows:
        print(f"{what:<{width}}  {number}")
    return 1 if failed else 0


def _quick_win(args: argparse.Namespace) -> int:
    form: dict[str, Any] = {"momentum": float(args.momentum), "dampening": float(args.dampening)}
    form["noise_variance"] = None if args.noise_variance is None else float(args.noise_variance)
    new = None if args.new_lr is None else float(args.new_lr)
    names = ("lr", "grad_norm_sq", "update_norm_sq")
    typed = {name: float(value) for name in names if (value := getattr(args, name)) is not None}
    if args.log is None:
        from .practice import quick_win

        if args.lr is None:
            raise ValueError("neither a log nor a rate: give LOG.csv, or --lr and --grad-norm-sq")
        square, update = typed.get("grad_norm_sq"), typed.get("update_norm_sq")
        print(quick_win(typed["lr"], square, new or 0.0, mean_squared_update=update, **form))
        return 0
    if typed:
        flags = ", ".join("--" + name.replace("_", "-") for name in typed)
        raise ValueError(f"{flags} beside {args.log}: a log holds its rates and norms; give one or the other")
    from pathlib import Path

    from . import logs
    from .plotting import svg

    log = logs.read_log(args.log)
    found = logs.answer(log, new, **form)
    print(found)
    picture = Path(args.log).with_suffix(".quick-win.svg") if args.plot is None else Path(args.plot)
    logs.write_whole(picture, svg(logs.plot(log, found)))
    print(f"The log with the predicted drop is drawn in {picture}.")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (1: a claim failed, 2: the input was wrong).

    >>> main(["evaluate", "noise_floor.variance", "eta=1/10", "lam=1", "sigma=1"])
    1/19
    0
    """
    parser = argparse.ArgumentParser(prog="python -m lrtheory", description="The dynamics of SGD, derived and checked.")
    commands = parser.add_subparsers(required=True, metavar="command")
    listing = commands.add_parser("claims", help="list every claim")
    listing.set_defaults(run=_list)
    evaluate = commands.add_parser("evaluate", help="the value of a claim: evaluate ID name=value ...")
    evaluate.add_argument("id")
    evaluate.add_argument("parameters", nargs="*", type=_assignment, metavar="name=value")
    evaluate.set_defaults(run=_evaluate)
    check = commands.add_parser("check", help="question claims, chapters, or everything")
    check.add_argument("ids", nargs="*", metavar="ID|chapter")
    check.add_argument("--seed", type=int, default=0)
    check.set_defaults(run=_check)
    win = commands.add_parser("quick-win", help="what lowering the rate would gain at once")
    win.add_argument("log", nargs="?", metavar="LOG.csv", help="columns step, loss, learning_rate, grad_norm")
    win.add_argument("--new-lr", type=_number, help="the rate after the drop (default: a tenth with a log, else 0)")
    win.add_argument("--lr", type=_number, help="without a log: the rate of the run")
    win.add_argument("--grad-norm-sq", type=_number, help="without a log: mean of the squared mini-batch gradient norm")
    win.add_argument("--update-norm-sq", type=_number, help="without a log, with momentum: the same of the buffer")
    win.add_argument("--momentum", type=_number, default=0.0, help="of heavy-ball SGD; the log needs update_norm then")
    win.add_argument("--dampening", type=_number, default=0.0, help="as in PyTorch")
    win.add_argument("--noise-variance", type=_number, help="E‖g‖² minus the squared full-gradient norm")
    win.add_argument("--plot", metavar="FILE.svg", help="where to draw (default: beside the log)")
    win.set_defaults(run=_quick_win)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except BrokenPipeError:  # `… | head` has seen enough
        sys.stderr.close()
        return 0
    except OSError as error:
        where = "" if error.filename is None else f"{error.filename}: "
        print(f"lrtheory: {where}{error.strerror}; give a file that can be read or written", file=sys.stderr)
        return 2
    except (ArithmeticError, KeyError, MemoryError, TypeError, ValueError) as error:
        print(f"lrtheory: {error.args[0]}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("lrtheory: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
