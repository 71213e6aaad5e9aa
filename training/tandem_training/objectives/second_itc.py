"""Contrast of the captions that a second text encoder reads."""

from torch import Tensor

from .contrastive import SoftContrast
from .objective import Step


class SecondItc(SoftContrast):
    """Captions for the second text encoder with the images."""

    name = "second_itc"
    needs = {"second.embedding"}
    others = "image.embedding"

    @classmethod
    def reads(cls, options: SoftContrast.Options) -> set[str]:
        return {"second.embedding"}

    def loss(self, step: Step) -> dict[str, Tensor]:
        """Of the rows that have such a caption; zero where none has."""
        whole, ids = step.batch.whole, step.batch.whole["image.ids"]
        rows = whole["second.rows"]
        similarity = step.features["second.embedding"][rows] @ step.features[self.others].T
        if not len(rows):
            return {self.name: similarity.sum()}
        sentences = whole["sentence.text"][rows] if "sentence.text" in whole else None
        scale, images = step.model.inputs["second_text"].logit_scale, whole.get("sentence.image")
        return {self.name: self.contrast(similarity, scale, ids[rows], ids, sentences, images)}


class SecondTextItc(SecondItc):
    """Captions for the second text encoder with those of the first."""

    name = "second_text_itc"
    others = "text.embedding"
