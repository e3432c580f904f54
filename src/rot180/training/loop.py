"""Training as an iterator: each update is one record, and everybody reads the same stream. (D1)

The four steps of seed 002: take a sample, compute the output (network.py); compute the difference from the target,
adjust the weights against the gradient (here).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from rot180.arrays import Array
from rot180.chance import Training, Use, permutation
from rot180.data.dataset import Dataset, split
from rot180.engines import Batches, Gradients, Trains
from rot180.errors import DataError, DivergenceError
from rot180.network import Evaluation, Network
from rot180.parameters import decayed
from rot180.training.recipe import Recipe

RECORD_SECONDS = 0.2  # how much an engine that makes many updates in a call makes between two records
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
    learning_rate: float
    validation: Evaluation | None = None  # after the last update of an epoch, where images are held out

    @property
    def ends_epoch(self) -> bool:
        """Was this the epoch's last update?"""
        return self.images == self.epoch_images

    @property
    def progress(self) -> float:
        """The share of the whole training that is done."""
        return (self.epoch - 1 + self.images / self.epoch_images) / self.epochs


@dataclass
class Position:
    """Where training stands: all that changes beside the parameters, and all that a resumed run needs."""

    epoch: int = 0  # finished epochs
    image: int = 0  # images of the current epoch that are done with
    attempt: int = 0  # updates already made for the next image (sample-by-sample)
    step: int = 0  # updates in all
    loss_sum: float = 0.0  # over the epoch's images so far
    errors: int = 0


@dataclass
class Trainer:
    """A training that can be stopped after any update and taken up again, bit for bit.

    Iterating makes updates, writes them into the network, and yields a Step after each; an engine that can make many
    updates in one call makes a fifth of a second's worth between two Steps. The updates are the same either way.
    Raises DataError where the data does not fit the network, DivergenceError where the loss stops being a number.
    """

    network: Network
    data: Dataset
    recipe: Recipe = field(default_factory=Recipe)
    validation: Dataset | None = None
    position: Position = field(default_factory=Position)

    def __post_init__(self) -> None:
        self.data.check_fits(self.network.graph.input_shape, self.network.graph.classes)
        if self.validation is None and self.recipe.validation:
            held_out = self.recipe.validation
            self.data, self.validation = split(self.data, [1 - held_out, held_out], self.recipe.seed)
        if not len(self.data):
            raise DataError(f"{self.data.name}: there are no images to train on")
        self.recipe.augmentation.check_fits(self.data.shape)
        self.memory = np.zeros((self.recipe.optimizer.slots, self.network.layout.size), self.network.dtype)
        self._decayed = decayed(self.network.graph, self.network.layout)
        self._updates_at_once = 1

    def __iter__(self) -> Iterator[Step]:
        at, recipe = self.position, self.recipe
        while at.epoch < recipe.epochs:
            epoch = at.epoch
            order = permutation(len(self.data), Use.SHUFFLE, recipe.seed, epoch)
            while at.epoch == epoch:
                done = replace(at)
                rate = self._advance(order)
                record = self._record(rate, done)
                if at.image == len(self.data):
                    self._end_epoch()
                yield record

    @property
    def _batch(self) -> int:
        """Images an update."""
        return {"mini-batch": self.recipe.batch, "whole-batch": len(self.data)}.get(self.recipe.mode, 1)

    def _rate(self, image: int) -> float:
        """The learning rate of the update that begins with this image of the epoch: the schedule's at its middle."""
        middle = image + min(self._batch, len(self.data) - image) / 2
        progress = (self.position.epoch + middle / len(self.data)) / self.recipe.epochs
        return self.recipe.learning_rate * self.recipe.schedule(progress)

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
            self._update(gradients, rate)
        at.step += 1
        at.attempt += 1
        repeats = recipe.sample_updates if recipe.mode == "sample-by-sample" else 1
        if at.attempt == repeats or gradients.loss < recipe.sample_loss:
            at.attempt = 0
            at.image += len(indices)
            self._count(gradients.loss * len(indices), gradients.scores, indices)
        return rate

    def _advance_by_many(self, program: Trains, order: Array) -> float:
        at, batch, network = self.position, self._batch, self.network
        starts = range(at.image, len(self.data), batch)[: self._updates_at_once]
        indices = order[at.image : starts[-1] + batch]
        rates = np.array([self._rate(start) for start in starts])
        before = network.parameters.copy(), network.statistics.copy(), self.memory.copy()
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
        )
        seconds = time.monotonic() - began
        if not (np.isfinite(results.losses).all() and np.isfinite(network.parameters).all()):
            network.parameters[:], network.statistics[:], self.memory[:] = before
            return self._advance_by_one(order)  # one by one, the update that goes wrong is found and named
        self._updates_at_once = max(1, min(2 * len(starts), int(len(starts) * RECORD_SECONDS / max(seconds, 1e-6))))
        for first in range(0, len(indices), batch):  # one sum an update: the same, however many make a call
            part = slice(first, first + batch)
            self._count(float(results.losses[part].sum(dtype=np.float64)), results.scores[part], indices[part])
        at.step += len(starts)
        at.image += len(indices)
        return float(rates[-1])

    def _count(self, loss: float, scores: Array, indices: Array) -> None:
        """Add a batch to what the epoch's records say."""
        self.position.loss_sum += loss
        self.position.errors += int((scores.argmax(axis=1) != self.data.labels[indices]).sum())

    def _update(self, gradients: Gradients, rate: float) -> None:
        """The optimiser's step; taken back where it would leave parameters that are not finite."""
        parameters, memory = self.network.parameters, self.memory
        before = parameters.copy(), memory.copy()
        self.recipe.optimizer.update(parameters, gradients.vector, memory, rate, self._decayed)
        if not (np.isfinite(parameters).all() and np.isfinite(memory).all()):
            parameters[:], memory[:] = before
            raise self._diverged(gradients.loss, "the parameters it leads to are not finite")
        self.network.statistics[:] = gradients.statistics

    def _record(self, rate: float, before: Position) -> Step:
        at, images = self.position, self.position.image
        ends = images == len(self.data) and before.image < images
        with np.errstate(all="ignore"):  # the next update, or the run's end, finds what is not finite
            validation = self.network.evaluate(self.validation) if ends and self.validation else None
        return Step(
            epoch=at.epoch + 1,
            epochs=self.recipe.epochs,
            step=at.step,
            images=images,
            epoch_images=len(self.data),
            loss=at.loss_sum / max(images, 1),
            error=at.errors / max(images, 1),
            learning_rate=rate,
            validation=validation,
        )

    def _end_epoch(self) -> None:
        at = self.position
        at.epoch, at.image, at.loss_sum, at.errors = at.epoch + 1, 0, 0.0, 0

    def _gradients(self, indices: Array) -> Gradients:
        """Of the mean loss over these images, in parts where they are many."""
        parts, total = [], len(indices)
        for first in range(0, total, IMAGES_AT_ONCE):
            part = indices[first : first + IMAGES_AT_ONCE]
            training = Training(self.recipe.seed, self.position.step, first_image=first)
            images = self._images(part)
            parts.append((len(part) / total, self.network.loss_and_gradients(images, self.data.labels[part], training)))
        if len(parts) == 1:
            return parts[0][1]
        return Gradients(
            sum(share * part.loss for share, part in parts),
            np.concatenate([part.scores for _, part in parts]),
            np.asarray(sum(part.vector * part.vector.dtype.type(share) for share, part in parts)),
            parts[-1][1].statistics,
        )

    def _images(self, indices: Array) -> Array:
        recipe = self.recipe
        return recipe.augmentation.apply(self.data.images[indices], recipe.seed, self.position.epoch, indices)

    def _check_finite(self, gradients: Gradients, indices: Array) -> None:
        if np.isfinite(gradients.loss) and np.isfinite(gradients.vector).all():
            return
        part = indices[:IMAGES_AT_ONCE]
        training = Training(self.recipe.seed, self.position.step)
        values = self.network.trace(self._images(part), self.data.labels[part], training)
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


def train(
    network: Network, data: Dataset, recipe: Recipe | None = None, validation: Dataset | None = None
) -> Iterator[Step]:
    """Train the network on the data, one Step after each update.

    validation: images to measure on after each epoch; without, the recipe's share of the data is held out.
    For a training that can be resumed, see Trainer; for one that leaves a run folder, training.run.
    """
    return iter(Trainer(network, data, recipe or Recipe(), validation))
