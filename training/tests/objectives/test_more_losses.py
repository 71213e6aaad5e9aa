import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

from tandem_training.distributed import gather
from tandem_training.objectives.contrastive import itc_loss, momentum_itc_loss
from tandem_training.objectives.language import lm_loss, mask_tokens, mlm_loss
from tandem_training.objectives.siglip import siglip_loss


def unit(*shape: int) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(v) for v in row]
    return [p / sum(powers) for p in powers]


def cross_entropy(target: list[float], logits: list[float]) -> float:
    return -sum(t * math.log(p) for t, p in zip(target, softmax(logits), strict=True))


def test_itc_with_smoothing_equals_the_slow_reference():
    torch.manual_seed(0)
    similarity, smoothing = torch.rand(4, 4) * 2 - 1, 0.2
    total = 0.0
    for rows in (similarity.tolist(), similarity.T.tolist()):
        for i, row in enumerate(rows):
            target = [smoothing / 4 + (1 - smoothing) * (i == j) for j in range(4)]
            total += cross_entropy(target, [5 * v for v in row]) / 8
    ids = torch.arange(4)
    loss = itc_loss(similarity, torch.tensor(math.log(5.0)), ids, ids, smoothing=smoothing)["loss"]
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_itc_with_a_momentum_encoder_and_queue_equals_the_slow_reference():
    torch.manual_seed(1)
    text, image, momentum_text, momentum_image = unit(3, 8), unit(3, 8), unit(5, 8), unit(5, 8)
    ids, all_ids, scale, mix = (
        [7, 8, 9],
        [7, 8, 9, 8, 4],
        6.0,
        0.4,
    )  # image 8 stands in the queue as well
    total = 0.0
    for own, guide, others in (
        (text, momentum_text, momentum_image),
        (image, momentum_image, momentum_text),
    ):
        for i in range(3):
            same = [float(ids[i] == other) for other in all_ids]
            teacher = softmax([scale * float(guide[i] @ row) for row in others])
            target = [
                mix * t + (1 - mix) * s / sum(same) for t, s in zip(teacher, same, strict=True)
            ]
            total += cross_entropy(target, [scale * float(own[i] @ row) for row in others]) / 6
    loss = momentum_itc_loss(
        text, image, momentum_text, momentum_image, torch.tensor(math.log(scale)),
        torch.tensor(ids), torch.tensor(all_ids), mix,
    )["loss"]  # fmt: skip
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_the_soft_targets_of_the_momentum_encoder_take_no_gradient():
    torch.manual_seed(6)
    own, momentum_text, momentum_image, ids = unit(2, 4), unit(2, 4), unit(2, 4), torch.arange(2)
    scale, same = torch.tensor(1.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    momentum_itc_loss(own, own, momentum_text, momentum_image, scale, ids, ids, 1.0)[
        "loss"
    ].backward()
    for guide, others in ((momentum_text, momentum_image), (momentum_image, momentum_text)):
        target = (math.e * guide @ others.T).softmax(1)
        (-(target * (same.exp() * own @ others.T).log_softmax(1)).sum(1).mean() / 2).backward()
    torch.testing.assert_close(scale.grad, same.grad)


def test_siglip_equals_the_slow_reference_with_several_captions_an_image():
    torch.manual_seed(2)
    similarity, scale, bias = torch.rand(4, 3) * 2 - 1, 10.0, -3.0
    text_ids, image_ids = [0, 0, 1, 2], [0, 1, 2]
    total = 0.0
    for i in range(4):
        for j in range(3):
            sign = 1 if text_ids[i] == image_ids[j] else -1
            total -= (
                math.log(1 / (1 + math.exp(-sign * (scale * float(similarity[i, j]) + bias)))) / 4
            )
    loss = siglip_loss(
        similarity,
        torch.tensor(math.log(scale)),
        torch.tensor(bias),
        torch.tensor(text_ids),
        torch.tensor(image_ids),
    )["loss"]
    assert float(loss) == pytest.approx(total, rel=1e-5)


def test_masking_chooses_fifteen_per_cent_and_treats_them_eighty_ten_ten():
    ids = torch.randint(10, 1000, (400, 50), generator=torch.Generator().manual_seed(0))
    maskable = torch.ones_like(ids, dtype=torch.bool)
    maskable[:, 0] = False
    changed, chosen = mask_tokens(
        ids, maskable, 3, 100_000, generator=torch.Generator().manual_seed(1)
    )
    assert not chosen[:, 0].any() and torch.equal(changed[~chosen], ids[~chosen])
    assert float(chosen[:, 1:].float().mean()) == pytest.approx(0.15, abs=0.01)
    masked, kept = (changed == 3) & chosen, (changed == ids) & chosen
    assert float(masked.sum() / chosen.sum()) == pytest.approx(0.8, abs=0.02)
    assert float(kept.sum() / chosen.sum()) == pytest.approx(0.1, abs=0.02)
    assert int(changed.max()) < 100_000
    again, _ = mask_tokens(ids, maskable, 3, 100_000, generator=torch.Generator().manual_seed(1))
    assert torch.equal(changed, again)


def test_mlm_equals_the_slow_reference_and_is_zero_without_a_masked_word():
    torch.manual_seed(3)
    ids = torch.randint(6, (2, 4))
    chosen = torch.tensor([[False, True, False, True], [False, False, True, False]])
    logits = torch.randn(3, 6)
    places = [(0, 1), (0, 3), (1, 2)]
    total = (
        sum(-math.log(softmax(logits[n].tolist())[ids[b, t]]) for n, (b, t) in enumerate(places))
        / 3
    )
    assert float(mlm_loss(logits, ids, chosen)["loss"]) == pytest.approx(total, rel=1e-5)
    assert float(mlm_loss(logits[:0], ids, torch.zeros_like(chosen))["loss"]) == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_lm_equals_the_slow_reference(smoothing: float):
    torch.manual_seed(4)
    ids, mask = torch.randint(6, (2, 4)), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    logits = torch.randn(2, 4, 6)
    terms = []
    for b, length in enumerate((4, 2)):
        for t in range(1, length):
            target = [smoothing / 6 + (1 - smoothing) * (v == int(ids[b, t])) for v in range(6)]
            terms.append(cross_entropy(target, logits[b, t - 1].tolist()))
    assert float(lm_loss(logits, ids, mask, smoothing)["loss"]) == pytest.approx(
        sum(terms) / len(terms), rel=1e-5
    )


def gathered_gradient(rows: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """ITC of a linear tower over the result of `gather`; its gradient."""
    weight = weight.clone().requires_grad_()
    text, image = (gather(F.normalize(part @ weight, dim=-1)) for part in rows)
    ids = torch.arange(len(text))
    itc_loss(text @ image.T, torch.tensor(2.0), ids, ids)["loss"].backward()
    return weight.grad


def one_of_two(rank: int, folder: str, rows: torch.Tensor, weight: torch.Tensor) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    gradient = gathered_gradient(rows[:, rank * 3 : rank * 3 + 3], weight)
    dist.all_reduce(gradient)
    if rank == 0:
        torch.save(gradient / 2, f"{folder}/gradient.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_gradient_of_one_with_the_global_batch(tmp_path):
    torch.manual_seed(5)
    rows, weight = torch.randn(2, 6, 5), torch.randn(5, 4)
    mp.spawn(one_of_two, args=(str(tmp_path), rows, weight), nprocs=2)
    gradient = torch.load(tmp_path / "gradient.pt", weights_only=True)
    torch.testing.assert_close(gradient, gathered_gradient(rows, weight))
