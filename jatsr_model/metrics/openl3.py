"""Fréchet distance of OpenL3 embeddings, where the package is installed.

Distances between collections, not files. Embeddings of every half second count as they are; means
over files, as some compute it, leave too few points for a covariance of 512 dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jatsr_model.metrics.optional import optional

RATE = 48000
SIZE = 512
_HOP_SECONDS = 0.5
_MODEL = {"input_repr": "mel128", "content_type": "music", "embedding_size": SIZE}


@dataclass
class Moments:
    """Sums over points, from which mean and covariance follow."""

    size: int = SIZE
    count: int = 0
    first: NDArray[np.float64] = field(init=False)
    second: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self.first, self.second = np.zeros(self.size), np.zeros((self.size, self.size))

    def add(self, points: NDArray[np.floating]) -> None:
        """Take in ``[n, size]``."""
        values = points.astype(np.float64)
        self.count += len(values)
        self.first += values.sum(0)
        self.second += values.T @ values

    @property
    def mean(self) -> NDArray[np.float64]:
        """``[size]``."""
        return self.first / self.count

    @property
    def covariance(self) -> NDArray[np.float64]:
        """``[size, size]``, of the sample."""
        centred = self.second - np.outer(self.first, self.mean)
        return np.asarray(centred / (self.count - 1))


def frechet_distance(reference: Moments, estimate: Moments) -> float | None:
    """``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` of two collections of points.

    Returns:
        None for fewer than two points.
    """
    if min(reference.count, estimate.count) < 2:
        return None
    first, second = reference.covariance, estimate.covariance
    # The eigenvalues of C1 C2 are those of a positive semidefinite matrix: no complex root needed.
    root = _root(first)
    shared = np.linalg.eigvalsh(root @ second @ root)
    overlap = np.sqrt(np.maximum(shared, 0)).sum()
    gap = np.square(reference.mean - estimate.mean).sum()
    return float(gap + np.trace(first) + np.trace(second) - 2 * overlap)


class OpenL3:
    """Collects the embeddings of a reference and of candidates."""

    def __init__(self, package: Any) -> None:
        self._package = package
        self._model = package.models.load_audio_embedding_model(**_MODEL)

    def embed(self, wave: NDArray[np.float32]) -> NDArray[np.floating]:
        """Embeddings of ``[n]`` at 48 kHz: ``[frames, 512]``."""
        found, _ = self._package.get_audio_embedding(
            wave, RATE, model=self._model, hop_size=_HOP_SECONDS, verbose=False
        )
        return np.asarray(found)


def open_openl3() -> OpenL3 | str:
    """OpenL3, or why there is none."""
    package = optional("openl3", "openl3")
    return package if isinstance(package, str) else OpenL3(package)


def _root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """The symmetric square root of a positive semidefinite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
