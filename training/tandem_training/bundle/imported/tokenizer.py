"""The tokenizer of an imported folder: what its library does to a text in code becomes data of
tokenizer.json, so that service and trainer do it alike."""

from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from .preprocessing import read_json

GEMMA_PIECES = 256_000  # the vocabulary of SigLIP 2
PUNCTUATION = r"[!-/:-@\[-`{-~]"  # string.punctuation
# The marks that ftfy's uncurl_quotes replaces.
QUOTES = {"[\u02bc\u2018-\u201b]": "'", "[\u201c-\u201f]": '"'}
CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def tokenizer_in(folder: Path) -> Tokenizer:
    """The folder's tokenizer.json, or one converted by `transformers`. ValueError if neither is
    there."""
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not hasattr(found, "backend_tokenizer"):
        raise ValueError(
            f"{folder} has no tokenizer.json, and none can be made of a "
            f"{type(found).__name__}; take that file from another copy of the checkpoint"
        )
    return found.backend_tokenizer


def save_plain(tokenizer: Tokenizer, path: Path) -> Tokenizer:
    """Write it without padding and truncation, which are the bundle's own."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(path))
    return tokenizer


def clip_tokenizer() -> Tokenizer:
    """The byte pairs of CLIP (Radford et al. 2021, arXiv:2103.00020) out of `open_clip`, for a
    folder without a tokenizer of its own."""
    from open_clip.tokenizer import SimpleTokenizer

    simple = SimpleTokenizer()
    pairs = sorted(simple.bpe_ranks, key=simple.bpe_ranks.get)
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {names.get(token, token): i for token, i in simple.encoder.items()}
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=pairs, end_of_word_suffix="</w>", unk_token=end)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, vocabulary[end]), (start, vocabulary[start]), trim_offsets=False,
        add_prefix_space=False,
    )  # fmt: skip
    return tokenizer


def clean_as_siglip(tokenizer: Tokenizer) -> None:
    """Do in the normaliser what the libraries do in code before a text is tokenised: SigLIP 2
    lowercases; SigLIP also removes punctuation and collapses white space
    (big_vision, `pp/ops_text.py`). What the tokenizer does already, found by tokenising, stays."""
    first = tokenizer.get_vocab_size() < GEMMA_PIECES
    _clean(tokenizer, punctuation=first, lowercase=True, collapse=first)


def clean_as_open_clip(tokenizer: Tokenizer, clean: str) -> None:
    """The `clean` function of open_clip's tokenizers: whitespace, lower or canonicalize; all of
    them make curled quotation marks straight (ftfy).

    Raises:
        ValueError: another function.
    """
    if clean not in ("whitespace", "lower", "canonicalize"):
        raise ValueError(
            f"texts are cleaned by {clean!r}; expected whitespace, lower, canonicalize"
        )
    canonical = clean == "canonicalize"
    _clean(tokenizer, canonical, clean != "whitespace", True, underscore=canonical, quotes=True)


def _clean(
    tokenizer: Tokenizer,
    punctuation: bool,
    lowercase: bool,
    collapse: bool,
    underscore: bool = False,
    quotes: bool = False,
) -> None:
    def is_same(one: str, other: str) -> bool:
        return tokenizer.encode(one).ids == tokenizer.encode(other).ids

    steps = []
    if quotes:
        steps += [normalizers.Replace(Regex(marks), mark) for marks, mark in QUOTES.items()]
    if underscore and not is_same("a_red car", "a red car"):
        steps.append(normalizers.Replace("_", " "))
    if punctuation and not is_same('a "red" car, now!', "a red car now"):
        steps.append(normalizers.Replace(Regex(PUNCTUATION), ""))
    if lowercase and not is_same("A RED Car", "a red car"):
        steps.append(normalizers.Lowercase())
    if collapse and not is_same("  a  red\n car ", "a red car"):
        steps += [normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    if steps:
        own = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([*steps, *own])


def padding_of(folder: Path, tokenizer: Tokenizer) -> int:
    """Id of the padding token. The model's own configuration states ids of other models.

    Raises:
        ValueError: tokenizer_config.json names none of the vocabulary.
    """
    named = read_json(folder / "tokenizer_config.json").get("pad_token")
    named = named.get("content") if isinstance(named, dict) else named
    found = tokenizer.token_to_id(named) if isinstance(named, str) else None
    if found is None:
        raise ValueError(
            f"{folder}: tokenizer_config.json names the pad_token {named!r}, which is no token"
        )
    return found
