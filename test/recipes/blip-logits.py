"""Logits of match of a BLIP-ITM checkpoint by `transformers` itself: prints a list over the images
for each text.

Standard input: {"checkpoint": folder, "images": [file], "texts": [text]}."""

import json
import sys

import torch
from PIL import Image
from tokenizers import Tokenizer
from transformers import BlipForImageTextRetrieval, BlipImageProcessorPil

torch.set_num_threads(1)
given = json.load(sys.stdin)
folder = given["checkpoint"]
model = BlipForImageTextRetrieval.from_pretrained(folder).eval()
side = model.config.vision_config.image_size
processor = BlipImageProcessorPil.from_pretrained(folder, size={"height": side, "width": side})
tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
tokenizer.enable_truncation(model.config.text_config.max_position_embeddings)
images = [Image.open(file).convert("RGB") for file in given["images"]]
pixels = processor(images=images, return_tensors="pt")["pixel_values"]
logits = []
with torch.inference_mode():
    for text in given["texts"]:
        ids = torch.tensor([tokenizer.encode(text).ids]).expand(len(images), -1)
        mask = torch.ones_like(ids)
        score = model(input_ids=ids, attention_mask=mask, pixel_values=pixels).itm_score
        logits.append((score[:, 1] - score[:, 0]).tolist())
json.dump(logits, sys.stdout)
