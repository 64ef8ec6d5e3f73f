"""The command line, end to end on real files: every command, its exit codes, and where its words go."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import typer
import zarr

import featpipe as package
from featpipe.cli.guard import guarded

PIPELINE = """\
images: {path: images/}
features:
  texture:
    scales: [1, 2]
    layers:
      - convolve: {bank: gabor, frequencies: [0.2, 0.3], orientations: 2, padding: reflect}
      - modulus
      - pool: {mean: {grid: [2, 2]}}
  edges:
    layers:
      - convolve: {bank: sobel}
      - modulus
      - save: full
      - pool: {max: 4, stride: 2}
store: {path: out.zarr}
"""
PYTHON = [sys.executable, "-W", "error", "-m", "featpipe"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a pipeline and twelve labelled images of 32×32, eight to train and four to test on."""
    random = np.random.default_rng(0)
    for i in range(12):
        place = tmp_path / "images" / ("train" if i < 8 else "test") / ("cat" if i % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        iio.imwrite(place / f"{i}.png", random.integers(0, 256, (32, 32), np.uint8))
    (tmp_path / "pipeline.yaml").write_text(PIPELINE, encoding="utf-8")
    return tmp_path


def spoil(folder: Path, *names: str) -> None:
    """Garble the pixels of some images but not their headers, so that whoever reads pixels fails."""
    for name in names:
        path = folder / "images" / name
        content = path.read_bytes()
        path.write_bytes(content[:60] + bytes(len(content) - 80) + content[-20:])


# -- plan --------------------------------------------------------------------------------------------------------------


def test_a_plan_tells_all_before_a_pixel_is_read(folder: Path, featpipe: Any) -> None:
    spoil(folder, *(str(path.relative_to(folder / "images")) for path in (folder / "images").rglob("*.png")))
    done = featpipe("plan", folder / "pipeline.yaml", "--memory", "2GiB", "--threads", "3")
    assert done.code == 0
    assert not done.err
    for words in (
        "12 images · 32×32 px · gray · uint8", "train 8 · test 4", "cat 6 · dog 6", "texture, scale 2", "pool max 4×4",
        "14×14×1", "6×6", "edges/full/scale1", "12×30×30×1", "3 threads", "of 2 GiB", "Nothing is there yet",
    ):  # fmt: skip
        assert words in done.out
    assert "\x1b" not in done.out
    assert not (folder / "out.zarr").exists()


def test_a_plan_as_json_is_what_the_run_writes(folder: Path, featpipe: Any) -> None:
    plan = json.loads(featpipe("plan", folder / "pipeline.yaml", "--json").out)
    report = json.loads(featpipe("run", folder / "pipeline.yaml", "--json").out)
    assert report["tasks"] == report["tasks_done"] == plan["tasks"]
    assert report["bytes_written"] == plan["store"]["bytes"]
    root = zarr.open_group(folder / "out.zarr", mode="r")
    assert {one["map"] for one in plan["store"]["maps"]} == {
        "texture/scale1", "texture/scale2", "edges/full/scale1", "edges/scale1"
    }  # fmt: skip
    for one in plan["store"]["maps"]:
        array: Any = root[one["map"] + "/features"]
        assert list(array.shape) == one["least"] == one["most"]
        assert list(array.shards or array.chunks) == one["shard"]
    layers = plan["branches"][-1]["layers"]
    assert [layer["stored_as"] for layer in layers] == [None, "edges/full/scale1", "edges/scale1"]
    assert [layer["most"] for layer in layers] == [[30, 30, 2], [30, 30, 1], [14, 14, 1]]
    assert layers[-1]["window"] == [6, 6]


def test_images_of_different_sizes_are_planned_as_ranges(folder: Path, featpipe: Any) -> None:
    iio.imwrite(folder / "images" / "train" / "cat" / "tall.png", np.zeros((48, 40), np.uint8))
    out = featpipe("plan", folder / "pipeline.yaml").out
    assert "13 images · 32–48 × 32–40 px" in out
    assert "30–46×30–38×1" in out
    assert "An array for each image" in out
    full = json.loads(featpipe("plan", folder / "pipeline.yaml", "--json").out)["store"]["maps"][2]
    assert (full["map"], full["arrays"], full["shards"]) == ("edges/full/scale1", 13, 13)
    assert full["bytes"] == (12 * 30 * 30 + 46 * 38) * 4


@pytest.mark.parametrize("columns", [80, 120])
def test_a_plan_fits_the_width_and_cuts_nothing(
    columns: int, folder: Path, featpipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = featpipe("plan", folder / "pipeline.yaml", "--set", "store.path=/x.zarr").out.splitlines()
    assert max(len(line) for line in lines if str(folder) not in line) <= columns  # a path stays in one piece
    assert sum("output y×x×k" in line for line in lines) == 3
    assert sum("FLOP/image" in line for line in lines) == (3 if columns == 120 else 1)  # columns go, no word is cut
    assert not any("…" in line for line in lines)


# -- run ---------------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_how_to_open_the_store(folder: Path, featpipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    done = featpipe("run", folder / "pipeline.yaml")
    assert done.code == 0
    assert "12 images done, none failed" in done.out
    assert "read" in done.out
    assert "12 images in" in done.err
    assert "12 of 12 images (100%)" in done.err
    lines = [line.strip() for line in done.out.splitlines() if line.startswith("    ")][-3:]
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)  # what the user is told to type
    assert names["X"].shape == (8, 2 * 2 * 2 * 4 + 30 * 30 + 14 * 14)
    assert sorted(names["y"]) == [0] * 4 + [1] * 4


def test_the_lines_that_open_a_store_suit_images_of_different_sizes(folder: Path, featpipe: Any) -> None:
    iio.imwrite(folder / "images" / "train" / "cat" / "tall.png", np.zeros((48, 40), np.uint8))
    text = "images: {path: images/}\nfeatures: {e: {layers: [{convolve: {bank: sobel}}]}}\n"
    (folder / "pipeline.yaml").write_text(text, encoding="utf-8")
    names: dict[str, Any] = {}
    exec("\n".join(json.loads(featpipe("run", folder / "pipeline.yaml", "--json").out)["open"]), names)
    assert names["values"].shape == (30, 30, 2)


def test_a_second_run_changes_nothing_and_says_so(folder: Path, featpipe: Any) -> None:
    featpipe("run", folder / "pipeline.yaml")
    before = {path: path.stat().st_mtime_ns for path in (folder / "out.zarr").rglob("*")}
    done = featpipe("run", folder / "pipeline.yaml")
    assert done.code == 0
    assert done.out.startswith("Unchanged")
    assert "nothing to do" in " ".join(done.out.split())
    assert {path: path.stat().st_mtime_ns for path in (folder / "out.zarr").rglob("*")} == before
    assert "nothing to do" in featpipe("plan", folder / "pipeline.yaml").out


def test_a_store_of_another_pipeline_is_replaced_only_when_asked(folder: Path, featpipe: Any) -> None:
    featpipe("run", folder / "pipeline.yaml")
    other = ("run", folder / "pipeline.yaml", "--set", "features.edges.layers[0].convolve.bank=prewitt")
    done = featpipe(*other)
    assert done.code == 2
    assert "another pipeline" in done.err
    assert "--overwrite" in done.err
    assert featpipe(*other, "--overwrite").code == 0


def test_failed_images_are_told_but_do_not_sink_the_run(folder: Path, featpipe: Any) -> None:
    spoil(folder, "train/cat/1.png", "test/dog/8.png")
    done = featpipe("run", folder / "pipeline.yaml")
    assert done.code == 0
    assert "10 of 12 images done, 2 FAILED" in done.out
    assert "train/cat/1.png" in done.out
    assert "2 failed" in done.err
    assert package.open(folder / "out.zarr").ok.sum() == 10
    assert "2 images failed" in featpipe("info", folder / "out.zarr").out


def test_reasons_are_grouped_without_the_paths(folder: Path, featpipe: Any) -> None:
    spoil(folder, "train/cat/1.png", "test/dog/8.png")
    (group,) = json.loads(featpipe("run", folder / "pipeline.yaml", "--json").out)["failures"]
    assert group["count"] == 2
    assert group["paths"] == ["test/dog/8.png", "train/cat/1.png"]
    assert "png:" not in group["reason"]


def test_a_run_whose_images_all_fail_has_failed(folder: Path, featpipe: Any) -> None:
    spoil(folder, *(str(path.relative_to(folder / "images")) for path in (folder / "images").rglob("*.png")))
    done = featpipe("run", folder / "pipeline.yaml")
    assert done.code == 1
    assert "none of the 12 images" in done.err
    assert not done.out


def test_a_bad_image_fails_the_run_where_that_is_asked_for(folder: Path, featpipe: Any) -> None:
    spoil(folder, "train/cat/1.png")
    done = featpipe("run", folder / "pipeline.yaml", "--set", "images.on_error=fail")
    assert done.code == 1
    assert "train/cat/1.png" in done.err


def test_quiet_shows_no_progress(folder: Path, featpipe: Any) -> None:
    done = featpipe("run", folder / "pipeline.yaml", "--quiet")
    assert not done.err
    assert "12 images done" in done.out


def test_the_first_ctrl_c_finishes_what_is_running_and_the_next_run_goes_on(folder: Path) -> None:
    random = np.random.default_rng(0)
    np.save(folder / "many.npy", random.integers(0, 256, (1500, 64, 64), np.uint8))
    command = [
        *PYTHON,
        "run",
        "pipeline.yaml",
        "--set",
        "images.path=many.npy",
        "--set",
        "store.batch=4",
        "--threads",
        "1",
    ]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stderr is not None
        begun = next(line for line in process.stderr if "compiling the kernels, once" not in line)
        assert "1,500 images in 375 tasks" in begun
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    assert "finishing the tasks that are running" in err
    assert out.startswith("Interrupted")
    assert "The same command goes on from here" in out
    assert "Traceback" not in err
    assert package.open(folder / "out.zarr").status == "partial"
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert package.open(folder / "out.zarr").status == "complete"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals")
def test_a_terminal_sees_a_bar(folder: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    command = [*PYTHON, "run", "pipeline.yaml", "--set", "store.batch=1"]
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:
                break
            if not part:
                break
            seen += part
        out, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 0
    assert "━".encode() in seen
    assert b"images/s" in seen
    assert b"\x1b" not in out


def test_a_run_on_a_cluster_gives_the_same_bytes(folder: Path, featpipe: Any) -> None:
    distributed = pytest.importorskip("distributed")
    featpipe("run", folder / "pipeline.yaml", "--set", "store.path=here.zarr")
    with distributed.LocalCluster(
        n_workers=1,
        threads_per_worker=1,
        processes=False,
        protocol="tcp://",
        dashboard_address="127.0.0.1:0",
        memory_limit="2GiB",
    ) as cluster:
        address = cluster.scheduler_address
        command = ["run", "pipeline.yaml", "--scheduler", address, "--set", "store.path=there.zarr"]
        done = subprocess.run(
            [*PYTHON[:1], *PYTHON[3:], *command],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            encoding="utf-8",
        )
        plan = json.loads(featpipe("plan", folder / "pipeline.yaml", "--scheduler", address, "--json").out)
    assert done.returncode == 0, done.stderr
    assert plan["memory"]["threads"] == 1
    assert plan["memory"]["limit"] == int(0.7 * 2**31)
    for one in ("texture/scale1", "edges/full/scale1"):
        here, there = (zarr.open_array(folder / f"{name}.zarr" / one / "features") for name in ("here", "there"))
        np.testing.assert_array_equal(here[...], there[...])


def test_no_cluster_and_no_distributed_are_told_in_words(
    folder: Path, featpipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    done = featpipe("run", folder / "pipeline.yaml", "--scheduler", "tcp://127.0.0.1:1")
    assert done.code == 2
    assert "pip install 'featpipe[distributed]'" in done.err


# -- init, info, banks, ingest -----------------------------------------------------------------------------------------


def test_the_pipeline_that_init_writes_plans_and_runs(folder: Path, featpipe: Any) -> None:
    done = featpipe("init", folder / "new" / "one")
    assert done.code == 0
    assert "featpipe run" in done.out
    place = folder / "new" / "one"
    text = (place / "pipeline.yaml").read_text(encoding="utf-8")
    assert text.count("#") > 10
    (place / "images").rmdir()
    (folder / "images").rename(place / "images")
    assert featpipe("plan", place / "pipeline.yaml").code == 0
    assert featpipe("run", place / "pipeline.yaml").code == 0
    X, y = package.open(place / "features.zarr").xy(split="train")
    assert X.shape == (8, 2 * 2 * (18 + 18 + 1))
    assert set(y) == {0, 1}


def test_init_overwrites_nothing(folder: Path, featpipe: Any) -> None:
    done = featpipe("init", folder)
    assert done.code == 2
    assert "exists already" in done.err
    assert (folder / "pipeline.yaml").read_text(encoding="utf-8") == PIPELINE
    (folder / "file").write_text("")
    assert featpipe("init", folder / "file").code == 2


def test_info_tells_what_a_store_holds(folder: Path, featpipe: Any) -> None:
    featpipe("run", folder / "pipeline.yaml")
    out = featpipe("info", folder / "out.zarr").out
    for words in (
        "complete",
        "12 images",
        "train 8 · test 4",
        "frequency 0.2, 0.3",
        "orientation 0, 90",
        "12×30×30×1",
        "0.1.0",
    ):
        assert words in out
    facts = json.loads(featpipe("info", folder / "out.zarr", "--json").out)
    assert facts["disk_bytes"] == sum(p.stat().st_size for p in (folder / "out.zarr").rglob("*") if p.is_file())
    full = next(one for one in facts["maps"] if one["name"] == "edges/full/scale1")
    assert full["most"] == [12, 30, 30, 1]
    assert full["bytes"] == 12 * 30 * 30 * 4
    assert 0 < full["disk_bytes"] < facts["disk_bytes"]


def test_info_refuses_what_is_no_store(folder: Path, featpipe: Any) -> None:
    for place in ("nowhere.zarr", "images", "pipeline.yaml"):
        done = featpipe("info", folder / place)
        assert done.code == 2
        assert place in done.err


def test_banks_are_listed_and_shown(featpipe: Any) -> None:
    from featpipe.spec.banks import BANKS

    out = featpipe("banks").out
    assert [name for name in BANKS if f"\n{name} " not in out] == []
    assert set(BANKS) < {bank["name"] for bank in json.loads(featpipe("banks", "--json").out)}
    shown = featpipe("banks", "show", "gabor").out
    for words in ("frequencies", "must be given", "- convolve: {bank: gabor", "Daugman"):
        assert words in shown
    wrong = featpipe("banks", "show", "gabr")
    assert wrong.code == 2
    assert "Did you mean gabor" in wrong.err


def test_a_run_on_ingested_images_gives_the_same_features(folder: Path, featpipe: Any) -> None:
    done = featpipe("ingest", folder / "pipeline.yaml", folder / "images.zarr")
    assert done.code == 0
    assert "path: images.zarr" in done.out
    featpipe("run", folder / "pipeline.yaml")
    again = ("--set", "images.path=images.zarr", "--set", "store.path=again.zarr")
    assert featpipe("run", folder / "pipeline.yaml", *again).code == 0
    first, second = (package.open(folder / name).xy(split="train") for name in ("out.zarr", "again.zarr"))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])


@pytest.mark.parametrize("command", ["plan", "run", "ingest"])
def test_links_that_lead_nowhere_or_round_in_circles_are_told_in_words(
    folder: Path, featpipe: Any, command: str
) -> None:
    target = [folder / "in.zarr"] if command == "ingest" else []
    for link, to in (("loop", "loop"), ("gone", "lost")):
        (folder / link).symlink_to(to)
        (folder / "links.yaml").write_text(
            f"images: {{path: {link}}}\nfeatures: {{a: {{layers: [modulus]}}}}\nstore: {{path: o.zarr}}\n"
        )
        done = featpipe(command, folder / "links.yaml", *target)
        assert done.code == 2
        assert f"{link} is a link that leads nowhere, to {to}. Mend the link." in done.err


def test_ingest_overwrites_nothing_and_stays_out_of_the_images(folder: Path, featpipe: Any) -> None:
    (folder / "there.zarr").mkdir()
    for target, words in (
        ("there.zarr", "exists already"),
        ("images/x.zarr", "inside the images"),
        ("x", "end in .zarr"),
    ):
        done = featpipe("ingest", folder / "pipeline.yaml", folder / target)
        assert done.code == 2
        assert words in done.err
    assert not (folder / "images" / "x.zarr").exists()


# -- the program itself ------------------------------------------------------------------------------------------------


def test_help_shows_an_example_of_every_command(featpipe: Any) -> None:
    for command in ((), ("init",), ("plan",), ("run",), ("info",), ("banks",), ("banks", "show"), ("ingest",)):
        done = featpipe(*command, "--help")
        assert done.code == 0
        assert f"Example: featpipe {' '.join(command)}".strip() in " ".join(done.out.split())


def test_the_version_is_told(featpipe: Any) -> None:
    assert featpipe("--version").out == f"featpipe {package.__version__}\n"


@pytest.mark.parametrize(
    "code", ["import featpipe", "from featpipe.cli import app; app(['--help'], standalone_mode=False)"]
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str) -> None:
    heavy = {"numpy", "scipy", "numba", "dask", "distributed", "zarr", "pydantic", "PIL", "imageio", "yaml"}
    code += "; import sys; print('loaded', sorted({name.split('.')[0] for name in sys.modules}))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(eval(out.splitlines()[-1].removeprefix("loaded ")))
    assert not heavy & loaded


def test_a_reader_of_the_output_may_go_away() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as gone:
        done = subprocess.run([*PYTHON, "banks", "--json"], stdout=gone, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0
    assert not done.stderr


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ValueError("odd"), 1, "this is a bug in featpipe: ValueError: odd."),
        (OSError(28, "No space left on device", "/x"), 1, "/x: no space left on device."),
        (MemoryError(), 1, "the memory ran out"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_unexpected_error_is_told_without_a_traceback(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    @guarded
    def command() -> None:
        raise error

    monkeypatch.delenv("FEATPIPE_TRACEBACK", raising=False)
    with pytest.raises(typer.Exit) as stop:
        command()
    err = capsys.readouterr().err
    assert stop.value.exit_code == code
    assert words in err
    assert "Traceback" not in err
    if isinstance(error, ValueError):
        monkeypatch.setenv("FEATPIPE_TRACEBACK", "1")
        with pytest.raises(typer.Exit):
            command()
        assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [("512MB", 512 * 10**6), ("1GiB", 2**30), ("2e9", 2 * 10**9), ("1.5G", 15 * 10**8), ("800 mib", 800 * 2**20)],
)
def test_amounts_of_memory_are_read(text: str, size: int, folder: Path, featpipe: Any) -> None:
    plan = json.loads(featpipe("plan", folder / "pipeline.yaml", "--json", "--memory", text, "--threads", "1").out)
    assert plan["memory"]["limit"] == size


def test_an_interrupted_command_ends_in_one_word(tmp_path: Path) -> None:
    lines = [
        "import asyncio, typer",
        "from featpipe.cli.guard import guarded",
        "loop = asyncio.new_event_loop()",
        "app = typer.Typer()",
        "@app.command()",
        "@guarded",
        "def wait() -> None:",
        "    global task",
        "    task = loop.create_task(asyncio.sleep(9))",
        "    raise KeyboardInterrupt",
        "app()",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")
