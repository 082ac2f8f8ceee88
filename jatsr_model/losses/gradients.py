"""How hard each loss pulls."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from jatsr_model.losses.terms import Guess
from jatsr_model.losses.total import MAIN, LossSum


class Pull(NamedTuple):
    """The gradient of a weighted loss, against that of the main loss.

    Args:
        ratio: of the lengths. For white errors of standardised latents about the weight, less where
            time gates the loss; of ``AudioConsistency`` whatever the decoder makes of it.
        cosine: of the angle between the two.
    """

    ratio: float
    cosine: float


def gradient_ratios(
    losses: LossSum, output: Tensor, guess: Guess, t: Tensor, lengths: Tensor | None = None
) -> dict[str, Pull]:
    """Gradients in the output of the network, of every loss; the network is not differentiated.

    Args:
        losses: with their weights; mse or charbonnier is the main one.
        output: of the network, ``[B, C, T]``, requiring gradients.
        guess: made from this output.
        t: ``[B]``.
        lengths: int64 ``[B]``, where samples end before T.
    """
    terms = losses.terms(guess, t, lengths)
    gradients = {
        name: _gradient(losses.weights[name] * term.mean(), output) for name, term in terms.items()
    }
    main = torch.stack([gradients[name] for name in MAIN if name in gradients]).sum(0)
    return {
        name: Pull(
            float(gradient.norm() / main.norm()),
            float(torch.cosine_similarity(gradient, main, dim=0)),
        )
        for name, gradient in gradients.items()
    }


def _gradient(value: Tensor, output: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(value, output, retain_graph=True)
    return gradient.flatten()
