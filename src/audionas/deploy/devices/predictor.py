"""Predict a cost of all networks of a space from measurements of some (least squares)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from audionas.runtime.errors import UserError
from audionas.search.costs.layers import Layer
from audionas.search.space import FiniteSpace

FEWEST = 8  # rows
_OUTLIER = 30.0  # factor between the cost of a multiply-add of a row and the median, of mixed units
_CLOSE = 1e-9


class Error(NamedTuple):
    """Relative error on networks that the fit did not use, as a share: its mean, and its maximum."""

    mean: float
    worst: float

    def __str__(self) -> str:
        return f"{100 * self.mean:.1f} % on average, {100 * self.worst:.1f} % at most"


class Predictor:
    """Least squares on a constant, the layers of a network or of its blocks, and its choices.

    The layers give multiply-adds, outputs and weights. The relative error is minimised. Terms that do not
    differ between the networks are left out. Of several sets of terms, from a straight line in multiply-adds
    to all, the one with the smallest error on left-out rows is used (leave-one-out, in closed form). The
    reported error repeats this choice without the row.

    Args:
        space: all networks.
        places: indices of the measured networks [rows].
        measured: their costs [rows].
        where: name of the column in messages.
        listed: rows of the file, with those of other networks.

    Attributes:
        held_out: error of the predictor on left-out rows.
        line: error of a straight line in multiply-adds on left-out rows.

    Raises:
        UserError: too few rows, or the cost of a multiply-add differs so much that units must be mixed.
    """

    def __init__(self, space: FiniteSpace, places: np.ndarray, measured: np.ndarray, where: str, listed: int):
        if len(measured) < FEWEST:
            others = f", and {listed - len(measured)} of other networks" if listed > len(measured) else ""
            raise UserError(
                f"{where}: {len(measured)} measured networks of space {space.name}{others}; a prediction "
                f"needs {FEWEST} or more: run `audionas measure` with this supernet and the same --seconds"
            )
        self._where, self._listed = where, listed
        layers = [space.layers(configuration) for configuration in space]
        macs = np.array([sum(layer.macs for layer in each) for each in layers], float)
        rates = measured / macs[places]
        factors = np.exp(np.abs(np.log(rates / np.median(rates))))
        if factors.max() > _OUTLIER:
            worst = int(factors.argmax())
            raise UserError(
                f"{where}: {measured[worst]:g} for {space.text(space[places[worst]])!r} is off by a factor "
                f"of {factors[worst]:,.0f} from the other rows, compared by multiply-adds; write every row "
                "in the same unit"
            )
        self._sets = _term_sets(layers, macs, np.array([space.encode(each) for each in space]))
        self._places, self._measured = places, measured
        everything = np.ones(len(measured), bool)
        self._chosen = self._choose(everything)
        self.held_out = self._error(None)
        self.line = self._error(0)

    def predict(self) -> np.ndarray:
        """Return the cost of every network of the space, float64 [networks]."""
        return self._fit(self._chosen, np.ones(len(self._measured), bool))

    def report(self) -> str:
        """Describe the error in one sentence."""
        text = (
            f"predicted from {len(self._measured)} measured networks; error on left-out networks "
            f"{self.held_out}; of a straight line in multiply-adds {self.line}"
        )
        ignored = self._listed - len(self._measured)
        return text + f"; {ignored} rows of other networks not used" * (ignored > 0)

    def _fit(self, number: int, kept: np.ndarray) -> np.ndarray:
        """Fit a set of terms to some rows, and return the costs of all networks."""
        terms, y = self._sets[number], self._measured[kept]
        solution, *_ = np.linalg.lstsq(terms[self._places[kept]] / y[:, None], np.ones(len(y)), rcond=None)
        return np.maximum(terms @ solution, 0)

    def _choose(self, kept: np.ndarray) -> int:
        """Return the set of terms with the smallest leave-one-out error on some rows."""
        errors = []
        for terms in self._sets:
            rows = terms[self._places[kept]] / self._measured[kept][:, None]
            if rows.shape[0] < rows.shape[1] + 2:
                errors.append(np.inf)
                continue
            basis = np.linalg.qr(rows)[0]
            leverage = np.minimum((basis**2).sum(axis=1), 1 - _CLOSE)
            residuals = 1 - basis @ (basis.T @ np.ones(len(rows)))
            errors.append(np.abs(residuals / (1 - leverage)).mean())
        return int(np.argmin(errors))

    def _error(self, number: int | None) -> Error:
        """Return the leave-one-out error of a set of terms, or with None of the choice among all."""
        errors = []
        for row, place in enumerate(self._places):
            kept = np.arange(len(self._places)) != row
            chosen = self._choose(kept) if number is None else number
            errors.append(abs(self._fit(chosen, kept)[place] / self._measured[row] - 1))
        return Error(float(np.mean(errors)), float(np.max(errors)))


def _term_sets(layers: list[list[Layer]], macs: np.ndarray, codes: np.ndarray) -> list[np.ndarray]:
    """Return sets of terms, float64 [networks, terms] each; the first is a straight line in multiply-adds.

    Args:
        layers: layers of each network.
        macs: multiply-adds of each network.
        codes: choices of each network [networks, choices]. A term for each value of a choice learns effects
            of a runtime, such as channels that fill no vector.
    """
    blocks = list(dict.fromkeys(layer.block for each in layers for layer in each))

    def by_block(field: str) -> list[np.ndarray]:
        return [
            np.array(
                [sum(getattr(layer, field) for layer in each if layer.block == block) for each in layers]
            )
            for block in blocks
        ]

    constant = np.ones(len(layers))
    by_macs, outputs, weights = by_block("macs"), by_block("outputs"), by_block("weights")
    choices = [(column == value).astype(float) for column in codes.T for value in np.unique(column)[1:]]
    totals = [macs, sum(outputs), sum(weights)]
    sets = [
        [macs],
        [macs, sum(outputs)],
        totals,
        by_macs,
        [*by_macs, sum(outputs)],
        [*by_macs, *outputs],
        [*totals, *choices],
        [*by_macs, *choices],
    ]
    return [_independent([constant, *terms]) for terms in sets]


def _independent(terms: list[np.ndarray]) -> np.ndarray:
    """Return the terms as columns of comparable size, without those that follow from earlier ones."""
    kept: list[np.ndarray] = []
    for term in terms:
        term = np.asarray(term, float)
        column = term / (np.abs(term).max() or 1)
        if kept:
            fitted, *_ = np.linalg.lstsq(np.stack(kept, axis=1), column, rcond=None)
            if np.abs(np.stack(kept, axis=1) @ fitted - column).max() < 1e-6:
                continue
        kept.append(column)
    return np.stack(kept, axis=1)
