"""Token ids of prompts by OpenAI's own tokenizer.

It first repairs a prompt with ftfy, unescapes HTML twice, folds white space and lowers the case.
`ids` are framed and filled to 77: start, tokens, end, zeros. Where they do not fit, the first 77
are kept, the last of them replaced by the end, and `truncated` is true. The file is JSON.
OpenCLIP, which DiffBIR uses, spells the two marks otherwise, so no prompt holds them.
"""

import importlib.util
import json
import platform
from importlib.metadata import version
from pathlib import Path

LENGTH = 77
PROMPTS = [
    "",
    " \t\n  \u3000 ",
    "a photo of a cat",
    "  Leading, trailing \n and\tinner   white\u00a0space  ",
    "UPPER Case And CamelCase",
    (
        "Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper "
        "detailed photo - realistic maximum detail, 32k, Color Grading, ultra HD, extreme "
        "meticulous detailing, skin pore detailing, hyper sharpness, perfect without deformations."
    ),
    "low quality, blurry, low-resolution, noisy, unsharp, weird textures",
    "painting, oil painting, illustration, drawing, art, sketch, cartoon, CG Style, 3D render",
    "caf\u00e9 cr\u00e8me na\u00efve fa\u00e7ade \u00fcber \u0141\u00f3d\u017a",
    "cafe\u0301 with a combining accent",
    "\u0130stanbul, stra\u00dfe, \u01c5, \u03a3\u03a3\u03c2",
    "\U0001f600 a smile \U0001f44d\U0001f3fd family \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "flag \U0001f1ef\U0001f1f5 heart \u2764\ufe0f",
    "fish &amp; chips &lt;b&gt; &quot;bold&quot;",
    "twice &amp;amp; escaped &amp;lt;i&amp;gt; &amp;eacute;",
    "numeric &#233; &#x1F600; and &copy; &hellip;",
    "in 1984 there were 3.14159 or 1,000,000 pixels at 4k",
    "x2 upscale 512x512 \u00bd \u00b2 \u2168 \u0663",
    "it's, we're, I've, I'm, she'll, they'd, don't, o'clock, rock 'n' roll",
    "IT'S \u2018curly\u2019 \u201cquotes\u201d it\u2019s",
    "\u4e00\u53ea\u732b\u5750\u5728\u6905\u5b50\u4e0a",
    "\u732b\u306e\u5199\u771f\u3001\u9ad8\u753b\u8cea",
    "\uace0\uc591\uc774 \uc0ac\uc9c4",
    "\uff26\uff35\uff2c\uff2c \uff37\uff29\uff24\uff34\uff28 \ufb01ne \ufb02our",
    "mojibake: caf\u00c3\u00a9 and it\u00e2\u20ac\u2122s",
    "(masterpiece:1.2), [best] {quality} | 8k -- http://example.org/?a=b&c=d #tag @user",
    "supercalifragilisticexpialidocious antidisestablishmentarianism qwxzjkvb",
    "snake_case under_score \u2014 dash\u2026 ellipsis... !!! ??? ~*~",
    "word " * 75,
    "word " * 76,
    "a very long prompt about many, many things: " * 12,
    "\u5b57" * 60,
    "zero\u200bwidth soft\u00adhyphen bell\u0007 escape \u001b[31mred\u001b[0m",
]


def tokenizer() -> object:
    """The package's tokenizer by its file: the package itself imports torchvision."""
    folder = Path(importlib.util.find_spec("clip").submodule_search_locations[0])
    spec = importlib.util.spec_from_file_location(
        "simple_tokenizer", folder / "simple_tokenizer.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


def main() -> None:
    clip, cases = tokenizer(), []
    start, end = (clip.encoder[f"<|{name}oftext|>"] for name in ("start", "end"))
    for text in PROMPTS:
        ids = [start, *clip.encode(text), end]
        truncated = len(ids) > LENGTH
        ids = [*ids[: LENGTH - 1], end] if truncated else ids + [0] * (LENGTH - len(ids))
        cases.append({"text": text, "truncated": truncated, "ids": ids})
    made_by = {"generator": "tests/goldens/clip_tokens/make.py",
               "python": platform.python_version()}  # fmt: skip
    made_by |= {name: version(name) for name in ("openai-clip", "ftfy", "regex")}
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path = Path(__file__).with_name("clip_tokens.json")
    path.write_text(f'{{"made_by": {json.dumps(made_by)},\n"cases": [\n{lines}\n]}}\n')
    print(f"{path}: {len(cases)} cases, {path.stat().st_size} bytes")


main()
