"""The parts by role and name, and what a set of parts gives.

`register` adds one from outside:

    @register
    class MyFusion(Fusion):
        name = "mine"
"""

import difflib

from .fusion.aligned import Aligned
from .fusion.bi_attention import DeepFusion
from .fusion.causal_decoder import CausalDecoder
from .fusion.concept_decoder import ConceptDecoder
from .fusion.cross_attention import CrossAttentionFusion
from .fusion.dual_stream import DualStream
from .fusion.encoder_decoder import EncoderDecoder
from .fusion.gated_both import GatedBoth
from .fusion.gated_decoder import GatedDecoder
from .fusion.inserted_attention import InsertedAttention
from .fusion.instructed import Instructed
from .fusion.late import Late
from .fusion.merged import Merged
from .fusion.merged_decoder import MergedDecoder
from .fusion.mixer import Mixer
from .fusion.none import NoFusion
from .fusion.queries import Queries
from .fusion.shared import SharedFusion
from .fusion.single_stream import PatchStream, SingleStream
from .fusion.skip import Skip
from .part import Part, PartConfig
from .text.bert import Bert
from .text.causal import CausalText
from .text.second import SecondText
from .text.shared import SharedText
from .vision.detector import Detector
from .vision.efficientnet import EfficientNetLite
from .vision.proposals import Proposals
from .vision.regions import Regions
from .vision.shared import SharedVision
from .vision.vit import VisionTransformer

PARTS: dict[str, dict[str, type[Part]]] = {"vision": {}, "text": {}, "fusion": {}}
INPUTS = {SecondText.name: SecondText}  # encoders of further inputs, each with a table of its own


def register(part: type[Part]) -> type[Part]:
    """Make a part known to recipes by its role and name; tests register parts of their own."""
    part.Config = type("Config", (part.Config,), {"kind": part.name})  # one each, to be known by
    PARTS[part.role][part.name] = part
    return part


for _part in (
    EfficientNetLite, Regions, Proposals, Detector, VisionTransformer, SharedVision,
    Bert, CausalText, SharedText,
    NoFusion, Aligned, Late, SingleStream, PatchStream, DualStream, InsertedAttention, Merged,
    CrossAttentionFusion, SharedFusion, EncoderDecoder, Instructed, MergedDecoder, CausalDecoder,
    ConceptDecoder, GatedDecoder, Mixer, Skip, GatedBoth, Queries, DeepFusion,
):  # fmt: skip
    register(_part)


def nearest(name: str, known) -> str:
    """The known name that is most like another, for an error."""
    return difflib.get_close_matches(name, known, n=1, cutoff=0)[0]


def part_of(role: str, kind: str) -> type[Part]:
    """ValueError, naming the nearest kind, for an unknown one."""
    known = PARTS[role]
    if kind not in known:
        raise ValueError(
            f"[{role}] kind = {kind!r}; did you mean {nearest(kind, known)!r}? "
            f"Known: {', '.join(known)}"
        )
    return known[kind]


def given_by(parts: dict[str, PartConfig]) -> set[str]:
    """The features that the parts give together. ValueError for a part whose needs are not met."""
    given, unmet = _features(parts)
    for role, feature in unmet:
        raise ValueError(
            f"[{role}] kind = {parts[role].kind!r} needs {feature!r}, which no part gives; "
            f"{would_give(feature, parts)}"
        )
    return given


def would_give(feature: str, parts: dict[str, PartConfig]) -> str:
    """Which single change of a part's kind would add the feature."""
    changes = []
    for role, known in PARTS.items():
        for kind, part in known.items():
            given, unmet = _features(parts | {role: part.Config()})
            if feature in given and not unmet:
                changes.append(f"[{role}] kind = {kind!r}")
    return f"{' or '.join(changes)} would" if changes else "no other kind of a single part would"


def _features(parts: dict[str, PartConfig]) -> tuple[set[str], list[tuple[str, str]]]:
    """→ features given, and those that a part of a role needs in vain."""
    given, unmet = set(), []
    for role, config in parts.items():
        part = part_of(role, config.kind)
        unmet += [(role, feature) for feature in sorted(part.wants(config) - given)]
        given |= part.adds(config, given)
    return given, unmet
