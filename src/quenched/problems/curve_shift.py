"""What a back-test says of predictions: their shift within the sample, and the luck of single trainings."""

from __future__ import annotations

import numpy as np

from ..finite.ridge_path import PathTrials

_PRIOR = {"test_mse": 0.1, "test_error": 0.3}  # standard deviation of log(measured/predicted) before it is measured


class Shift:
    """Measured over predicted, interpolated in the logarithms of sample size and penalty; nothing at N and beyond.

    Before it is measured, ``log(measured/predicted)`` is 0 +- a prior: what is noise of few trainings is not copied.

    Parameters: ``curve`` with ``reach`` and ``rates``; ``trials`` its back-test; ``samples`` N; ``coded`` (N, K) the
    classes as -1 and +1, or None for regression.
    """

    def __init__(self, curve, trials: PathTrials, samples: int, coded):
        sizes, penalties = np.meshgrid(trials.sizes.astype(float), trials.penalties, indexing="ij")
        samples, root_count = float(samples), np.sqrt(trials.counts)[:, None]
        reach = curve.reach(sizes.ravel(), penalties.ravel())
        self._sizes, self._penalties = np.log(np.append(trials.sizes, samples)), np.log(trials.penalties)
        self.samples, self.offset, self.trials = samples, curve.offset, trials
        self.predicted = {"test_mse": reach.error.reshape(sizes.shape)}
        logs = {"test_mse": np.log(trials.mean_square / self.predicted["test_mse"])}
        errors, luck = {"test_mse": trials.spread / root_count}, {"test_mse": trials.spread}
        if coded is not None:
            rates, floor = curve.rates(sizes.ravel(), penalties.ravel(), coded)[0].reshape(sizes.shape), 0.5 / samples
            wrong = trials.wrong + floor
            self.predicted["test_error"], logs["test_error"] = rates, np.log(wrong / (rates + floor))
            errors["test_error"] = trials.wrong_spread / wrong / root_count
            tested = wrong * (1.0 - trials.wrong) / (samples - sizes)  # the luck of the rows that were held out
            luck["test_error"] = np.sqrt(np.maximum(trials.wrong_spread**2 - tested, 0.0)) / wrong
        trust = {name: 1.0 / (1.0 + (error / _PRIOR[name]) ** 2) for name, error in errors.items()}
        self._shifts = {name: _closed(trust[name] * log) for name, log in logs.items()}
        self._errors = {name: _closed(np.sqrt(trust[name]) * error) for name, error in errors.items()}
        # The luck of one training set: its share of the error shrinks as df2/n does.
        at_n = curve.reach(np.full(len(trials.penalties), samples), trials.penalties).freedom.df2 / (samples - self.offset)
        shares = reach.freedom.df2.reshape(sizes.shape) / (sizes - self.offset)
        last = {name: np.mean((spread / shares)[-3:], axis=0) * at_n for name, spread in luck.items()}
        self._luck = {name: np.vstack([spread, last[name]]) for name, spread in luck.items()}
        self._share = at_n

    def __call__(self, samples, penalty, df2, observable):
        """log shift, its standard error, and the standard deviation of log(error) from training to training, (J,)."""
        tables = self._shifts[observable], self._errors[observable], self._luck[observable]
        shift, error, luck = (self._at(table, samples, penalty) for table in tables)
        below = np.maximum(0.0, self._sizes[0] - np.log(samples))  # smaller than any part that was trained on
        logs = np.log(np.maximum(penalty, np.exp(self._penalties[0])))
        share = df2 / (samples - self.offset) / np.interp(logs, self._penalties, self._share)
        return shift, np.hypot(error, 0.15 * below), luck * np.where(samples > self.samples, np.minimum(share, 1.0), 1.0)

    def column(self, penalty: float) -> int:
        """The column of the tables that holds a penalty."""
        return int(np.argmin(np.abs(self.trials.penalties - penalty)))

    def _at(self, table, samples, penalty):
        logs = np.log(np.maximum(penalty, np.exp(self._penalties[0])))
        rows = np.stack([np.interp(logs, self._penalties, row) for row in table])
        place = np.interp(np.log(samples), self._sizes, np.arange(len(rows)))
        low = np.minimum(place.astype(int), len(rows) - 2)
        columns, part = np.arange(len(logs)), place - low
        return (1.0 - part) * rows[low, columns] + part * rows[low + 1, columns]


def _closed(table) -> np.ndarray:
    """The table with a row of zeros for the whole sample."""
    return np.vstack([table, np.zeros(table.shape[1])])
