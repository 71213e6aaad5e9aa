import pytest
import torch

from tandem_training.objectives.features import Precision, join, split

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("fast", [True, False])
def test_the_precision_is_bfloat16_only_where_it_is_fast(fast: bool, monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: fast)
    assert Precision.of("auto", CPU).bfloat16 == fast
    assert Precision.of("auto", GPU).bfloat16
    assert Precision.of("bfloat16", CPU).bfloat16 and not Precision.of("float32", GPU).bfloat16


@pytest.mark.parametrize("bfloat16", [True, False])
def test_products_are_computed_in_the_precision(bfloat16: bool):
    x = torch.ones(2, 2)
    with Precision(bfloat16)(CPU):
        assert (x @ x).dtype == (torch.bfloat16 if bfloat16 else torch.float32)


def test_named_tensors_are_split_by_rows_and_joined_again():
    tensors = {"a": torch.arange(5), "b": torch.rand(5, 2)}
    parts = split(tensors, 2)
    assert [len(part["b"]) for part in parts] == [2, 2, 1]
    for name, tensor in join(parts).items():
        assert torch.equal(tensor, tensors[name])
