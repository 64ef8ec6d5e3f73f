"""Write docs/reference: the pipeline file and the commands, as the code has them, and the JSON Schema.

python docs/make_reference.py
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from featpipe.cli import app
from featpipe.cli.guard import FAILED, INTERRUPTED
from featpipe.errors import SpecError
from featpipe.kernels.catalog import BankEntry, list_banks
from featpipe.schema.build import FILE_NAME, described_schema, flow_text, schema_text
from featpipe.schema.generate import prose
from featpipe.spec.activations import FORMULAS
from featpipe.spec.banks import BANKS
from featpipe.spec.docs import field_docs
from featpipe.spec.fits import FITS
from featpipe.spec.layers import LAYER_EXAMPLES
from featpipe.spec.padding import PADDING_NOTES
from featpipe.spec.pooling import NOTES as POOLINGS
from featpipe.spec.pooling import Pool
from featpipe.spec.shape import type_text

FOLDER = Path(__file__).resolve().parent / "reference"
MADE = "<!-- Written by docs/make_reference.py from the code; change that. -->\n"
Part = dict[str, Any]

LINKS = {
    "Padding": "[padding](#padding)",
    "Pool": "[as pool](#pool)",
    "Bank": "[a bank](#banks)",
    "Kernels": "nested lists of numbers, or path",
    "Layer": "[layers](#layers)",
}
"""Parts that have a section of their own, and how a table refers to them."""
ACTIVATION = "[as activate](#activate)"

HEAD = f"""# The pipeline file

{MADE}
A pipeline file says which images, which features, and where they go. `featpipe init DIR` writes a first one.

```yaml
# yaml-language-server: $schema={FILE_NAME}
images:
  path: photos/
  color: gray
features:
  texture:
    scales: [1, 2]
    layers:
      - convolve: {{bank: gabor, frequencies: [0.1, 0.2], padding: reflect}}
      - modulus
      - pool: {{mean: {{grid: [2, 2]}}}}
store:
  path: features.zarr
```

It is YAML 1.2: `no` and `on` are words, `1e-3` is a number, and anchors, tags and duplicate keys are errors. Every
unknown key is an error too, told with line and column and the nearest key that is known. Paths are relative to the
file. From the command line `--set store.path=x.zarr` and `--set 'features.texture.layers[0].convolve.stride=2'` change
any key.

Editors with [yaml-language-server](https://github.com/redhat-developer/yaml-language-server) (in VS Code the extension
*YAML* by Red Hat) complete keys, explain them and mark mistakes, by the file's first line: `featpipe init` writes the
schema beside the pipeline, `featpipe schema --output {FILE_NAME}` writes it anywhere, and
[here](featpipe.schema.json) it is to read.

Sizes, sigmas, strides and paddings are in samples of the layer's input: pixels of the image for the first layer at
scale 1. Where one number stands for two, `3` is `[3, 3]`, rows (y) first.
"""

SECTION_EXAMPLES = {
    "images": "images:\n  path: photos/\n  color: gray\n  size: [256, 256]\n  split: {test: 0.2, seed: 0}",
    "features": "features:\n  edges:\n    scales: [1, 2, 4]\n    layers: [{convolve: {bank: sobel}}, modulus]",
    "store": "store: {path: features.zarr, dtype: float16}",
    "cluster": "cluster:\n  class: dask_jobqueue.SLURMCluster\n  options: {queue: long}\n  adapt: {maximum: 40}",
}
LAYER_FORMS = {
    "convolve": [
        "{bank: gaussian, sigmas: [1, 2, 4], padding: reflect, stride: 2}",
        "{bank: {fit: kmeans, kernels: 200}, response: distance}",
        "{kernels: [[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]], padding: same}",
        "{kernels: 'filters.npz:edges', bias: 0.5}",
    ],
    "import": ["{file: vgg16.safetensors, prefix: features, taps: {4: pool1, 9: pool2}}"],
    "local": ["{kernels: {fit: random, kernels: 16, size: 3}}"],
    "activate": ["triangle", "split", "{split: {threshold: 0.25}}", "{soft-threshold: {threshold: 0.1}}"],
    "reduce": ["{over: channel, by: l2}"],
    "pool": [
        "{max: 3, stride: 2, padding: 1}", "{mean: [4, 8]}", "{mean: {grid: [2, 2]}}", "{l2: global}",
        "{histogram: {grid: [4, 4]}, bins: 256}",
    ],
    "normalize": ["{mean: [0.49, 0.48, 0.45], std: [0.25, 0.24, 0.26]}"],
    "code": ["{over: kernel, by: digits, base: 3}"],
}  # fmt: skip
NESTED = {
    "Images": {"split": "RandomSplit", "region": "Region"},
    "Cluster": {"local": "LocalWorkers", "adapt": "Adapt", "tls": "Tls"},
}


def pipeline_page() -> str:
    """Return the reference of the pipeline file."""
    schema = described_schema()
    parts = schema["definitions"]
    top = schema["properties"]
    sections = [
        HEAD,
        *_section("images", top["images"]["description"], parts["Images"], parts),
        *_section("features", top["features"]["description"], parts["Branch"], parts),
        "## Layers\n\nEach layer is one item of a branch's `layers`: its name, and after the colon what it is given.\n",
        *_layers(parts),
        *_padding(parts),
        *_banks(parts),
        *_section("store", top["store"]["description"], parts["Store"], parts),
        *_section("cluster", top["cluster"]["description"], parts["Cluster"], parts),
    ]
    return "\n".join(sections)


def _section(name: str, text: str, part: Part, parts: Part) -> Iterator[str]:
    yield f"## {name}\n\n{text}\n"
    yield code("yaml", SECTION_EXAMPLES[name])
    yield key_table(part, parts)
    model = next(key for key, value in parts.items() if value is part)
    for key, nested in NESTED.get(model, {}).items():
        yield f"### {name}.{key}\n\n{parts[nested]['description']}\n"
        yield key_table(parts[nested], parts)


def _layers(parts: Part) -> Iterator[str]:
    layers = parts["Layer"]["oneOf"][0]["properties"]
    yield table(("layer", "what it does"), ((f"[`{op}`](#{op})", _first(layers[op]["description"])) for op in layers))
    for op, layer in layers.items():
        yield f"### {op}\n\n{layer['description'].rpartition(chr(10) * 2 + 'Example:')[0]}\n"
        forms = [*([LAYER_EXAMPLES[op]] if op in LAYER_EXAMPLES else []), *LAYER_FORMS.get(op, ())]
        yield code("yaml", "\n".join(f"- {op}: {form}" for form in forms) or f"- {op}")
        yield from _layer_keys(op, layer, parts)


def _layer_keys(op: str, layer: Part, parts: Part) -> Iterator[str]:
    match op:
        case "convolve":
            source = parts["Convolve"]["allOf"][0]["properties"]
            yield key_table({"properties": {**source, **parts["ConvolveOptions"]["properties"]}}, parts)
            yield f"`contrast`: {parts['Contrast']['description']}\n"
            yield key_table(parts["Contrast"], parts)
        case "pool":
            keys = parts["Pool"]["properties"]
            rows = [(f"`{name}`", f"{note}.") for name, note in POOLINGS.items()]
            yield table(("statistic", "meaning"), rows)
            over = {"over": {**keys["max"], "description": prose(field_docs(Pool)["over"])}}
            options = {key: value for key, value in keys.items() if key not in POOLINGS}
            yield key_table({"properties": {**over, **options}}, parts).replace("`over`", "the statistic")
        case "activate":
            rows = [*FORMULAS.items(), ("soft-threshold", parts["SoftThreshold"]["description"])]
            yield table(("name", "what it makes of the value z"), ((f"`{name}`", note) for name, note in rows))
            yield "t is at least 0, in units of the values; `split` takes 0 unless it is given.\n"
        case "normalize":
            yield key_table(parts["Normalize"], parts)
            yield f"`local`: {parts['LocalContrast']['description']}\n"
            yield key_table(parts["LocalContrast"], parts)
        case _ if "$ref" in layer:
            yield key_table(parts[layer["$ref"].rpartition("/")[2]], parts)


def _padding(parts: Part) -> Iterator[str]:
    yield f"## padding\n\n{parts['Padding']['description']}\n"
    yield code(
        "yaml",
        "- convolve: {bank: sobel, padding: reflect}\n- convolve: {bank: sobel, padding: 2}\n"
        "- convolve: {bank: sobel, padding: {mode: wrap, widths: [[0, 1], [2, 2]]}}",
    )
    yield table(("word", "meaning"), ((f"`{word}`", _barred(note)) for word, note in PADDING_NOTES.items()))
    yield "With widths of one's own:\n"
    yield key_table(parts["ExplicitPadding"], parts)


def _banks(parts: Part) -> Iterator[str]:
    entries = list_banks()
    yield (
        "## Banks\n\nA bank is an ordered set of kernels. Those with a name stand in `convolve: {bank: NAME, ...}`,\n"
        "their parameters beside the name and the layer's own options. Others are learned or drawn,\n"
        "`convolve: {bank: {fit: NAME, ...}}`, or given by their numbers or a file, `convolve: {kernels: ...}`.\n"
        "`featpipe banks show NAME --png FILE` draws one.\n"
    )
    yield table(("bank", "what it is"), ((f"[`{entry.name}`](#{entry.name})", entry.summary) for entry in entries))
    for entry in entries:
        yield f"### {entry.name}\n\n{entry.summary}\n"
        yield code("yaml", entry.example)
        if entry.name in FITS[1:]:
            yield f"Its keys are those of [{FITS[0]}](#{FITS[0]}).\n\nSource: {entry.source}\n"
            continue
        part = parts[_model_of(entry)]
        given = ("bank", "kernels" if "kernels" in entry.layer else "", "fit")
        own = {key: value for key, value in part["properties"].items() if key not in given}
        own = {key: value for key, value in own.items() if key not in parts["ConvolveOptions"]["properties"]}
        if own:
            yield key_table({**part, "properties": own}, parts)
        if entry.source:
            yield f"Source: {entry.source}\n"


def _model_of(entry: BankEntry) -> str:
    return BANKS[entry.name].__name__ if entry.name in BANKS else type(entry.spec).__name__


def key_table(part: Part, parts: Part) -> str:
    """Return the keys of a mapping, each with what it may hold, its default and its meaning."""
    rows = []
    for key, value in part["properties"].items():
        if "$ref" in value and "/properties/" in value["$ref"]:
            continue
        required = key in part.get("required", ())
        default = "**required**" if required else f"`{flow_text(value['default'])}`" if "default" in value else ""
        described = value if "description" in value else parts[value["$ref"].rpartition("/")[2]]
        rows.append((f"`{key}`", _value(value, parts), default, described["description"]))
    return table(("key", "value", "default", "meaning"), rows)


def _value(value: Part, parts: Part) -> str:
    """Say in words what a key may hold."""
    for name, text in LINKS.items():
        if value.get("$ref") == f"#/definitions/{name}" or value.get("anyOf") == parts[name].get("anyOf", 0):
            return text
    if "anyOf" in value:
        return _choice([one for one in value["anyOf"] if one.get("type") != "null"], parts)
    if "$ref" in value:
        return f"`{{{', '.join(parts[value['$ref'].rpartition('/')[2]]['properties'])}}}`"
    if "enum" in value:
        return " or ".join(f"`{word}`" for word in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if "$ref" in value.get("items", {}):
        return f"list of {_value(value['items'], parts)}"
    return type_text(value)


def _choice(choices: list[Part], parts: Part) -> str:
    said = []
    for i, one in enumerate(choices):
        item = one.get("items", {})
        if "anyOf" in item:
            said.append("`[y, x]`, or pairs of before and after")
        elif i and item == choices[i - 1]:
            said.append("`[y, x]`" if one.get("maxItems") == 2 else "a list of them")
        elif one.get("enum") == list(FORMULAS):
            return ACTIVATION
        else:
            said.append(_value(one, parts))
    *first, last = dict.fromkeys(said)
    return f"{', '.join(first)}, or {last}" if first else last


def commands_page() -> str:
    """Return the reference of the commands."""
    group: Any = typer.main.get_command(app)
    codes = [
        (0, "Done; also when some images failed and may fail (`--max-failures`)."),
        (
            FAILED,
            (
                "The run failed after it had started, images could not be reached (run again), "
                "or `verify` found something wrong."
            ),
        ),
        (SpecError.exit_code, "The pipeline, the command or what it names is wrong; nothing was written."),
        (INTERRUPTED, "Interrupted: run the command again and it goes on."),
    ]
    text = [
        f"# Commands\n\n{MADE}\n{group.help}\n",
        (
            "Results go to stdout, progress and messages to stderr; with `--json` the results are for programs.\n"
            "`python -m featpipe` is the same program. `featpipe COMMAND --help` tells what stands here.\n"
        ),
        table(("exit code", "meaning"), ((f"`{code_}`", meaning) for code_, meaning in codes)),
        (
            "After `featpipe --install-completion` (bash, zsh, fish, PowerShell) Tab completes commands, options,\n"
            "pipelines, stores and banks.\n"
        ),
        table(
            ("command", "what it does"),
            ((f"[`{name}`](#featpipe-{name.replace(' ', '-')})", _help(one)) for name, one in _commands(group)),
        ),
        "Before the command:\n",
        param_table(group.params),
    ]
    for name, command in _commands(group):
        text.append(f"## featpipe {name}\n\n{_help(command)}\n")
        named = [one for one in command.params if one.param_type_name == "argument"]
        pieces = [one.metavar if one.required else f"[{one.metavar}]" for one in named]
        options = " [OPTIONS]" if any(one.param_type_name == "option" for one in command.params) else ""
        text.append(code("text", f"featpipe {name}{options} {' '.join(pieces)}".strip()))
        text.append(param_table(command.params))
        example = (command.epilog or "").removeprefix("Example:").strip().replace("\n\n", "\n")
        if example:
            text.append(f"Example:\n\n{code('sh', example)}")
    return "\n".join(part for part in text if part)


def _commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        yield f"{before}{name}", command
        if hasattr(command, "commands"):
            yield from _commands(command, f"{before}{name} ")


def _help(command: Any) -> str:
    return prose(inspect.cleandoc(command.help or ""))


def param_table(params: Iterable[Any]) -> str:
    """Return the arguments and options of a command."""
    rows = []
    for one in params:
        if getattr(one, "hidden", False):
            continue
        default = one.show_default if isinstance(one.show_default, str) else one.default
        plain = isinstance(default, (str, int, float)) and not isinstance(default, bool) and one.show_default
        shown = "**required**" if one.required else str(default) if plain else ""
        is_flag = getattr(one, "is_flag", False)
        name = one.metavar if one.param_type_name == "argument" else ", ".join(one.opts)
        value = "" if is_flag or one.param_type_name == "argument" or not one.metavar else f" {one.metavar}"
        rows.append((f"`{_barred(name + value)}`", shown, _barred(one.help or "")))
    return table(("argument or option", "default", "meaning"), rows) if rows else ""


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a table of Markdown."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(f"| {' | '.join(cell.replace(chr(10) * 2, '<br>') for cell in line)} |\n" for line in lines)


def code(language: str, text: str) -> str:
    """Return a fenced block."""
    return f"```{language}\n{text}\n```\n"


def _barred(text: str) -> str:
    """Return text that a cell of a table can hold."""
    return text.replace("|", "\\|")


def _first(text: str) -> str:
    """Return the first paragraph."""
    return text.split("\n\n", maxsplit=1)[0]


def pages() -> dict[str, str]:
    """Return every file of the reference by its name."""
    return {"pipeline.md": pipeline_page(), "commands.md": commands_page(), FILE_NAME: schema_text()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
