"""Checks of arguments that many constructors and functions share: a bad value is one clear sentence."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_kgrec._files import shown

_LARGEST = 1e17
"""Embeddings of more than this size have products that float32 cannot hold."""


def meant(name: Any, known: Iterable[str]) -> str:
    """What a wrong name may have been meant as, `` (did you mean max_epochs?)``, or nothing.

    A name of which it is a word comes before one that looks like it.
    """
    names, word = {other.lower(): other for other in known}, str(name)[:100].lower()
    of_word = [other for other in names if len(word) > 2 and word in other.split("_")]
    near = sorted(of_word, key=lambda other: (not other.startswith("max_"), len(other))) or (
        difflib.get_close_matches(word, list(names), n=1, cutoff=0.5)
    )
    return f" (did you mean {names[near[0]]}?)" if near else ""


def check_choices(**choices: tuple[Any, Iterable[str]]) -> None:
    """Raises ValueError unless each argument, given as ``name=(value, known values)``, has a known value."""
    for name, (value, known) in choices.items():
        names = tuple(known)
        if not isinstance(value, str) or value not in names:
            *most, last = map(repr, names)
            listed = f"{', '.join(most)} or {last}" if most else last
            raise ValueError(f"{name} is {shown(repr(value))}, expected {listed}")


def check_at_least(least: int, **numbers: int) -> None:
    """Raises TypeError for an argument that is no whole number, ValueError for one below ``least``."""
    for name, number in numbers.items():
        if isinstance(number, bool | np.bool_) or not isinstance(number, int | np.integer):
            raise TypeError(f"{name} is {shown(repr(number))}, expected a whole number")
        if number < least:
            raise ValueError(
                f"{name} is {shown(repr(number))}, expected {f'at least {least}' if least else '0 or more'}"
            )


def check_within(least: int, most: int, **numbers: int) -> None:
    """As :func:`check_at_least`; ValueError, too, for a number above ``most``."""
    for name, number in numbers.items():
        if not isinstance(number, int | np.integer) or number <= most:
            check_at_least(least, **{name: number})
        else:
            written = str(number) if number < 10**18 else "a number of more than 18 digits"
            raise ValueError(f"{name} is {written}, expected {least} to {most}")


MOST_LAYERS = 256
"""More layers than any model here gains from, and few enough to be built at once."""

MOST_CHANNELS = 2**16
"""More channels than any model here gains from."""

MOST_NEGATIVES = 2**16
"""Most negatives per positive."""


def check_optional(least: int, **numbers: int | None) -> None:
    """As :func:`check_at_least`, of those arguments that are not None."""
    check_at_least(least, **{name: number for name, number in numbers.items() if number is not None})


def check_finite(**numbers: float) -> None:
    """Raises TypeError for an argument that is no number, ValueError for NaN or infinity."""
    for name, number in numbers.items():
        check_number(name, number)
        try:
            finite = math.isfinite(number)
        except OverflowError:  # a whole number beyond all floating ones
            finite = False
        if not finite:
            raise ValueError(f"{name} is {shown(repr(number))}, expected a finite number")


def check_shares(**shares: float) -> None:
    """Raises TypeError for an argument that is no number, ValueError for one outside [0, 1)."""
    for name, share in shares.items():
        check_number(name, share)
        if not 0 <= share < 1:
            raise ValueError(f"{name} is {shown(repr(share))}, expected a share in [0, 1)")


def check_positive(**numbers: float) -> None:
    """Raises TypeError for an argument that is no number, ValueError for one that is not above 0."""
    for name, number in numbers.items():
        check_number(name, number)
        if not number > 0:
            raise ValueError(f"{name} is {shown(repr(number))}, expected above 0")


def check_factor(**numbers: float) -> None:
    """As :func:`check_positive`; ValueError, too, for infinity: temperatures and factors of rates."""
    check_positive(**numbers)
    check_finite(**numbers)


def check_channels(**channels: int) -> None:
    """As :func:`check_within`, of sizes of embeddings."""
    check_within(1, MOST_CHANNELS, **channels)


def check_weight(**weights: float) -> None:
    """As :func:`check_finite`; ValueError, too, for a number below 0: weights of parts of a loss."""
    check_finite(**weights)
    for name, weight in weights.items():
        if weight < 0:
            raise ValueError(f"{name} is {shown(repr(weight))}, expected 0 or more")


def check_seed(seed: int, least: int = -(2**63)) -> int:
    """A seed as PyTorch's generators take it, which refuse NumPy's whole numbers and round other ones.

    Args:
        seed: The seed.
        least: The least that is taken.

    Returns:
        The seed, an ``int``.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is below ``least`` or does not fit into 64 bits.
    """
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed is {shown(repr(seed))}, expected a whole number")
    if seed < least == 0:
        raise ValueError(f"seed is {shown(repr(seed))}, expected 0 or more")
    if not least <= seed < 2**64:
        raise ValueError(f"seed is {shown(repr(seed))}, expected a whole number of 64 bits")
    return int(seed)


def check_held_out(of: str, val: float, test: float) -> None:
    """Raises TypeError unless ``val`` and ``test`` are numbers, ValueError unless they leave some for training.

    Args:
        of: What they are shares of, for the message.
        val: Share for validation.
        test: Share for test.
    """
    for name, share in (("val", val), ("test", test)):
        check_number(name, share)
        if not 0 <= share < 1:
            raise ValueError(f"{name} is {shown(repr(share))}, expected a share of the {of} in [0, 1).")
    if val + test >= 1:
        raise ValueError(f"val and test are {val} and {test}, expected shares that leave some for training.")


def check_number(name: str, number: Any) -> None:
    """Raises TypeError unless an argument is a real number."""
    if isinstance(number, bool | np.bool_) or not isinstance(number, Real):
        raise TypeError(f"{name} is {shown(repr(number))}, expected a number")


def check_k(k: Any, number: int, what: str = "items of the catalogue") -> None:
    """Raises TypeError unless ``k`` is a whole number, ValueError unless there are so many to be listed."""
    expected = f"expected a whole number from 1 to the {number} {what}"
    if isinstance(k, bool | np.bool_) or not isinstance(k, int | np.integer):
        raise TypeError(f"k is {shown(repr(k))}, {expected}")
    if not 1 <= k <= number:
        raise ValueError(f"k is {shown(repr(k))}, {expected}")


def check_weights(model: torch.nn.Module, where: str = "the model") -> None:
    """Raises ValueError if a weight of a model is NaN or infinite."""
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if weight.is_floating_point() and not bool(weight.detach().isfinite().all()):
            raise ValueError(
                f"{name} of {where} holds NaN or infinity, expected finite weights: train it anew, with a lower "
                "learning rate or features of about unit size"
            )


def check_encoded(encoding: Any) -> None:
    """Raises ValueError if embeddings are so large that scores made of them are no numbers."""
    for name, value in vars(encoding).items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            largest = float(value.abs().max())
            if not largest < _LARGEST:
                raise ValueError(
                    f"what the model makes of the store ({name}) reaches {largest:.3g}, expected numbers that "
                    "scores can be made of: look at the size of the features and of the learning rate"
                )


def check_scores(score: Tensor) -> Tensor:
    """The scores themselves; raises ValueError if one is NaN or plus infinity."""
    if score.numel():
        largest = float(score.detach().max())  # NaN is larger than any number
        if not largest < math.inf:
            raise ValueError(
                f"a score is {largest}, expected finite scores: look at the size of the features and of the weights"
            )
    return score


def check_flag(**flags: Any) -> None:
    """Raises TypeError for an argument that is neither True nor False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool | np.bool_):
            raise TypeError(f"{name} is {shown(repr(flag))}, expected True or False")
