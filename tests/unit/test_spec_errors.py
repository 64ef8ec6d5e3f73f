"""Wrong pipelines: every mistake is told once, at its line and column, in featpipe's own words."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml

from featpipe.errors import Problem, SpecError
from featpipe.spec.load import load_pipeline, parse_pipeline

HEAD = "images: {path: photos}\nfeatures:\n  t:\n    layers:\n"


def problems_of(folder: Path, text: str, *overrides: str) -> list[str]:
    """Return the messages for a wrong pipeline, its file called ``pipeline.yaml``."""
    path = folder / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_pipeline(path, overrides)
    return [str(problem).replace(f"{path.parent}/", "") for problem in caught.value.problems]


def layer(text: str) -> str:
    """Return a pipeline whose only branch has these layers, beginning at line 5, column 7."""
    return HEAD + textwrap.indent(text, "      ")


WHOLE = "images: {path: a}\nfeatures: {t: {layers: [{convolve: {bank: sobel}}]}}\n"
WRONG = {
    # Keys
    "unknown key": (
        "images:\n  path: a\n  colour: gray\nfeatures: {t: {layers: [modulus]}}",
        "3:3 images.colour: unknown key. Did you mean color?",
    ),
    "unknown section": (
        "images: {path: a}\nfeatures: {t: {layers: [modulus]}}\nsave_to: x",
        "3:1 save_to: unknown key. (keys here: images, features, store, cluster)",
    ),
    "cluster of no kind": (
        WHOLE + "cluster: {}",
        "3:10 cluster: must have one of local, address, scheduler_file, class, got none of them.",
    ),
    "cluster of two kinds": (
        WHOLE + "cluster: {local: {}, address: 'tcp://a:1'}",
        "3:10 cluster: must have one of local, address, scheduler_file, class, got local and address.",
    ),
    "a cluster that loads code": (
        WHOLE + "cluster: {class: distributed.LocalCluster, options: {n_workers: 1, preload: [evil.py]}}",
        "3:68 cluster.options.preload: is none of n_workers, threads_per_worker, memory_limit, local_directory, ",
    ),
    "cluster class of anybody": (
        WHOLE + "cluster: {class: os.system}",
        "3:18 cluster.class: must be one of dask_jobqueue.SLURMCluster, ",
    ),
    "cluster address": (
        WHOLE + "cluster: {address: 'http://a'}",
        "3:20 cluster.address: must be tcp://HOST:PORT or tls://HOST:PORT, got the text 'http://a'.",
    ),
    "cluster memory": (
        WHOLE + "cluster: {local: {memory: much}}",
        "3:27 cluster.local.memory: 'much' is not an amount of memory; write 800MB, 1.5GiB or 2e9.",
    ),
    "cluster memory true": (
        WHOLE + "cluster: {local: {memory: true}}",
        "3:27 cluster.local.memory: must be an amount of memory such as 2GiB, got true.",
    ),
    "cluster options without class": (
        WHOLE + "cluster: {local: {}, options: {a: 1}}",
        "3:22 cluster.options: options goes with class.",
    ),
    "cluster key": (
        WHOLE + "cluster: {adress: 'tcp://a:1'}",
        "3:11 cluster.adress: unknown key. Did you mean address?",
    ),
    "cluster worker key": (
        WHOLE + "cluster: {local: {worker: 2}}",
        "3:19 cluster.local.worker: unknown key. Did you mean workers?",
    ),
    "unknown store key": (
        "images: {path: a}\nfeatures: {t: {layers: [modulus]}}\nstore: {pth: x.zarr}",
        "3:9 store.pth: unknown key. Did you mean path?",
    ),
    "unknown convolve key": (
        layer("- convolve: {bank: sobel, strid: 2}"),
        "5:33 features.t.layers[0].convolve.strid: unknown key. Did you mean stride?",
    ),
    "unknown bank parameter": (
        layer("- convolve: {bank: gabor, frequencies: 0.1, orientation: 2}"),
        "5:51 features.t.layers[0].convolve.orientation: unknown key. Did you mean orientations?",
    ),
    "parameter of another bank": (
        layer("- convolve: {bank: sobel, sigmas: [1]}"),
        "5:33 features.t.layers[0].convolve.sigmas: unknown key. It is a parameter of gaussian, gaussian-gradient,",
    ),
    "a model's own field": (
        layer("- convolve: {bank: sobel, source: {name: box}}"),
        "5:33 features.t.layers[0].convolve.source: unknown key.",
    ),
    "a model's own fields in pool": (
        layer("- pool: {by: max}"),
        "5:16 features.t.layers[0].pool.by: unknown key. (keys here: max, mean, min, sum, l2, std, histogram,",
    ),
    "a model's own field in activate": (
        layer("- activate: {name: relu}"),
        "5:20 features.t.layers[0].activate.name: unknown key.",
    ),
    "a key named like a tag": (
        layer("- convolve: {bank: gabor, frequencies: 0.1}\n- pool: {(window): 2, max: 2}"),
        "6:16 features.t.layers[1].pool.(window): unknown key.",
    ),
    "missing images": ("features: {t: {layers: [modulus]}}", "1:1 images: is missing. Add images: {path: photos/}."),
    "missing path": (
        "features: {t: {layers: [modulus]}}\nimages:\n  color: gray",
        "3:3 images.path: is missing. Add path: photos/.",
    ),
    "missing features": ("images: {path: a}", "1:1 features: is missing. Add features: {"),
    "missing parameter": (
        layer("- convolve: {bank: log}"),
        "5:19 features.t.layers[0].convolve.sigmas: is missing. Add sigmas: [1, 2, 4].",
    ),
    "missing random count": (
        layer("- convolve: {bank: {fit: random, size: 3}}"),
        "5:26 features.t.layers[0].convolve.bank.kernels: is missing. Add kernels: 16.",
    ),
    # Shape of the tree
    "no branches": ("images: {path: a}\nfeatures: {}", "2:11 features: has no branches. Add one, e.g. features: {"),
    "features empty": (
        "images: {path: a}\nfeatures:",
        "2:1 features: must be a mapping of keys to values, got nothing.",
    ),
    "layers under the branch": (
        "images: {path: a}\nfeatures:\n  t:\n    - modulus",
        "4:5 features.t: must be a mapping with layers, got the list itself. Put the list under layers:.",
    ),
    "layer as key of the branch": (
        "images: {path: a}\nfeatures:\n  t:\n    pool: {max: 2}",
        "4:5 features.t.pool: pool is a layer. List it under layers:.",
    ),
    "layers a mapping": (
        "images: {path: a}\nfeatures:\n  t:\n    layers:\n      pool: {max: 2}",
        "5:7 features.t.layers: must be a list, got a mapping. Begin each item with '- '.",
    ),
    "no layers": (
        "images: {path: a}\nfeatures: {t: {layers: []}}",
        "2:24 features.t.layers: must hold at least one item, got an empty list.",
    ),
    "bad branch name": (
        "images: {path: a}\nfeatures: {1a: {layers: [modulus]}}",
        "2:12 features.1a: a name is a letter, then letters, digits, - and _, got '1a'.",
    ),
    "reserved branch name": (
        "images: {path: a}\nfeatures: {images: {layers: [modulus]}}",
        "2:12 features.images: 'images' is the name of something else in the store.",
    ),
    "branches alike but for case": (
        "images: {path: a}\nfeatures: {a: {layers: [modulus]}, A: {layers: [modulus]}}",
        "2:36 features.A: 'A' is the same but for upper and lower case as features.a.",
    ),
    # Layers
    "unknown layer": (
        layer("- convolv: {bank: sobel}"),
        "5:9 features.t.layers[0].convolv: 'convolv' is not a layer. Did you mean convolve? (layers: convolve,",
    ),
    "unknown layer word": (
        layer("- modulos"),
        "5:9 features.t.layers[0]: 'modulos' is not a layer. Did you mean modulus?",
    ),
    "activation as layer": (layer("- relu"), "5:9 features.t.layers[0]: 'relu' is not a layer. Write activate: relu."),
    "layer without parameters": (
        layer("- pool"),
        "5:9 features.t.layers[0]: pool needs its parameters. Write pool: {max: 2}.",
    ),
    "layer without value": (
        layer("- pool:"),
        "5:9 features.t.layers[0].pool: must be a mapping of keys to values, got nothing.",
    ),
    "two layers in one": (
        layer("- convolve: {bank: sobel}\n  pool: {max: 2}"),
        "5:9 features.t.layers[0]: holds 2 layers, convolve and pool. Begin each layer with a dash of its own.",
    ),
    "options not indented": (
        layer("- convolve:\n  bank: sobel"),
        "6:9 features.t.layers[0].bank: unknown key beside convolve. If it belongs to convolve, indent it further.",
    ),
    "layer a number": (layer("- 3"), "5:9 features.t.layers[0]: must be a layer such as pool: {max: 2}, got 3."),
    "parameters for modulus": (layer("- modulus: {a: 1}"), "5:19 features.t.layers[0].modulus.a: unknown key."),
    # Values
    "number too small": (
        layer("- modulus\n- pool: {max: 2, stride: 0}"),
        "6:32 features.t.layers[1].pool.stride: must be at least 1, got 0.",
    ),
    "text for a number": (
        layer("- convolve: {bank: gaussian, sigmas: [1, abc]}"),
        "5:48 features.t.layers[0].convolve.sigmas[1]: must be a number, got the text 'abc'.",
    ),
    "number with underscores": (
        "images: {path: a, max_pixels: 1_000}\nfeatures: {t: {layers: [modulus]}}",
        "1:31 images.max_pixels: must be a whole number, got the text '1_000'.",
    ),
    "true for a number": (
        layer("- pool: {max: true}"),
        "5:21 features.t.layers[0].pool.max: must be a size, [y, x], {grid: [rows, columns]} or global, got true.",
    ),
    "half a sample": (
        layer("- pool: {max: 2.5}"),
        "5:21 features.t.layers[0].pool.max: must be a whole number, got 2.5.",
    ),
    "infinite": (
        layer("- convolve: {bank: sobel, bias: .inf}"),
        "5:39 features.t.layers[0].convolve.bias: must be a finite number, got inf.",
    ),
    "huge": (
        layer("- pool: {max: 1" + "0" * 5000 + "}"),
        "5:21 features.t.layers[0].pool.max: must be a whole number, got inf.",
    ),
    "yes for true": (
        layer("- convolve: {bank: sobel, flip: yes}"),
        "5:39 features.t.layers[0].convolve.flip: must be true or false, got the text 'yes'.",
    ),
    "number for text": (
        "images: {path: a, labels: 3}\nfeatures: {t: {layers: [modulus]}}",
        "1:27 images.labels: must be text, got 3. Put it in quotes if it is text.",
    ),
    "one of a few": (
        "images: {path: a, color: grey}\nfeatures: {t: {layers: [modulus]}}",
        "1:26 images.color: must be one of gray, rgb, keep, got the text 'grey'. Did you mean gray?",
    ),
    "three sizes": (
        "images: {path: a, size: [1, 2, 3]}\nfeatures: {t: {layers: [modulus]}}",
        "1:25 images.size: must be one number or [y, x], got a list of 3.",
    ),
    "split a number": (
        "images: {path: a, split: 0.2}\nfeatures: {t: {layers: [modulus]}}",
        "1:26 images.split: must be folders, none, a column of the manifest, or {test: 0.2, seed: 0}, got 0.2.",
    ),
    "split too large": (
        "images: {path: a, split: {test: 20}}\nfeatures: {t: {layers: [modulus]}}",
        "1:33 images.split.test: must be less than 1, got 20.",
    ),
    "scale no power of two": (
        "images: {path: a}\nfeatures: {t: {scales: [1, 3], layers: [modulus]}}",
        "2:24 features.t.scales: must be powers of two (1, 2, 4, ...), got 3.",
    ),
    "store not zarr": (
        "images: {path: a}\nfeatures: {t: {layers: [modulus]}}\nstore: {path: out}",
        "3:15 store.path: must end in .zarr, got 'out'.",
    ),
    "unknown padding": (
        layer("- convolve: {bank: sobel, padding: mirror}"),
        "5:42 features.t.layers[0].convolve.padding: must be one of valid, same, zero, edge, reflect,",
    ),
    "negative padding": (
        layer("- convolve: {bank: sobel, padding: {widths: [1, -1]}}"),
        "5:55 features.t.layers[0].convolve.padding.widths[1]: must be at least 0, got -1.",
    ),
    # Banks
    "unknown bank": (
        layer("- convolve: {bank: gabr, frequencies: [0.1]}"),
        "5:26 features.t.layers[0].convolve.bank: there is no bank 'gabr'. Did you mean gabor? (banks: identity,",
    ),
    "no bank": (
        layer("- convolve: {stride: 2}"),
        "5:19 features.t.layers[0].convolve: needs a bank or kernels. Add bank: NAME (banks: identity,",
    ),
    "bank and kernels": (
        layer("- convolve: {bank: sobel, kernels: [[[1]]]}"),
        "5:19 features.t.layers[0].convolve: has both bank and kernels. Remove one of them.",
    ),
    "bank a mapping": (
        layer("- convolve: {bank: {name: gabor}}"),
        "5:26 features.t.layers[0].convolve.bank: must be a bank's name, {fit: …} or {file: …}, got a mapping",
    ),
    "one kernel only": (
        layer("- convolve: {kernels: [[1, 2], [3, 4]]}"),
        "5:29 features.t.layers[0].convolve.kernels: must be a list of kernels, and this is one kernel. Write",
    ),
    "ragged rows": (
        layer("- convolve: {kernels: [[[1, 2], [3]]]}"),
        "5:39 features.t.layers[0].convolve.kernels[0][1]: is 1 long, but the first row is 2 long.",
    ),
    "unlike kernels": (
        layer("- convolve: {kernels: [[[1, 2]], [[3], [4]]]}"),
        "5:40 features.t.layers[0].convolve.kernels[1]: is 2×1, but the first kernel is 1×2.",
    ),
    "text in a kernel": (
        layer("- convolve: {kernels: [[[1, a]]]}"),
        "5:35 features.t.layers[0].convolve.kernels[0][0][1]: must be a finite number, got the text 'a'.",
    ),
    "kernel file missing": (
        layer("- convolve: {kernels: bank.npy}"),
        "5:29 features.t.layers[0].convolve.kernels: there is no file bank.npy.",
    ),
    "npz without key": (
        layer("- convolve: {kernels: bank.npz}"),
        "5:29 features.t.layers[0].convolve.kernels: 'bank.npz' does not say which array of the file.",
    ),
    "kernel file of another kind": (
        layer("- convolve: {kernels: bank.txt}"),
        "5:29 features.t.layers[0].convolve.kernels: must be a .npy file, FILE.npz:NAME, FILE.safetensors:NAME,",
    ),
    "names not one each": (
        layer("- convolve: {kernels: [[[1]], [[2]]], names: [a]}"),
        "5:52 features.t.layers[0].convolve.names: gives 1 for 2 kernels. Give one each.",
    ),
    "names of a named bank": (
        layer("- convolve: {bank: sobel, names: [a, b]}"),
        "5:40 features.t.layers[0].convolve.names: bank sobel names its kernels itself.",
    ),
    "bias not one each": (
        layer("- convolve: {kernels: [[[1]], [[2]]], bias: [1, 2, 3]}"),
        "5:51 features.t.layers[0].convolve.bias: has 3 values for 2 kernels.",
    ),
    # Other layers
    "unknown activation": (
        layer("- activate: rellu"),
        "5:19 features.t.layers[0].activate: there is no activation 'rellu'. Did you mean relu? (activations: relu,",
    ),
    "activation with parameters": (
        layer("- activate: {relu: {}}"),
        "5:20 features.t.layers[0].activate.relu: relu has no parameters. Write activate: relu.",
    ),
    "two statistics": (
        layer("- pool: {max: 2, mean: 2}"),
        "5:15 features.t.layers[0].pool: needs exactly one of max, mean, min, sum, l2, std, histogram, got max and",
    ),
    "no statistic": (
        layer("- pool: {stride: 2}"),
        "5:15 features.t.layers[0].pool: needs exactly one of max, mean, min, sum, l2, std, histogram, got none.",
    ),
    "pool of a word": (
        layer("- pool: {mean: all}"),
        "5:22 features.t.layers[0].pool.mean: must be a size, [y, x], {grid: [rows, columns]} or global, got the text",
    ),
    "grid of nothing": (
        layer("- pool: {mean: {grid: 0}}"),
        "5:29 features.t.layers[0].pool.mean.grid: must be at least 1, got 0.",
    ),
    "padding as wide as the window": (
        layer("- pool: {max: 2, padding: 2}"),
        "5:33 features.t.layers[0].pool.padding: is not narrower than the window, 2 along x: some windows hold no",
    ),
    "stride of a grid": (
        layer("- pool: {mean: {grid: 2}, stride: 2}"),
        "5:33 features.t.layers[0].pool.stride: has no meaning with a grid or global pool.",
    ),
    "padding of a global pool": (
        layer("- pool: {mean: global, padding: same}"),
        "5:30 features.t.layers[0].pool.padding: has no meaning with a grid or global pool.",
    ),
    "histogram without bins": (
        layer("- pool: {histogram: 7}"),
        "5:15 features.t.layers[0].pool: a histogram needs bins. Add bins: 256, one more than the largest value.",
    ),
    "bins of a mean": (
        layer("- pool: {mean: 7, bins: 8}"),
        "5:25 features.t.layers[0].pool.bins: has no meaning without a histogram. Remove it.",
    ),
    "many bins": (
        layer("- pool: {histogram: 7, bins: 65537}"),
        "5:36 features.t.layers[0].pool.bins: must be at most 65536, got 65537.",
    ),
    "a window of more samples than float32 counts": (
        layer("- pool: {histogram: [4097, 4096], bins: 8}"),
        "5:27 features.t.layers[0].pool.histogram: a window of 4097×4096 holds more than 16777216 samples,",
    ),
    "stride of a histogram's grid": (
        layer("- pool: {histogram: {grid: 2}, bins: 2, stride: 2}"),
        "5:47 features.t.layers[0].pool.stride: has no meaning with a grid or global pool.",
    ),
    "bif without epsilon": (
        layer("- bif: {}"),
        "5:14 features.t.layers[0].bif.epsilon: is missing. Add epsilon: 0.03.",
    ),
    "bif without parameters": (
        layer("- bif"),
        "5:9 features.t.layers[0]: bif needs its parameters. Write bif: {epsilon: 0.03}.",
    ),
    "parameters for products": (
        layer("- products: {over: a}"),
        "5:20 features.t.layers[0].products.over: unknown key.",
    ),
    "digits without base": (
        layer("- code: {over: sigma, by: digits}"),
        "5:15 features.t.layers[0].code: digits needs a base. Add base: 7, one more than the largest digit.",
    ),
    "base of signs": (
        layer("- code: {over: kernel, by: sign, base: 2}"),
        "5:40 features.t.layers[0].code.base: has no meaning with by: sign. Remove it.",
    ),
    "base one": (
        layer("- code: {over: kernel, by: digits, base: 1}"),
        "5:48 features.t.layers[0].code.base: must be at least 2, got 1.",
    ),
    "unknown code": (
        layer("- code: {over: kernel, by: argmin}"),
        "5:34 features.t.layers[0].code.by: must be one of sign, argmax, digits, got the text 'argmin'. Did you mean",
    ),
    "code without by": (
        layer("- code: {over: kernel}"),
        "5:15 features.t.layers[0].code.by: is missing. Add by: sign.",
    ),
    "misspelt base": (
        layer("- code: {over: kernel, by: sign, bas: 2}"),
        "5:40 features.t.layers[0].code.bas: unknown key. Did you mean base?",
    ),
    "even neighbourhood": (
        layer("- normalize: {local: {size: 8}}"),
        "5:35 features.t.layers[0].normalize.local.size: must be odd, so that the neighbourhood has a centre, got",
    ),
    "local and statistics": (
        layer("- normalize: {local: {size: 9}, std: 2}"),
        "5:20 features.t.layers[0].normalize: has both local and statistics.",
    ),
    "statistics of unlike length": (
        layer("- normalize: {mean: [1, 2], std: [1, 2, 3]}"),
        "5:40 features.t.layers[0].normalize.std: has 3 values, but mean has 2.",
    ),
    "save at the end": (
        layer("- modulus\n- save: a"),
        "6:15 features.t.layers[1].save: the last map of a branch is kept anyway. Remove this save.",
    ),
    "saved twice": (
        layer("- save: a\n- modulus\n- save: a\n- modulus"),
        "7:15 features.t.layers[2].save: 'a' is the same name as features.t.layers[0].save.",
    ),
    "saved as a scale": (
        layer("- save: scale1\n- modulus"),
        "5:15 features.t.layers[0].save: 'scale1' is the name of a scale's group in the store.",
    ),
    # Paths
    "store inside images": (
        "images: {path: photos}\nfeatures: {t: {layers: [modulus]}}\nstore: {path: photos/out.zarr}",
        "3:15 store.path: the store, photos/out.zarr, would be inside images.path.",
    ),
    "default store inside images": (
        "images: {path: .}\nfeatures: {t: {layers: [modulus]}}",
        "1:16 images.path: the store, features.zarr, would be inside images.path. Set store.path",
    ),
    "images inside the store": (
        "images: {path: out.zarr/*.png}\nfeatures: {t: {layers: [modulus]}}\nstore: {path: out.zarr}",
        "3:15 store.path: images and store are the same, out.zarr.",
    ),
    "images under the store": (
        "images: {path: out.zarr/images}\nfeatures: {t: {layers: [modulus]}}\nstore: {path: ./out.zarr}",
        "3:15 store.path: images.path 'out.zarr/images' is inside the store, out.zarr.",
    ),
    # YAML
    "tab": (
        "images:\n\tpath: a\nfeatures: {}",
        "2:1: is not valid YAML: a tab character stands where only spaces may. Ind",
    ),
    "colon in text": ("images:\n  path: a: b", "2:10: is not valid YAML: a key stands where only a value may."),
    "open bracket": ("images: {path: a\nfeatures: 3\n", "is not valid YAML: "),
    "duplicate key": (
        "images:\n  path: a\n  path: b\nfeatures: {t: {layers: [modulus]}}",
        "3:3: the key 'path' stands here again; it is first at 2:3. Keep one of them.",
    ),
    "anchor": (
        "images: &a {path: a}\nfeatures: {t: {layers: [modulus]}}",
        "1:9: &a is an anchor, which pipelines do not have.",
    ),
    "glob taken for an alias": (
        "images:\n  path: *.png",
        "2:10: is not valid YAML: text cannot begin with * or &. Put it in quotes.",
    ),
    "alias": (
        "images: {path: *png }",
        "1:16: *png refers to an anchor, which pipelines do not have. Write it out, or put te",
    ),
    "tag": ("images: {path: !!str a}\nfeatures: {t: {layers: [modulus]}}", "1:16: tag:yaml.org,2002:str is a tag,"),
    "second document": ("images: {path: a}\n---\na: 1", "2:1: a second document begins. Give one pipeline per file."),
    "key no text": ("? [a, b]\n: 1", "1:3: a key must be plain text, not a list or a mapping."),
    "not a mapping": ("- a", "1:1: must be a mapping with images and features, got a list of 1."),
    "empty": ("# nothing\n\n", "pipeline.yaml: is empty. featpipe init writes a first pipeline."),
    "control character": ("images:\n  path: a\x07", "2:10: holds the character U+0007, which YAML does not allow."),
    "too deep": ("a: " + "[" * 10_000, "1:35: is nested deeper than 32 levels."),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_pipeline_is_told_once_where_and_how(name: str, tmp_path: Path) -> None:
    text, expected = WRONG[name]
    problems = problems_of(tmp_path, text)
    assert len(problems) == 1
    assert expected in problems[0]


PARSED = ("tab", "colon in text", "glob taken for an alias", "too deep", "second document", "key no text")


@pytest.mark.parametrize("parser", [yaml.SafeLoader, *([yaml.CSafeLoader] if yaml.__with_libyaml__ else [])])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(WRONG[name] for name in PARSED),
        ("a: " + "[\n" * 10_000, "32:1: is nested deeper than 32 levels."),
        ("- " * 10_000, "1:65: is nested deeper than 32 levels."),
        ("[" * 5_000 + "]" * 5_000, "1:33: is nested deeper than 32 levels."),
        ("{" * 5_000, "1:2: a key must be plain text, not a list or a mapping."),
        ("a: @x", "1:4: is not valid YAML: text cannot begin with @. Put it in quotes."),
    ],
)
def test_every_parser_s_mistakes_and_limits_are_told_in_the_same_words(
    parser: type[Any], text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("featpipe.spec.source._LOADER", parser)
    problems = problems_of(tmp_path, text)
    assert len(problems) == 1
    assert expected in problems[0]


def test_many_mistakes_come_at_once_in_the_file_s_order(tmp_path: Path) -> None:
    problems = problems_of(
        tmp_path,
        """\
images:
  path: photos
  colour: gray
  size: 0
  size: 3
features:
  texture:
    scales: [1, 3]
    layers:
      - convolve: {bank: gabor, frequencies: [0.1, 0.9], stride: 0, bandwith: 1}
      - convolve: {stride: 0}
      - pool: {max: 2, mean: 2, padding: -1}
      - poool: 2
      - save: end
  edges: []
store: {path: photos/x.zarr, dtype: float64}
""",
        "store.batch=0",
        "store.pth=1",
        "features.texture.layers[9].pool.max=1",
    )
    assert "5:3: the key 'size' stands here again" in problems[0]
    assert any(
        "--set features.texture.layers[9].pool.max: features.texture.layers has no item [9]" in p for p in problems
    )
    assert any("--set store.batch: must be at least 1, got 0." in p for p in problems)
    assert any("--set store.pth: unknown key. Did you mean path?" in p for p in problems)
    for where in (
        "3:3 images.colour",
        "4:9 images.size",
        "8:13 features.texture.scales",
        "10:52 features.texture.layers[0].convolve.frequencies[1]",
        "10:66 features.texture.layers[0].convolve.stride",
        "10:69 features.texture.layers[0].convolve.bandwith",
        "11:19 features.texture.layers[1].convolve:",
        "11:28 features.texture.layers[1].convolve.stride",
        "12:15 features.texture.layers[2].pool:",
        "12:42 features.texture.layers[2].pool.padding",
        "13:9 features.texture.layers[3].poool",
        "14:15 features.texture.layers[4].save",
        "15:10 features.edges",
        "16:15 store.path",
        "16:37 store.dtype",
    ):
        assert sum(f"pipeline.yaml:{where}" in problem for problem in problems) == 1, where
    assert len(problems) == 19


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("store.pth=x", "--set store.pth: unknown key. Did you mean path?"),
        ("stor.path=x.zarr", "--set stor: unknown key. Did you mean store?"),
        ("images.size=[0, 3]", "--set images.size[0]: must be at least 1, got 0."),
        ("images.path.x=3", "--set images.path.x: images.path is not a mapping, it is the text 'photos'."),
        (
            "features.t.layers[3].pool.max=2",
            "--set features.t.layers[3].pool.max: features.t.layers has no item [3]; the",
        ),
        (
            "features.t.layers.pool=2",
            "--set features.t.layers.pool: features.t.layers is not a mapping, it is a list of 1.",
        ),
        ("store.path", "--set store.path: is not of the form key=value."),
        ("=3", "--set =3: is not of the form key=value."),
        ("[0]=3", "--set [0]=3: is not of the form key=value."),
        ("store.path={", "--set store.path: is not valid YAML: "),
        ("store.batch=yes", "--set store.batch: must be a whole number, got the text 'yes'."),
        ("store.path=", "--set store.path: must be text, got nothing."),
        ("store.path=photos/a.zarr", "would be inside images.path"),
    ],
)
def test_a_wrong_override_is_told_with_its_key(override: str, expected: str, tmp_path: Path) -> None:
    problems = problems_of(tmp_path, layer("- modulus"), override)
    assert len(problems) == 1
    assert problems[0].startswith("--set ")
    assert expected in problems[0]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    def told(path: Path | str) -> str:
        with pytest.raises(SpecError) as caught:
            load_pipeline(path)
        return str(caught.value)

    latin = tmp_path / "latin.yaml"
    latin.write_bytes("images:\n  path: été".encode("latin-1"))
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (16 * 2**20 + 1))
    assert (
        told(tmp_path / "none.yaml")
        == f"{tmp_path / 'none.yaml'}: there is no such file. featpipe init writes a first pipeline."
    )
    assert told(tmp_path) == f"{tmp_path}: is a directory. Give the pipeline file in it: {large} or {latin}."
    (tmp_path / "images").mkdir()
    assert told(tmp_path / "images") == f"{tmp_path / 'images'}: is a directory. Give a pipeline file."
    assert told(latin) == f"{latin}:2: is not UTF-8: byte 0xe9. Save the file as UTF-8."
    assert "is larger than 16 MiB." in told(large)
    assert "cannot be read" in told("a\0b")


def test_a_wrong_mapping_is_told_without_a_file() -> None:
    with pytest.raises(SpecError) as caught:
        parse_pipeline({"features": {"t": {"layers": [{"pool": {"max": 0}}]}}, "stor": {}})
    assert set(map(str, caught.value.problems)) == {
        "features.t.layers[0].pool.max: must be at least 1, got 0.",
        "stor: unknown key. Did you mean store?",
    }


def test_a_later_problem_is_placed_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "pipeline.yaml"
    path.write_text(layer("- pool: {max: 2}\n- modulus"))
    _, source = load_pipeline(path, ["features.t.layers[0].pool.stride=3"])
    where = ("features", "t", "layers", 1)
    assert source.place(where) == f"{path}:6:9"
    assert source.place((*where, "modulus", "x", 7)) == f"{path}:6:9"
    assert source.place(("features", "t", "layers", 0, "pool", "max")) == f"{path}:5:21"
    assert source.place(("features", "t", "layers", 0, "pool", "max"), on_key=True) == f"{path}:5:16"
    assert source.place(()) == f"{path}:1:1"
    problem = Problem(
        "features.t.layers[0] (pool)", "does not fit.", location=("features", "t", "layers", 0, "pool", "stride")
    )
    assert str(source.locate(problem)) == "--set features.t.layers[0] (pool): does not fit."
