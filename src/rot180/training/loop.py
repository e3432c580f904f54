"""Training as an iterator: each update is one record, and everybody reads the same stream. (D1)

The four steps of seed 002: take a sample, compute the output (network.py); compute the difference from the target,
adjust the weights against the gradient (here).
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import sqrt

import numpy as np

from rot180.arrays import Array
from rot180.chance import Training, Use, permutation
from rot180.data.dataset import Dataset, split
from rot180.engines import Average, Batches, Gradients, Trains
from rot180.errors import DataError, DivergenceError, SettingError
from rot180.network import Evaluation, Network
from rot180.parameters import decayed
from rot180.training.recipe import Recipe
from rot180.training.schedules import Adaptive
from rot180.training.stopping import EPOCHS

RECORD_SECONDS = 0.2  # how much an engine that makes many updates in a call makes between two records
MEASURING_BATCHES = 50  # an average's statistics are measured over so many; of a momentum of 0.9 they leave 0.5 %
SWAP = 1 << 20  # numbers exchanged at a time
IMAGES_AT_ONCE = 1000  # of a whole-batch step: its gradient is summed up in parts that fit the memory


@dataclass(frozen=True)
class Step:
    """What one update did."""

    epoch: int  # from 1
    epochs: int
    step: int  # updates so far, from 1
    images: int  # of this epoch, so far
    epoch_images: int
    loss: float  # the mean over this epoch's images so far
    error: float  # the share of them that was classified wrongly when its turn came
    gradient_norm: float  # the gradient's length: root mean square over this epoch's updates so far
    learning_rate: float
    validation: Evaluation | None = None  # after the last update of an epoch or of all, where images are held out
    stopped_by: str = ""  # after the last update of all: which criterion, or "epochs"

    @property
    def ends_epoch(self) -> bool:
        """Was this the epoch's last update?"""
        return self.images == self.epoch_images

    @property
    def progress(self) -> float:
        """The share of the whole training that is done."""
        return (self.epoch - 1 + self.images / self.epoch_images) / self.epochs

    def _repr_html_(self) -> str:
        """Its numbers in a row, for notebooks."""
        from rot180 import notebook

        numbers = {
            "epoch": f"{self.epoch} of {self.epochs}",
            "update": f"{self.step:,}",
            "images": f"{self.images:,} of {self.epoch_images:,}",
            "loss": f"{self.loss:.4f}",
            "error": f"{100 * self.error:.2f} %",
            "learning rate": f"{self.learning_rate:.3g}",
        }
        if self.validation:
            numbers |= {"validation loss": f"{self.validation.loss:.4f}"}
            numbers |= {"validation error": f"{100 * self.validation.error:.2f} %"}
        if self.stopped_by:
            numbers["stopped by"] = self.stopped_by.replace("_", " ")
        return notebook.table(tuple(numbers), [tuple(numbers.values())], left=0)


@dataclass
class Position:
    """Where training stands: all that changes beside the parameters, and all that a resumed run needs."""

    epoch: int = 0  # finished epochs
    image: int = 0  # images of the current epoch that are done with
    attempt: int = 0  # updates already made for the next image (sample-by-sample)
    step: int = 0  # updates in all
    loss_sum: float = 0.0  # over the epoch's images so far
    errors: int = 0
    updates: int = 0  # of the epoch so far
    squared_norms: float = 0.0  # over these updates: the sum of the gradient's squared lengths
    rate_factor: float = 1.0  # what the adaptive schedule has made of the learning rate
    last_loss: float = 0.0  # the mean loss of the epoch before
    averaged: int = 0  # how many parameters have gone into the average
    best_epoch: int = 0  # whose validation loss was the lowest, from 1
    best_loss: float = 0.0
    stopped_by: str = ""  # why training has ended, once it has
    settled: bool = False  # has the network what the training leaves: the best, or the average?
    seconds: float = field(default=0.0, compare=False)  # spent on updates and validation


@dataclass
class Trainer:
    """A training that can be stopped after any update and taken up again, bit for bit.

    Iterating makes updates, writes them into the network, and yields a Step after each; an engine that can make many
    updates in one call makes a fifth of a second's worth between two Steps. The updates are the same either way.
    When it is over, the network has the best parameters where the recipe watches the validation loss, else their
    average where it wants one, else the last.
    Raises DataError where the data does not fit the network, DivergenceError where the loss stops being a number.
    """

    network: Network
    data: Dataset
    recipe: Recipe = field(default_factory=Recipe)
    validation: Dataset | None = None
    position: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        self.data.check_fits(self.network.graph.input_shape, self.network.graph.classes)
        if self.validation is None:
            self.data, self.validation = hold_out(self.data, self.recipe)
        if not len(self.data):
            raise DataError(f"{self.data.name}: there are no images to train on")
        self.recipe.augmentation.check_fits(self.data.shape)
        if self.recipe.stopping.patience and not self.validation:
            raise SettingError("patience looks at the validation loss: hold images out, with a validation above 0")
        network, watched = self.network, int(self.recipe.stopping.patience is not None)
        self.memory = np.zeros((self.recipe.optimizer.slots, network.layout.size), network.dtype)
        self.average = np.zeros(network.layout.size if self.recipe.averaging else 0, network.dtype)
        self.best_parameters = np.zeros(network.layout.size * watched, network.dtype)
        self.best_statistics = np.zeros(network.statistics_layout.size * watched, network.dtype)
        self._decayed = decayed(network.graph, network.layout)
        self._updates_at_once = 1

    @property
    def arrays(self) -> dict[str, Array]:
        """All vectors that training changes, by name: with the position, all that a checkpoint needs."""
        network = self.network
        arrays = {"parameters": network.parameters, "statistics": network.statistics, "memory": self.memory}
        optional = {"average": self.average, "best parameters": self.best_parameters}
        optional |= {"best statistics": self.best_statistics}
        return arrays | {name: array for name, array in optional.items() if array.size}

    @property
    def finished(self) -> bool:
        """Has training ended?"""
        return bool(self.position.stopped_by)

    def __iter__(self) -> Iterator[Step]:
        at = self.position
        while not self.finished:
            order = permutation(len(self.data), Use.SHUFFLE, self.recipe.seed, at.epoch)
            ends = False
            while not (ends or self.finished):
                began, seconds = time.monotonic(), at.seconds
                rate = self._advance(order)
                at.seconds = seconds + time.monotonic() - began
                ends = at.image == len(self.data)
                step = self._end_update(rate, ends)
                at.seconds = seconds + time.monotonic() - began
                yield step
        self.settle()

    def settle(self) -> None:
        """Once training has ended: give the network the best parameters, or the average, where it is to have them."""
        at, network = self.position, self.network
        if not self.finished or at.settled:
            return
        if at.best_epoch:
            network.parameters[:], network.statistics[:] = self.best_parameters, self.best_statistics
        elif at.averaged:
            network.parameters[:] = self.average
            self._measure_statistics()
        at.settled = True

    @property
    def _batch(self) -> int:
        """Images an update."""
        return {"mini-batch": self.recipe.batch, "whole-batch": len(self.data)}.get(self.recipe.mode, 1)

    def _progress(self, image: float) -> float:
        """The share of the training that is done at this image of the epoch."""
        return (self.position.epoch + image / len(self.data)) / self.recipe.epochs

    def _rate(self, image: int) -> float:
        """The learning rate of the update that begins with this image of the epoch: the schedule's at its middle."""
        middle = image + min(self._batch, len(self.data) - image) / 2
        return self.recipe.learning_rate * self.position.rate_factor * self.recipe.schedule(self._progress(middle))

    # --- updates ---------------------------------------------------------------------------------------------------

    def _advance(self, order: Array) -> float:
        """Make an update, or as many as take RECORD_SECONDS where the engine can; the last learning rate."""
        program = self.network.program
        if (
            self.recipe.mode in ("mini-batch", "stochastic")
            and self._batch <= IMAGES_AT_ONCE
            and isinstance(program, Trains)
            and program.trains_with(self.recipe.optimizer)
        ):
            return self._advance_by_many(program, order)
        return self._advance_by_one(order)

    def _advance_by_one(self, order: Array) -> float:
        at, recipe = self.position, self.recipe
        indices, rate = order[at.image : at.image + self._batch], self._rate(at.image)
        with np.errstate(all="ignore"):  # what is not finite is found and named
            gradients = self._gradients(indices)
            self._check_finite(gradients, indices)
            norm = sqrt(float(np.square(gradients.vector, dtype=np.float64).sum()))
            self._update(gradients, rate)
        at.attempt += 1
        repeats = recipe.sample_updates if recipe.mode == "sample-by-sample" else 1
        if at.attempt == repeats or gradients.loss < recipe.sample_loss:
            at.attempt = 0
            at.image += len(indices)
            self._count_images(gradients.loss * len(indices), gradients.scores, indices)
        self._count_update(norm)
        if recipe.averaging:
            weight = self._average_weight(at.image, at.averaged + 1)
            if weight:
                at.averaged += 1
                self.average += weight * (self.network.parameters - self.average)
        return rate

    def _advance_by_many(self, program: Trains, order: Array) -> float:
        at, batch, network = self.position, self._batch, self.network
        limit = self.recipe.stopping.updates
        at_once = self._updates_at_once if limit is None else min(self._updates_at_once, limit - at.step)
        starts = range(at.image, len(self.data), batch)[:at_once]
        indices = order[at.image : starts[-1] + batch]
        rates = np.array([self._rate(start) for start in starts])
        weights = self._average_weights(starts)
        began = time.monotonic()
        results = program.train(
            Batches(
                images=self.data.images,
                labels=self.data.labels,
                order=indices,
                batch=batch,
                augmentation=self.recipe.augmentation,
                seed=self.recipe.seed,
                epoch=at.epoch,
                step=at.step,
                rates=rates,
            ),
            self.recipe.optimizer,
            network.parameters,
            network.statistics,
            self.memory,
            self._decayed,
            Average(self.average, weights) if self.recipe.averaging else None,
        )
        seconds, made = time.monotonic() - began, len(results.norms)
        if not made:
            return self._advance_by_one(order)  # which names what is not finite
        self._updates_at_once = max(1, min(2 * made, int(made * RECORD_SECONDS / max(seconds, 1e-6))))
        for number, norm in enumerate(results.norms):  # one sum an update: the same, however many make a call
            part = slice(number * batch, (number + 1) * batch)
            self._count_images(float(results.losses[part].sum(dtype=np.float64)), results.scores[part], indices[part])
            self._count_update(float(norm))
        at.image += len(results.losses)
        at.averaged += int(np.count_nonzero(weights[:made]))
        return float(rates[made - 1])

    def _average_weight(self, image: int, number: int) -> float:
        """The average's weight of the parameters that an update leaves when so many images of the epoch are done."""
        rule = self.recipe.averaging
        return rule.weight(number, self._progress(image), image == len(self.data)) if rule else 0.0

    def _average_weights(self, starts: range) -> Array:
        """The same of mini-batches that begin there."""
        weights, number = [], self.position.averaged
        for start in starts:
            weights.append(self._average_weight(min(start + self._batch, len(self.data)), number + 1))
            number += weights[-1] > 0
        return np.array(weights)

    def _count_images(self, loss: float, scores: Array, indices: Array) -> None:
        """Add a batch to what the epoch's records say."""
        self.position.loss_sum += loss
        self.position.errors += int((scores.argmax(axis=1) != self.data.labels[indices]).sum())

    def _count_update(self, norm: float) -> None:
        self.position.step += 1
        self.position.updates += 1
        self.position.squared_norms += norm * norm

    def _update(self, gradients: Gradients, rate: float) -> None:
        """The optimiser's step; not made, or taken back, where it would leave numbers that are not finite."""
        if not np.isfinite(gradients.statistics).all():
            raise self._diverged(gradients.loss, "the running statistics it leads to are not finite")
        parameters, memory = self.network.parameters, self.memory
        before = parameters.copy(), memory.copy()
        step = self.position.step + 1
        self.recipe.optimizer.update(parameters, gradients.vector, memory, rate, self._decayed, step)
        if not (np.isfinite(parameters).all() and np.isfinite(memory).all()):
            parameters[:], memory[:] = before
            raise self._diverged(gradients.loss, "the parameters it leads to are not finite")
        self.network.statistics[:] = gradients.statistics

    # --- after updates -----------------------------------------------------------------------------------------------

    def _end_update(self, rate: float, ends_epoch: bool) -> Step:
        """Record what was done; measure, decide whether to stop, and turn to the next epoch where that is due."""
        at, recipe = self.position, self.recipe
        at.stopped_by = recipe.stopping.after_update(at.step, at.seconds)
        validation = None
        if self.validation and (ends_epoch or at.stopped_by):
            with np.errstate(all="ignore"), self.averaged():  # the next update, or the end, finds what is not finite
                validation = self.network.evaluate(self.validation)
                self._note_best(validation)
        step = Step(
            epoch=at.epoch + 1,
            epochs=recipe.epochs,
            step=at.step,
            images=at.image,
            epoch_images=len(self.data),
            loss=at.loss_sum / max(at.image, 1),
            error=at.errors / max(at.image, 1),
            gradient_norm=sqrt(at.squared_norms / at.updates),
            learning_rate=rate,
            validation=validation,
        )
        if ends_epoch:
            without_better = at.epoch + 1 - at.best_epoch
            at.stopped_by = (
                recipe.stopping.after_epoch(step.loss, step.error, step.gradient_norm, without_better) or at.stopped_by
            )
            self._end_epoch(step.loss)
        return replace(step, stopped_by=at.stopped_by)

    def _note_best(self, validation: Evaluation) -> None:
        """Keep the network as it is where nothing before had a lower validation loss and somebody wants to know."""
        at = self.position
        better = np.isfinite(validation.loss) and (not at.best_epoch or validation.loss < at.best_loss)
        if self.recipe.stopping.patience and better:
            at.best_epoch, at.best_loss = at.epoch + 1, validation.loss
            self.best_parameters[:], self.best_statistics[:] = self.network.parameters, self.network.statistics

    def _end_epoch(self, loss: float) -> None:
        at, schedule = self.position, self.recipe.schedule
        if isinstance(schedule, Adaptive) and at.epoch:
            at.rate_factor *= schedule.change(loss, at.last_loss)
        at.epoch, at.image, at.last_loss = at.epoch + 1, 0, loss
        at.loss_sum, at.errors, at.updates, at.squared_norms = 0.0, 0, 0, 0.0
        if at.epoch == self.recipe.epochs:
            at.stopped_by = at.stopped_by or EPOCHS

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with the averaged parameters, where there are any, and statistics measured for them."""
        network = self.network
        if not self.position.averaged or self.position.settled:
            yield
            return
        statistics = network.statistics.copy()
        _swap(network.parameters, self.average)
        self._measure_statistics()
        try:
            yield
        finally:
            _swap(network.parameters, self.average)
            network.statistics[:] = statistics

    def _measure_statistics(self) -> None:
        """Put running statistics into the network that fit its parameters, from the first epoch's first batches.

        Those that training has measured belong to other parameters. (Izmailov et al. 2018, section 3.2)
        """
        network, seed, batch = self.network, self.recipe.seed, min(self.recipe.batch, len(self.data))
        if not network.statistics.size:
            return
        order = permutation(len(self.data), Use.SHUFFLE, seed, 0)
        for first in range(0, len(self.data) - batch + 1, batch)[:MEASURING_BATCHES]:
            indices = order[first : first + batch]
            gradients = network.loss_and_gradients(self._images(indices, 0), self.data.labels[indices], Training(seed))
            network.statistics[:] = gradients.statistics

    def _gradients(self, indices: Array) -> Gradients:
        """Of the mean loss over these images, in parts where they are many."""
        parts, total = [], len(indices)
        for first in range(0, total, IMAGES_AT_ONCE):
            part = indices[first : first + IMAGES_AT_ONCE]
            training = Training(self.recipe.seed, self.position.step, first_image=first)
            images = self._images(part, self.position.epoch)
            parts.append((len(part) / total, self.network.loss_and_gradients(images, self.data.labels[part], training)))
        if len(parts) == 1:
            return parts[0][1]
        return Gradients(
            sum(share * part.loss for share, part in parts),
            np.concatenate([part.scores for _, part in parts]),
            np.asarray(sum(part.vector * part.vector.dtype.type(share) for share, part in parts)),
            parts[-1][1].statistics,
        )

    def _images(self, indices: Array, epoch: int) -> Array:
        recipe = self.recipe
        return recipe.augmentation.apply(self.data.images[indices], recipe.seed, epoch, indices)

    def _check_finite(self, gradients: Gradients, indices: Array) -> None:
        if np.isfinite(gradients.loss) and np.isfinite(gradients.vector).all():
            return
        part = indices[:IMAGES_AT_ONCE]
        training = Training(self.recipe.seed, self.position.step)
        values = self.network.trace(self._images(part, self.position.epoch), self.data.labels[part], training)
        where = next(
            (f"the output of {name!r}" for name, y in values.outputs.items() if not np.isfinite(y).all()), None
        )
        where = where or next(
            (f"the gradient of {n!r}" for n, dy in reversed(values.gradients.items()) if not np.isfinite(dy).all()),
            "the gradient",
        )
        raise self._diverged(gradients.loss, f"{where} is the first that is not finite")

    def _diverged(self, loss: float, what: str) -> DivergenceError:
        return DivergenceError(
            f"the loss is {loss:.4g} in epoch {self.position.epoch + 1}, update {self.position.step + 1}: "
            f"{what}; nothing was changed by this update. Try a smaller learning "
            f"rate than {self.recipe.learning_rate:g}, or look for extreme values in the data"
        )


def _swap(one: Array, other: Array) -> None:
    """Exchange two vectors' numbers, a part at a time."""
    for first in range(0, one.size, SWAP):
        part = slice(first, first + SWAP)
        one[part], other[part] = other[part].copy(), one[part].copy()


def hold_out(data: Dataset, recipe: Recipe) -> tuple[Dataset, Dataset | None]:
    """The images that are learned from, and the recipe's share of validation images; None where it has none."""
    if not recipe.validation:
        return data, None
    learned, held_out = split(data, [1 - recipe.validation, recipe.validation], recipe.seed)
    return learned, held_out


def train(
    network: Network, data: Dataset, recipe: Recipe | None = None, validation: Dataset | None = None
) -> Iterator[Step]:
    """Train the network on the data, one Step after each update.

    validation: images to measure on after each epoch; without, the recipe's share of the data is held out.
    For a training that can be resumed, see Trainer; for one that leaves a run folder, training.run.
    """
    return iter(Trainer(network, data, recipe or Recipe(), validation))
