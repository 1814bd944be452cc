"""The command line: list, evaluate and check claims, and predict a quick win.

python -m lrtheory claims
python -m lrtheory evaluate noise_floor.variance eta=1/10 lam=1 sigma=1
python -m lrtheory check noise_floor --seed 1
python -m lrtheory quick-win LOG.csv --new-lr 0.05
python -m lrtheory quick-win --lr 0.5 --grad-norm-sq 0.854 --new-lr 0.05
"""

from __future__ import annotations

import argparse
import io
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, TextIO

_QUICK_WIN = {  # the parameters of lrtheory.quick_win, as options
    "new_learning_rate": ("--new-lr", "the rate after the drop (default: a tenth with a log, else 0)"),
    "learning_rate": ("--lr", "without a log: the rate of the run"),
    "mean_squared_gradient_norm": ("--grad-norm-sq", "without a log: mean of the squared mini-batch gradient norm"),
    "mean_squared_update": ("--update-norm-sq", "without a log, with momentum: the same of the buffer"),
    "momentum": ("--momentum", "of heavy-ball SGD; the log needs update_norm then"),
    "dampening": ("--dampening", "as in PyTorch"),
    "noise_variance": ("--noise-variance", "E‖g‖² minus the squared full-gradient norm"),
}
_LOGGED = ("learning_rate", "mean_squared_gradient_norm", "mean_squared_update")  # which a log holds


def _number(name: str, text: str) -> Any:
    """A number as typed: 3 and 1/3 stay exact, 0.1 and 1e-3 are floats.  Nothing is evaluated as code."""
    from .inputs import shown

    with suppress(ArithmeticError, ValueError):
        number = float(text) if re.search("[.eE]", text) else Fraction(text)
        # 1_000, or digits of another script, would be a slip
        if math.isfinite(number) and text.isascii() and "_" not in text:
            return number
    raise ValueError(
        f"{name} = {shown(text)} is not a number that a float can hold: write 0.1, 1e-3, 3 or a fraction such as 1/10"
    )


def _unknown(asked: str, chapters: Sequence[str] = ()) -> KeyError:
    """What to say of an id that no claim has, nor one of the chapters, where these may be asked for."""
    from .inputs import shown
    from .theorems import CHAPTERS, nearest

    what = f"{asked} is a chapter, not a claim" if asked in CHAPTERS else f"there is no claim {shown(asked)}"
    typed = asked[:100].lower()
    chapter = [] if "." in typed else get_close_matches(typed, chapters, 1)
    return KeyError(f"{what}: " + (f"did you mean {chapter[0]}?" if chapter else nearest(typed)))


def _list(_: argparse.Namespace) -> int:
    from .theorems import claims

    for id, claim in claims().items():
        print(f"{id}({', '.join(claim.parameters)})\n    {claim.says}")
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from .inputs import shown
    from .theorems import claim

    try:
        asked = claim(args.id)
    except KeyError:
        raise _unknown(args.id) from None
    given: dict[str, Any] = {}
    for text in args.parameters:
        name, equals, value = map(str.strip, text.partition("="))
        if not equals:
            raise ValueError(f"{shown(text)} is not of the form name=value, for instance eta=0.1")
        if name in given:
            raise ValueError(f"{name} was given twice: give each parameter one value")
        if name == "lams":
            given[name] = [_number(name, part) for part in value.split(",")]
        elif name in asked.choices or name not in (*asked.parameters, *asked.optional):
            given[name] = value  # the claim says what it takes
        else:
            given[name] = _number(name, value)
    print(asked(**given))
    return 0


def _check(args: argparse.Namespace) -> int:
    from .doubt import summary
    from .progress import progress_bar
    from .theorems import CHAPTERS, check, claims

    seed = _number("--seed", args.seed)
    table = claims()
    for asked in args.ids:
        if asked not in table and asked not in CHAPTERS:
            raise _unknown(asked, CHAPTERS)
    wanted = [id for id in table if not args.ids or id in args.ids or id.split(".")[0] in args.ids]
    verdicts = []
    for i, id in enumerate(wanted):
        if sys.stderr.isatty():
            progress_bar(i, len(wanted), id)
        verdicts.append(check(id, seed=seed))
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


@contextmanager
def _in_options(*names: str) -> Iterator[None]:
    """Errors speak of these parameters as they are typed."""
    try:
        yield
    except ValueError as error:
        options = {name: _QUICK_WIN[name][0] for name in names}
        raise ValueError(re.sub(r"\w+", lambda word: options.get(word[0], word[0]), str(error))) from None


def _quick_win(args: argparse.Namespace) -> int:
    from . import logs
    from .inputs import shown
    from .practice import quick_win

    given = {name: (option, getattr(args, name)) for name, (option, _) in _QUICK_WIN.items()}
    typed = {name: float(_number(option, text)) for name, (option, text) in given.items() if text is not None}
    for path in (args.log, args.plot):
        if path is not None and (not path or "\0" in path):
            raise ValueError(f"{shown(path)} is not the name of a file: give one")
    if args.log is None:
        if args.plot is not None:
            raise ValueError(f"--plot {args.plot} without a log: there is nothing to draw; give LOG.csv too")
        if "learning_rate" not in typed:
            raise ValueError("neither a log nor a rate: give LOG.csv, or --lr and --grad-norm-sq")
        with _in_options("new_learning_rate", "noise_variance", *_LOGGED):
            print(quick_win(**typed))
        return 0
    if beside := ", ".join(_QUICK_WIN[name][0] for name in _LOGGED if name in typed):
        raise ValueError(f"{beside} beside {args.log}: a log holds its rates and norms; give one or the other")
    picture = logs.picture_path(args.log, args.plot)
    log = logs.read_log(args.log)
    with _in_options("new_learning_rate", "noise_variance"):
        found = logs.answer(log, **typed)
    try:
        print(found, flush=True)
    finally:  # even if nobody reads on
        if picture is not None:
            from .plotting import svg

            logs.write_picture(picture, svg(logs.plot(log, found)))
    if picture is None:
        print(f"No picture: {args.log} is no regular file to draw beside; name a picture with --plot.")
    else:
        print(f"The log with the predicted drop is drawn in {picture}.")
    return 0


def _run(arguments: Sequence[str]) -> int:
    from .inputs import shown

    parser = argparse.ArgumentParser(prog="python -m lrtheory", description="The dynamics of SGD, derived and checked.")
    commands = parser.add_subparsers(required=True, metavar="command")
    listing = commands.add_parser("claims", allow_abbrev=False, help="list every claim")
    listing.set_defaults(run=_list)
    evaluate = commands.add_parser(
        "evaluate", allow_abbrev=False, help="the value of a claim: evaluate ID name=value ..."
    )
    evaluate.add_argument("id")
    evaluate.add_argument("parameters", nargs="*", metavar="name=value")
    evaluate.set_defaults(run=_evaluate)
    check = commands.add_parser("check", allow_abbrev=False, help="question claims, chapters, or everything")
    check.add_argument("ids", nargs="*", metavar="ID|chapter")
    check.add_argument("--seed", default="0")
    check.set_defaults(run=_check)
    win = commands.add_parser("quick-win", allow_abbrev=False, help="what lowering the rate would gain at once")
    win.add_argument("log", nargs="?", metavar="LOG.csv", help="columns step, loss, learning_rate, grad_norm")
    for name, (option, meaning) in _QUICK_WIN.items():
        win.add_argument(option, dest=name, metavar="NUMBER", help=meaning)
    win.add_argument("--plot", metavar="FILE.svg", help="where to draw (default: beside the log)")
    win.set_defaults(run=_quick_win)

    command = next(iter(arguments), "-")
    if command not in commands.choices and not command.startswith("-"):
        near = get_close_matches(command[:100], commands.choices, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(commands.choices)}"
        raise ValueError(f"there is no command {shown(command)}: {hint}")
    options = [text.partition("=")[0] for text in arguments if text.startswith("--")]
    if twice := sorted({option for option in options if options.count(option) > 1}):
        raise ValueError(f"{shown(', '.join(twice))} was given twice: give each option one value")
    # the space: argparse would take -1e-3 for an option
    args, rest = parser.parse_known_args([" " + text if re.match(r"-[.\d]", text) else text for text in arguments])
    if rest:
        raise ValueError(f"{shown(' '.join(rest))} is not known here: see python -m lrtheory {command} --help")
    return int(args.run(args))


def _discard(stream: TextIO) -> None:
    """What a stream still holds goes nowhere: Python would try to write it once more at its end, and say so."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(message: str, status: int = 2) -> int:
    try:
        print(f"lrtheory: {message}", file=sys.stderr, flush=True)
    except OSError:
        _discard(sys.stderr)
    return status


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (1: a claim failed, 2: the input was wrong).

    >>> main(["evaluate", "noise_floor.variance", "eta=1/10", "lam=1", "sigma=1"])
    1/19
    0
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # it is none in a notebook
            stream.reconfigure(errors="backslashreplace")  # not every encoding has ‖ and ±
    if sys.stderr is None:  # closed
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        return _fail("the standard output is closed: there is no place for an answer; open it")
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `… | head` has seen enough
        _discard(sys.stdout)
        return 0
    except OSError as error:
        if error.filename is not None:
            return _fail(f"{error.filename}: {error.strerror}; give a file that can be read or written")
        _discard(sys.stdout)
        return _fail(f"the standard output: {error.strerror}; give it a place that can be written to")
    except (ArithmeticError, KeyError, MemoryError, TypeError, ValueError) as error:
        return _fail(str(error.args[-1]) if error.args else type(error).__name__)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


if __name__ == "__main__":
    # pictures are text and need no backend, and Matplotlib would refuse to be imported with a wrong one
    os.environ.pop("MPLBACKEND", None)
    sys.exit(main())
