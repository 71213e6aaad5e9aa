import pytest
import torch

from tandem_training.objectives.features import Precision, join, split

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("onednn", "x86", "instructions", "amx", "fast"),
    [
        (False, True, False, False, False),  # AVX2
        (True, True, False, False, False),  # AVX-512 alone
        (True, True, True, False, True),
        (True, True, False, True, True),
        (True, False, False, False, True),  # ARM
        (False, False, False, False, False),
    ],
)
def test_the_precision_is_bfloat16_only_where_it_is_fast(
    onednn: bool, x86: bool, instructions: bool, amx: bool, fast: bool, monkeypatch
):
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cpu, "_is_avx2_supported", lambda: x86)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
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
