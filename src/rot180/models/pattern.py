"""The usual order of a convolutional network, read from the string that writes it. (C1)

    INPUT -> [[CONV]*N -> POOL?]*M -> [FC]*K                                           seeds 001 (1.3.4) and 004
    INPUT -> [[CONV -> RELU]*N -> POOL?]*M -> [FC -> RELU]*K -> FC                     with the activations written out

N convolutions and perhaps a pooling, all this M times, then K dense layers, the last of which gives the scores.
Instead of the letters there may be numbers, and behind a word the sizes of its layer:

    INPUT(1, 28, 28) -> CONV(6, 5) -> POOL -> CONV(16, 5) -> POOL -> FC(120) -> FC(84) -> FC
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import NoReturn, TypeAlias, TypeVar

from rot180.arrays import Shape, flag, whole
from rot180.convolve import Padding
from rot180.errors import SettingError
from rot180.graph import Block, Graph, sequence
from rot180.layers import Convolution, Dense, Layer, MaxPooling, ReLU, ScalePixels, Sigmoid, SoftmaxCrossEntropy, Tanh

ACTIVATIONS: Mapping[str, Layer] = {"RELU": ReLU(), "SIGMOID": Sigmoid(), "TANH": Tanh()}
NUMBERS = {
    "INPUT": ("channels", "height", "width"),
    "CONV": ("filters", "size"),
    "POOL": ("size", "stride"),
    "FC": ("units",),
    **dict.fromkeys(ACTIVATIONS, ()),
}
"""What the numbers behind a word mean: CONV(16, 5) has 16 filters of 5x5. All but INPUT's may be left out."""

SIGN = re.compile(r"->|[A-Za-z]+|[0-9]+|\S")
DEEPEST = 20  # brackets within brackets
LONGEST = 10_000  # layers

DIGITS = 9  # of a number

Item: TypeAlias = "Word | Group"
Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Word:
    """One layer: CONV, CONV(16, 5), POOL?."""

    name: str
    numbers: tuple[int, ...] = ()
    optional: bool = False

    def __str__(self) -> str:
        numbers = f"({', '.join(map(str, self.numbers))})" if self.numbers else ""
        return f"{self.name}{numbers}{'?' if self.optional else ''}"


@dataclass(frozen=True)
class Group:
    """What stands in brackets, so many times: a number, or the letter that will get one."""

    items: tuple[Item, ...]
    times: int | str

    def __str__(self) -> str:
        return f"[{_joined(self.items)}]*{self.times}"


@dataclass(frozen=True)
class Pattern:
    """A pattern that has been read; str() writes it again.

    >>> str(Pattern.read("INPUT->[[CONV]*1->POOL]*2->[FC]*2"))
    'INPUT -> [[CONV]*1 -> POOL]*2 -> [FC]*2'
    >>> str(Pattern.read("INPUT -> [[CONV]*N -> POOL?]*M -> [FC]*K").expanded(N=1, M=2, K=2))
    'INPUT -> CONV -> POOL? -> CONV -> POOL? -> FC -> FC'
    """

    items: tuple[Item, ...]

    @classmethod
    def read(cls, text: str) -> "Pattern":
        """The pattern that the text writes. SettingError, saying where, for anything else."""
        return cls(_Reader(text).whole())

    def __str__(self) -> str:
        return _joined(self.items)

    def expanded(self, **counts: int) -> "Pattern":
        """The same layers without brackets, letters replaced by numbers. SettingError for one without a number."""
        for letter, times in counts.items():
            whole(times, letter, at_least=0)
        letters = set(_letters(self.items))
        if missing := sorted(letters - counts.keys()):
            raise SettingError(
                f"the pattern {self} says {missing[0]}: how many? Write a number, or give {missing[0]}=2"
            )
        if extra := sorted(counts.keys() - letters):
            raise SettingError(f"the pattern {self} has no {extra[0]}")
        if (layers := _length(self.items, counts)) > LONGEST:
            raise SettingError(f"the pattern {self} would have {layers:,} layers: {LONGEST:,} at most")
        return Pattern(tuple(_words(self.items, counts)))


def pattern(
    text: str,
    classes: int = 10,
    shape: Shape = (1, 28, 28),
    *,
    filters: int | Sequence[int] = 16,
    size: int = 3,
    padding: Padding = "same",
    units: int | Sequence[int] = 128,
    pool: bool | Sequence[bool] = True,
    activation: str = "RELU",
    **counts: int,
) -> Graph:
    """The network that the pattern describes; counts: N=1, M=2, K=2, where it has letters.                 (C1)

    A word with numbers has them; the settings are for those without:
    filters: of the first convolution, and behind each pooling twice as many as before; or a list, one for each.
    size: of a convolution's kernel. units: of the dense layers but the last; or a list, one for each.
    pool: is there a POOL where the pattern says POOL?; or a list, an answer for each. POOL alone is a window of 2x2.
    activation: RELU, SIGMOID or TANH, behind each CONV and each FC but the last where the pattern names none: seed
    004's layers have one of their own. The last FC has an output for each class; softmax cross-entropy is the loss.
    Raises SettingError for a pattern that cannot be read or does not end in FC, ShapeError where a layer does not fit.

    >>> graph = pattern("INPUT -> [[CONV]*N -> POOL?]*M -> [FC]*K", N=1, M=2, K=2, filters=(3, 5), units=20)
    >>> ", ".join(node.name for node in graph)
    'pixels, conv1, relu1, pool1, conv2, relu2, pool2, fc1, relu3, fc2, loss'
    """
    words = [word for word in Pattern.read(text).expanded(**counts).items if isinstance(word, Word)]
    answers = _each(pool, sum(word.optional for word in words), "pool", "POOL?")
    words = [word for word in words if not word.optional or flag(next(answers), "pool")]
    if words[-1].name != "FC":
        raise SettingError(f"the pattern {text!r} ends in {words[-1].name}: end it in FC, which gives the scores")
    if words[-1].numbers not in ((), (classes,)):
        raise SettingError(f"the last FC has an output for each of {classes} classes: leave its number out")
    if not any(word.name in ACTIVATIONS for word in words):
        words = list(_activated(words, activation))
    return sequence(
        words[0].numbers or shape,
        pixels=ScalePixels(-1, 1),
        **_layers(words[1:], classes, filters, size, padding, units),
        loss=SoftmaxCrossEntropy(),
    )


def _activated(words: Sequence[Word], activation: str) -> Iterator[Word]:
    """The activation behind each CONV, and each FC but the last."""
    if activation not in ACTIVATIONS:
        raise SettingError(f"there is no activation {activation!r}: choose one of {', '.join(ACTIVATIONS)}")
    for word in words[:-1]:
        yield word
        if word.name in ("CONV", "FC"):
            yield Word(activation)
    yield words[-1]


def _layers(
    words: Sequence[Word],
    classes: int,
    filters: int | Sequence[int],
    size: int,
    padding: Padding,
    units: int | Sequence[int],
) -> dict[str, Block]:
    """A layer for each word, called by its word and number: conv1, relu1, pool1, conv2."""
    silent = [word.name for word in words[:-1] if not word.numbers]
    listed: Iterator[int] | None = None
    if not isinstance(filters, int):
        listed = _each(filters, silent.count("CONV"), "filters", "CONV")
    widths = _each(units, silent.count("FC"), "units", "FC before the last")
    current = filters if isinstance(filters, int) else 0
    layers: dict[str, Block] = {}
    made: Counter[str] = Counter()
    for place, word in enumerate(words, start=1):
        layer: Layer
        match word:
            case Word("CONV", numbers):
                if numbers:
                    current = numbers[0]
                elif listed:
                    current = next(listed)
                layer = Convolution(current, numbers[1] if numbers[1:] else size, padding=padding)
            case Word("POOL", numbers):
                current *= 2
                window, *stride = numbers or (2,)
                layer = MaxPooling(window, stride[0] if stride else None, remainder="floor")
            case Word("FC", numbers):
                layer = Dense(classes if place == len(words) else numbers[0] if numbers else next(widths))
            case _:
                layer = ACTIVATIONS[word.name]
        made[word.name] += 1
        layers[f"{word.name.lower()}{made[word.name]}"] = layer
    return layers


def _each(setting: Setting | Sequence[Setting], count: int, name: str, word: str) -> Iterator[Setting]:
    """One setting for each word: the same for all, or as listed."""
    if not isinstance(setting, Sequence):
        return repeat(setting)
    if len(setting) != count:
        raise SettingError(
            f"{name} lists {len(setting)}, but the pattern has {count} {word} that take one from it: list {count}"
        )
    return iter(setting)


# --- what is in the brackets -----------------------------------------------------------------------------------


def _joined(items: Sequence[Item]) -> str:
    return " -> ".join(map(str, items))


def _letters(items: Sequence[Item]) -> Iterator[str]:
    for item in items:
        if isinstance(item, Group):
            yield from _letters(item.items)
            if isinstance(item.times, str):
                yield item.times


def _length(items: Sequence[Item], counts: Mapping[str, int]) -> int:
    """How many words there will be: counted before they are made."""
    return sum(_times(item, counts) * _length(item.items, counts) if isinstance(item, Group) else 1 for item in items)


def _words(items: Sequence[Item], counts: Mapping[str, int]) -> Iterator[Word]:
    for item in items:
        if isinstance(item, Group):
            for _ in range(_times(item, counts)):
                yield from _words(item.items, counts)
        else:
            yield item


def _times(group: Group, counts: Mapping[str, int]) -> int:
    return counts[group.times] if isinstance(group.times, str) else group.times


# --- reading ---------------------------------------------------------------------------------------------------


class _Reader:
    """Reads a pattern from left to right.

    items := item -> item -> ...    item := WORD, WORD(number, ...), either with ? behind it, or [items]*times
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._signs = [(each.group(), each.start()) for each in SIGN.finditer(text)]
        self._next = 0

    def whole(self) -> tuple[Item, ...]:
        """The whole text."""
        if self._sign.upper() != "INPUT":
            self._fail("a pattern begins with INPUT")
        items = self._items(depth=0)
        if self._sign:
            self._fail("expected -> or the end")
        return items

    def _items(self, depth: int) -> tuple[Item, ...]:
        if depth > DEEPEST:
            self._fail(f"brackets are more than {DEEPEST} deep")
        items = [self._item(depth)]
        while self._sign == "->":
            self._take()
            items.append(self._item(depth))
        return tuple(items)

    def _item(self, depth: int) -> Item:
        if self._sign != "[":
            return self._word()
        self._take()
        items = self._items(depth + 1)
        self._expect("]", "or ->")
        self._expect("*", "and how many times")
        return Group(items, self._times())

    def _times(self) -> int | str:
        if self._sign.isdecimal():
            return self._number()
        if not (len(self._sign) == 1 and self._sign.isalpha()):
            self._fail("expected how many times: a number or a letter")
        return self._take().upper()

    def _word(self) -> Word:
        first, name = self._next == 0, self._sign.upper()
        if name not in NUMBERS:
            self._fail(f"expected one of {', '.join(NUMBERS)} or [")
        if (name == "INPUT") is not first:
            self._fail("INPUT stands at the beginning, and only there")
        self._take()
        numbers: list[int] = []
        if self._sign == "(":
            self._take()
            numbers.append(self._number())
            while self._sign == ",":
                self._take()
                numbers.append(self._number())
            names = NUMBERS[name]
            if len(numbers) > len(names) or (first and len(numbers) < len(names)):
                self._fail(f"{name} takes {', '.join(names) or 'no numbers'}")
            self._expect(")")
        optional = self._sign == "?"
        if optional:
            if name != "POOL":
                self._fail("only POOL? may be left out")
            self._take()
        return Word(name, tuple(numbers), optional)

    def _number(self) -> int:
        if not self._sign.isdecimal() or len(self._sign) > DIGITS:
            self._fail(f"expected a number of at most {DIGITS} digits")
        return int(self._take())

    # --- one sign at a time

    @property
    def _sign(self) -> str:
        """The next one; empty at the end."""
        return self._signs[self._next][0] if self._next < len(self._signs) else ""

    def _take(self) -> str:
        sign = self._sign
        self._next += 1
        return sign

    def _expect(self, sign: str, more: str = "") -> None:
        if self._sign != sign:
            self._fail(f"expected {sign} {more}".rstrip())
        self._take()

    def _fail(self, wanted: str) -> NoReturn:
        place = self._signs[self._next][1] if self._sign else len(self._text)
        here = f"at {self._text[place : place + 20]!r}" if self._sign else "at the end"
        raise SettingError(f"the pattern {self._text!r} cannot be read, character {place + 1}, {here}: {wanted}")
