"""Writes bundles with random weights, of the sizes of CLIP ViT-B/32 and BLIP-ITM base, into FOLDER:
dual, and stored (BLIP beside it, image tokens stored)."""

import sys
from pathlib import Path

import torch
import transformers

sys.path[:0] = [str(Path(__file__).parents[2] / "training" / part) for part in ("", "tests")]

from support.checkpoints import write_tokenizer  # noqa: E402
from tandem_training.bundle.beside import put_beside  # noqa: E402
from tandem_training.bundle.hugging_face import import_checkpoint  # noqa: E402

CARD = "---\nlanguage: en\nlicense: mit\n---\n# random weights\n"
PREPROCESSOR = '{"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}'


def save(model: torch.nn.Module, folder: Path) -> Path:
    model.eval().save_pretrained(folder)
    write_tokenizer(folder, opens=True)
    (folder / "preprocessor_config.json").write_text(PREPROCESSOR)
    (folder / "README.md").write_text(CARD)
    return folder


def main() -> None:
    folder = Path(sys.argv[1])
    torch.manual_seed(0)
    clip = transformers.CLIPConfig(
        text_config={"eos_token_id": 3, "bos_token_id": 2}, vision_config={"patch_size": 32}
    )
    import_checkpoint(save(transformers.CLIPModel(clip), folder / "clip"), folder / "dual")
    text = {"encoder_hidden_size": 768, "num_attention_heads": 12, "pad_token_id": 0}
    vision = {"image_size": 384, "patch_size": 16}
    blip = transformers.BlipConfig(text_config=text | {"is_decoder": True}, vision_config=vision)
    save(transformers.BlipForImageTextRetrieval(blip), folder / "blip")
    put_beside(folder / "dual", folder / "blip", folder / "stored", "1.0.0")


if __name__ == "__main__":
    main()
