"""Fit a head on features that do not fit in memory, a block of rows at a time.

The loss of a logistic head is that of scikit-learn's `LogisticRegression` with an L2 penalty, so the minimum is the
same; it is reached with L-BFGS too, one pass over the features for each evaluation. A perceptron takes the steps of
`MLPClassifier` on batches of one block after the other, in another order of blocks each pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError

IN_MEMORY_BYTES = 1 << 30
"""Features of more bytes stay on disk, and heads are fitted on blocks of them."""
BLOCK_BYTES = 1 << 26


def blocks(features: NDArray[np.floating]) -> Iterator[slice]:
    """Yield slices of rows of about `BLOCK_BYTES`; features have shape (rows, dim)."""
    step = max(1, BLOCK_BYTES // max(1, features.shape[1] * features.itemsize))
    for start in range(0, len(features), step):
        yield slice(start, start + step)


def fit_streamed(
    pipeline: Any,
    features: NDArray[np.floating],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
    adjust: Callable[[Any], None] | None = None,
) -> Any:
    """Fit standardised logistic regression or a perceptron without copying the features.

    Parameters
    ----------
    pipeline
        Unfitted: steps ``scale`` (`StandardScaler`) and ``head`` (`LogisticRegression`, L2, or `MLPClassifier`). It is
        fitted in place.
    features
        Shape (rows, dim); a memory map is read block by block, once for each evaluation of the loss or each pass.
    codes
        Class of each row: 0 to classes - 1, all of which occur.
    weights
        Of each row.
    adjust
        Changes the fitted scaler before the head is fitted.

    Returns
    -------
    Pipeline
        The fitted pipeline.

    Raises
    ------
    ConnectomeBenchError
        If the pipeline is another one.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    scaler, head = pipeline.named_steps.get("scale"), pipeline.named_steps["head"]
    if not isinstance(head, LogisticRegression | MLPClassifier) or scaler is None or len(pipeline.steps) != 2:
        raise ConnectomeBenchError(
            f"features of {features.nbytes / 1e9:.1f} GB are fitted in blocks, which {type(head).__name__} does not "
            "allow; use the head logistic or mlp, or fewer rows"
        )
    for part in blocks(features):
        scaler.partial_fit(features[part])
    if adjust is not None:
        adjust(scaler)
    if isinstance(head, MLPClassifier):
        _fit_perceptron(scaler, head, features, codes, weights)
    else:
        _fit_logistic(scaler, head, features, codes, weights)
    return pipeline


def _fit_perceptron(
    scaler: Any,
    head: Any,
    features: NDArray[np.floating],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
) -> None:
    order, classes = list(blocks(features)), np.unique(codes)
    generator = np.random.default_rng(head.random_state)
    best, stale = np.inf, 0
    for _ in range(head.max_iter):
        losses = 0.0
        for number in generator.permutation(len(order)):
            part = order[number]
            scaled = scaler.transform(features[part])
            head.partial_fit(scaled, codes[part], sample_weight=weights[part], classes=classes)
            losses += head.loss_ * len(scaled)
        # scikit-learn's own rule counts calls, and here a pass is one for each block
        loss = losses / len(features)
        stale = 0 if loss < best - head.tol else stale + 1
        best = min(best, loss)
        if stale > head.n_iter_no_change:
            break


def _fit_logistic(
    scaler: Any,
    head: Any,
    features: NDArray[np.floating],
    codes: NDArray[np.intp],
    weights: NDArray[np.float64],
) -> None:
    from scipy.optimize import minimize

    classes = int(codes.max()) + 1
    outputs, dim = (1 if classes == 2 else classes), features.shape[1]
    total = float(weights.sum())
    penalty = 1 / (head.C * total)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        table = flat.reshape(outputs, dim + 1)
        value, gradient = 0.0, np.zeros_like(table)
        for part in blocks(features):
            scaled = scaler.transform(features[part]).astype(np.float64)
            logits = scaled @ table[:, :-1].T + table[:, -1]
            losses, errors = _loss_and_errors(logits, codes[part])
            value += float(weights[part] @ losses)
            errors *= weights[part][:, np.newaxis]
            gradient[:, :-1] += errors.T @ scaled
            gradient[:, -1] += errors.sum(axis=0)
        coefficients = table[:, :-1]
        gradient /= total
        gradient[:, :-1] += penalty * coefficients
        return value / total + penalty / 2 * float((coefficients**2).sum()), gradient.ravel()

    options = {"maxiter": head.max_iter, "gtol": head.tol, "ftol": 64 * np.finfo(float).eps, "maxls": 50}
    found = minimize(loss, np.zeros(outputs * (dim + 1)), jac=True, method="L-BFGS-B", options=options)
    # all that this version of scikit-learn keeps in a fitted head, from a fit on a row of each class
    first = np.unique(codes, return_index=True)[1]
    head.fit(scaler.transform(features[first]), codes[first])
    table = found.x.reshape(outputs, dim + 1)
    head.coef_, head.intercept_ = table[:, :-1].copy(), table[:, -1].copy()
    head.n_iter_ = np.array([found.nit], np.int32)


def _loss_and_errors(
    logits: NDArray[np.float64], codes: NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the log loss of each row and its gradient by the logits; one logit a row is that of class 1."""
    if logits.shape[1] == 1:
        own, target = logits[:, 0], codes.astype(np.float64)
        losses = np.logaddexp(0, own) - target * own
        return losses, (np.exp(-np.logaddexp(0, -own)) - target)[:, np.newaxis]
    logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    rows = np.arange(len(codes))
    errors = np.exp(logs)
    errors[rows, codes] -= 1
    return -logs[rows, codes], errors
