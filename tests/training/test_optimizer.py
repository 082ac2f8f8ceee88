"""What decays, and steps that are left out."""

from __future__ import annotations

import copy

import pytest
import torch
from ranks import Trained
from torch import Tensor, nn
from torch.optim import AdamW

from jatsr_model.dit import PRESETS, DiT
from jatsr_model.training.optimizer import make_optimizer, step_if_finite
from jatsr_model.training.world import World

NETWORKS = {preset.config: name for name, preset in PRESETS.items()}


def groups(network: nn.Module) -> tuple[set[str], set[str]]:
    """Names of what decays and of what does not, each once."""
    names = {id(p): name for name, p in network.named_parameters()}
    optimizer = make_optimizer(network, 1e-3, (0.9, 0.99), 0.1)
    found = [[names[id(p)] for p in group["params"]] for group in optimizer.param_groups]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert sorted(found[0] + found[1]) == sorted(names.values())
    return set(found[0]), set(found[1])


@pytest.mark.parametrize("config", NETWORKS, ids=NETWORKS.values())
def test_matrices_of_tokens_decay_and_nothing_else(config) -> None:
    with torch.device("meta"):
        network = DiT(config)
    decayed, others = groups(network)
    sizes = {name: p.ndim for name, p in network.named_parameters()}
    for name in decayed:
        assert name.endswith(".weight")
        assert sizes[name] >= 2
        assert name.split(".")[0] in ("blocks", "entry", "head")
        assert not {"modulation", "norm"} & set(name.split("."))
    for name in others:
        modulates = (
            name.split(".")[0] in ("conditions", "time", "shared", "skip") or "modulation" in name
        )
        assert modulates or name.endswith((".bias", "head.offset")) or "norm" in name
    ends = {"entry.project", "head.project", "entry.convolution", "head.convolution"}
    for part in [*ends, "attention.query", "attention.out", "cross.value", "mlp.up", "mlp.down"]:
        owned = {name for name in sizes if f"{part}." in name and name.endswith("weight")}
        assert owned <= decayed
    count = sum(network.get_parameter(name).numel() for name in decayed)
    assert count > 0.5 * sum(p.numel() for p in network.parameters())


def test_every_kind_of_parameter_was_seen() -> None:
    """Names without numbers, of all presets; a new kind has to be put in its group here."""
    kinds: tuple[set[str], set[str]] = (set(), set())
    for config in NETWORKS:
        with torch.device("meta"):
            network = DiT(config)
        for kind, names in zip(kinds, groups(network), strict=True):
            kind |= {".".join(p for p in n.split(".") if not p.isdigit()) for n in names}
    assert kinds[0] == {
        *(f"blocks.attention.{part}.weight" for part in ("query", "key", "value", "out")),
        *(f"blocks.cross.{part}.weight" for part in ("query", "key", "value", "out")),
        *(f"blocks.mlp.{part}.weight" for part in ("up", "down")),
        *(
            f"{end}.{part}.weight"
            for end in ("entry", "head")
            for part in ("project", "convolution")
        ),
    }
    assert not kinds[0] & kinds[1]
    assert {
        "blocks.modulation.offset", "blocks.modulation.project.weight", "shared.project.weight",
        "head.offset", "time.mlp.weight", "time.features.weight", "conditions.null_low.vector",
        "conditions.text_mlp.weight", "blocks.attention.query_norm.weight",
    } <= kinds[1]  # fmt: skip


def with_gradients(fused: bool) -> tuple[Trained, AdamW]:
    """A network, an optimizer after one step, and gradients for the next."""
    trained = Trained(World())
    optimizer = make_optimizer(trained.network, 1e-3, (0.9, 0.99), 0.1, fused=fused)
    for batch in range(2):
        trained.backward(batch)
        if batch == 0:
            optimizer.step()
            optimizer.zero_grad()
    return trained, optimizer


def everything(trained: Trained, optimizer: AdamW) -> list[Tensor]:
    tensors = list(trained.network.parameters())
    tensors += [value for p in tensors for value in optimizer.state[p].values()]
    return [tensor.detach().clone() for tensor in tensors]


def norm_of(network: nn.Module) -> Tensor:
    return nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("fused", [True, False])
def test_a_finite_step_is_a_plain_step(fused: bool) -> None:
    trained, optimizer = with_gradients(fused)
    other, plain = with_gradients(fused)
    assert step_if_finite(optimizer, norm_of(trained.network)) == 1
    plain.step()
    for found, expected in zip(
        everything(trained, optimizer), everything(other, plain), strict=True
    ):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("fused", [True, False])
def test_a_step_that_is_not_finite_changes_nothing(fused: bool, bad: float) -> None:
    trained, optimizer = with_gradients(fused)
    before = everything(trained, optimizer)
    parameters = list(trained.network.parameters())
    kept = [p.grad.clone() for p in parameters]
    parameters[-1].grad.view(-1)[0] = bad
    norm = norm_of(trained.network)
    nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)  # now all of them are NaN
    assert step_if_finite(optimizer, norm) == 0
    for found, expected in zip(everything(trained, optimizer), before, strict=True):
        assert torch.equal(found, expected)
    # the next step is as if there had been none
    other, plain = with_gradients(fused)
    for parameter, gradient in zip(parameters, kept, strict=True):
        parameter.grad = gradient
    assert step_if_finite(optimizer, norm_of(trained.network)) == 1
    plain.step()
    for found, expected in zip(
        everything(trained, optimizer), everything(other, plain), strict=True
    ):
        assert torch.equal(found, expected)


def test_the_very_first_step_may_be_left_out() -> None:
    trained = Trained(World())
    trained.backward(0)
    before = [p.detach().clone() for p in trained.network.parameters()]
    assert step_if_finite(trained.optimizer, torch.tensor(float("nan"))) == 0
    for parameter, expected in zip(trained.network.parameters(), before, strict=True):
        assert torch.equal(parameter, expected)
        assert trained.optimizer.state[parameter]["step"] == 0


def test_nothing_of_a_left_out_step_stays_in_the_optimizer() -> None:
    trained, optimizer = with_gradients(fused=True)
    attributes = set(vars(optimizer))
    step_if_finite(optimizer, torch.tensor(float("nan")))
    assert set(vars(optimizer)) == attributes
    clone = copy.deepcopy(optimizer.state_dict())
    assert len(clone["state"]) == len(list(trained.network.parameters()))
