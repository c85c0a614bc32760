"""CLIP's tokenizer as a Hugging Face `tokenizer.json`, for the Rust crate `tokenizers`.

Merges and vocabulary are OpenAI's `bpe_simple_vocab_16e6` (MIT licence), read from an installed
package. The text is padded with id 0 to 77 tokens, as the reference does.

The reference cleans a prompt with `ftfy.fix_text`, two rounds of HTML unescaping, white space
folding and lower case. Of these the file's normalizer does: NFC, ftfy's table of ligatures, curly
quotes and full-width characters, the commonest HTML entities, lower case. It does not: mojibake
repair, terminal escapes, rare or numeric HTML entities. `clean_prompt` does everything.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
import json
from pathlib import Path
from typing import Any

import ftfy
from ftfy.chardata import LIGATURES, WIDTH_MAP
from tokenizers import Tokenizer

from .errors import ExportError

CONTEXT = 77
START, END = "<start_of_text>", "<end_of_text>"
VOCABULARY_SIZE = 49408
MERGES = VOCABULARY_SIZE - 2 * 256 - 2
# Packages that carry the merges.
CARRIERS = ("clip", "open_clip")
FILE = "bpe_simple_vocab_16e6.txt.gz"
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
ENTITIES = {"lt": "<", "gt": ">", "quot": '"', "apos": "'", "#39": "'", "nbsp": " "}
QUOTES = {"[\u02bc\u2018-\u201b]": "'", "[\u201c-\u201f]": '"'}


def merges_file() -> Path:
    """The merges in an installed package, found without importing it."""
    for package in CARRIERS:
        spec = importlib.util.find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            if (path := Path(folder) / FILE).is_file():
                return path
    raise ExportError(f"{FILE} not found: install the package openai-clip or open_clip_torch")


def byte_letters() -> list[str]:
    """The letter that stands for each byte, in vocabulary order: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def vocabulary() -> tuple[dict[str, int], list[str]]:
    """Token -> id, and the merges as `left right`."""
    lines = gzip.decompress(merges_file().read_bytes()).decode().split("\n")
    merges = lines[1 : 1 + MERGES]
    letters = byte_letters()
    tokens = [*letters, *(f"{c}</w>" for c in letters)]
    tokens += ["".join(merge.split()) for merge in merges]
    return {token: i for i, token in enumerate([*tokens, START, END])}, merges


def replace(pattern: str, content: str, regex: bool = False) -> dict[str, Any]:
    """One replacement step of the normalizer."""
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": pattern},
            "content": content}  # fmt: skip


def normalizers() -> list[dict[str, Any]]:
    """The steps in the reference's order: ftfy, HTML twice, lower case."""
    steps = [replace("&amp;", "&") for _ in range(3)]
    steps += [replace(f"&{name};", char) for name, char in ENTITIES.items()]
    steps += [replace(chr(code), text) for code, text in LIGATURES.items()]
    steps += [replace(chr(code), text) for code, text in WIDTH_MAP.items()]
    steps += [replace(pattern, char, regex=True) for pattern, char in QUOTES.items()]
    return [*steps, {"type": "NFC"}, {"type": "Lowercase"}]


def special(content: str, index: int) -> dict[str, Any]:
    """A token that may stand in a prompt as it is."""
    return {"id": index, "content": content, "single_word": False, "lstrip": False,
            "rstrip": False, "normalized": False, "special": True}  # fmt: skip


def template(ids: dict[str, int]) -> dict[str, Any]:
    """Start and end of text around the prompt."""

    def token(name: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": 0}}

    sequence = [token(START), {"Sequence": {"id": "A", "type_id": 0}}, token(END)]
    return {
        "type": "TemplateProcessing",
        "single": sequence,
        "pair": [*sequence, {"Sequence": {"id": "B", "type_id": 0}}, token(END)],
        "special_tokens": {
            name: {"id": name, "ids": [index], "tokens": [name]} for name, index in ids.items()
        },
    }


def document() -> dict[str, Any]:
    """The whole `tokenizer.json`."""
    tokens, merges = vocabulary()
    ids = {name: tokens[name] for name in (START, END)}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}  # fmt: skip
    split = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Removed", "invert": True}
    return {
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": CONTEXT, "strategy": "LongestFirst",
                       "stride": 0},
        "padding": {"strategy": {"Fixed": CONTEXT}, "direction": "Right",
                    "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"},
        "added_tokens": [special(name, index) for name, index in ids.items()],
        "normalizer": {"type": "Sequence", "normalizers": normalizers()},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": template(ids),
        "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None,
                  "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
                  "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": tokens, "merges": merges},
    }  # fmt: skip


def write(path: Path) -> None:
    """Writes `tokenizer.json`."""
    path.write_text(json.dumps(document(), ensure_ascii=False))


def load() -> Tokenizer:
    """The tokenizer itself, from the same document."""
    return Tokenizer.from_str(json.dumps(document()))


def clean_prompt(text: str) -> str:
    """The reference's cleaning but for lower case, which the tokenizer does."""
    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())
