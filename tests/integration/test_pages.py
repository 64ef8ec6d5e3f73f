"""``featpipe report`` and ``run --report``: pages of real runs, parsed, checked against NumPy, and rendered."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import featpipe
from featpipe.cli import app
from featpipe.pages.facts import gather_facts
from featpipe.pages.failures import MOST_LOOKED_AT, MOST_NAMES, MOST_REASONS, group_failures
from featpipe.pages.render import open_snippets, render_report
from featpipe.pages.report import make_report
from featpipe.pages.samples import PART_EDGE, image_size
from featpipe.pages.statistics import BINS, map_statistics
from featpipe.report.plan import plan_facts
from featpipe.run import default_resources, plan_run
from featpipe.spec.load import load_pipeline
from featpipe.store.create import create_store
from featpipe.store.history import MOST_RUNS, History
from featpipe.store.place import LocalPlace
from tests.endpoint import Bucket
from tests.unit.probe_examples import write_stack
from tests.unit.store_examples import attributes, make_collection, own_pairs, stacked_pairs

HOSTILE = "x<script>alert(1)<b>&\"'.png"
CLASS = "<i>bee&"
KERNELS = [[[-1, 0, 1]] * 3, [[0, 0, 0]] * 3, [[0, 0, 0], [0, 1, 0], [0, 0, 0]]]
FEATURES: dict[str, Any] = {
    "edges": {
        "scales": [1, 2],
        "layers": [{"convolve": {"kernels": KERNELS, "padding": "reflect"}}, {"pool": {"max": 4}}],
    },
    "all": {"layers": [{"convolve": {"bank": "sobel"}}, "modulus", {"pool": {"mean": "global"}}]},
}
VOID = {"meta", "link", "img", "br", "input", "hr", "path"}


class Done(NamedTuple):
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def run(file: Path, *words: str) -> Done:
    return call("run", file, *words)


def call(*words: str | Path) -> Done:
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err, pytest.raises(SystemExit) as stop:
        app([*map(str, words)], prog_name="featpipe")
    return Done(int(stop.value.code or 0), out.getvalue(), err.getvalue())


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "featpipe", *map(str, words)]


def write_pipeline(folder: Path, images: str, features: dict[str, Any] = FEATURES, **more: Any) -> Path:
    store = {"path": "out.zarr", "batch": 4, **more.pop("store", {})}
    file = folder / "p.yaml"
    file.write_text(json.dumps({"images": {"path": images, **more}, "features": features, "store": store}))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a run has written a store of 25 images, two of them broken, with its report and a probe."""
    folder = tmp_path_factory.mktemp("pages")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for kind in ("ant", CLASS):
            (folder / "images" / split / kind).mkdir(parents=True)
            for i in range(6):
                level = rng.integers(0, 256, (24, 1) if kind == "ant" else (1, 24), np.uint8)
                Image.fromarray(np.tile(level, (24 // level.shape[0], 24 // level.shape[1]))).save(
                    folder / "images" / split / kind / f"{i}.png"
                )
    (folder / "images" / "train" / "ant" / HOSTILE).write_bytes(b"junk")
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(folder / "images" / "train" / "ant" / "small.png")
    done = run(write_pipeline(folder, "images"), "--report", "-q", "--threads", "1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "out.report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Checks a page as it goes through it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.headings: list[int] = []
        self.text: list[str] = []
        self.cells: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)
            if "td" in self.open or "th" in self.open:
                self.cells[-1][-1] += data

    @property
    def words(self) -> str:
        return " ".join("".join(self.text).split())


def test_the_page_is_well_formed_accessible_and_needs_nothing_else(page: str) -> None:
    parsed = Page(page)
    tags = parsed.tags
    assert page.startswith("<!doctype html>")
    assert not [tag for tag, _ in tags if tag in ("script", "iframe", "object", "embed", "form")]
    addresses = [given[key] for _, given in tags for key in ("src", "href") if key in given]
    ids = [given["id"] for _, given in tags if "id" in given]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("data:") or one[1:] in ids for one in addresses)
    assert "url(" not in page
    assert "@import" not in page
    assert all(given.get("alt") for tag, given in tags if tag == "img")
    assert all(given.get("scope") in ("row", "col") for tag, given in tags if tag == "th")
    assert not [name for _, given in tags for name in given if name.startswith("on")]
    assert parsed.headings[0] == 1
    assert all(b - a <= 1 for a, b in zip(parsed.headings, parsed.headings[1:], strict=False))
    assert ("html", {"lang": "en"}) in tags


def test_names_are_shown_as_they_are_and_never_become_markup(page: str) -> None:
    assert "<script" not in page
    parsed = Page(page)
    assert not [tag for tag, _ in parsed.tags if tag == "i" and _ == {}]
    assert f"train/ant/{HOSTILE}" in parsed.words
    assert CLASS in parsed.words


def test_it_tells_what_ran_and_what_failed(folder: Path, page: str) -> None:
    words = Page(page).words
    assert "26 images, 2 failed" in words
    assert "train 14 · test 12" in words
    assert "1 image: not a JPEG, PNG, TIFF, BMP or WebP image" in words
    assert "complete" in words
    for layer in plan_facts(plan_of(folder))["branches"][0]["layers"]:
        assert layer["layer"] in words
    facts = gather_facts(str(folder / "out.zarr"))
    (one,) = facts.runs
    assert one.status == "complete"
    assert (one.tasks, one.tasks_planned, one.resumed, one.failed) == (7, 7, 0, 2)
    assert [phase.name for phase in one.phases] == ["read", "compute", "write"]
    assert all(phase.seconds > 0 and phase.rate for phase in one.phases)
    assert sum(phase.share for phase in one.phases) == pytest.approx(1)
    assert one.bytes_written == sum(featpipe.open(folder / "out.zarr")[name].nbytes for name in facts.stacked)


def plan_of(folder: Path) -> Any:
    return plan_run(load_pipeline(folder / "p.yaml")[0], default_resources(1 << 30, 1))


def test_pictures_are_of_what_the_store_holds(folder: Path) -> None:
    facts = gather_facts(str(folder / "out.zarr"))
    assert [image.of for image in facts.samples.images] == [CLASS, "ant"]
    assert all(image.picture for image in facts.samples.images)
    edges = next(one for one in facts.samples.maps if one.name == "edges/scale1")
    assert edges.shape == (6, 6, 3)
    assert len(edges.features) == 3
    pooled = next(one for one in facts.samples.maps if one.name == "all/scale1")
    stack = featpipe.open(folder / "out.zarr")
    shown = [stack["all/scale1"][image.row].reshape(-1) for image in facts.samples.images]
    np.testing.assert_allclose(pooled.bars, shown)
    broken = {reason.text: reason.looked_at[0] for reason in facts.failures.reasons}
    assert not broken["not a JPEG, PNG, TIFF, BMP or WebP image"].picture
    assert next(one for text, one in broken.items() if "2×2" in text).picture.startswith("data:image/png")


def test_statistics_are_numpys(folder: Path) -> None:
    stack = featpipe.open(folder / "out.zarr")
    for name in stack.maps:
        values = np.asarray(stack[name])[stack.ok].reshape(-1, stack[name].shape[-1]).astype(np.float64)
        for i, one in enumerate(map_statistics(stack, name).features):
            feature = values[:, i]
            assert (one.count, one.nonfinite, one.saturated) == (len(feature), 0, "")
            found = (one.least, one.mean, one.std, one.most, one.zeros)
            wanted = (feature.min(), feature.mean(), feature.std(), feature.max(), (feature == 0).mean())
            assert found == pytest.approx(wanted, rel=1e-9, abs=1e-12)
            if feature.std() > 0:
                assert one.histogram == tuple(np.histogram(feature, BINS)[0])


def test_a_dead_feature_is_flagged_and_others_are_not(folder: Path, page: str) -> None:
    found = map_statistics(featpipe.open(folder / "out.zarr"), "edges/scale1").features
    assert [one.dead for one in found] == ["", "always 0", ""]
    rows = [row for row in Page(page).cells if any("dead always 0" in " ".join(cell.split()) for cell in row)]
    assert len(rows) == 2  # a scale each


def test_saturated_features_are_flagged_with_what_shows_it(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(500, 1, 1, 5)).astype(np.float32)
    values[:, 0, 0, 1] = 0
    values[:3, 0, 0, 1] = 2  # 99.4 % zeros
    values[:, 0, 0, 2] = np.where(np.arange(500) < 6, 0, 1)  # 98.8 % ones
    values[7, 0, 0, 3] = np.nan
    values[:, 0, 0, 4] = 3.5
    write_stack(tmp_path / "a.zarr", {"m/scale1": values}, [0] * 500, [0] * 500, failed=[4])
    stack = featpipe.open(tmp_path / "a.zarr")
    found = map_statistics(stack, "m/scale1").features
    assert [bool(one.saturated) for one in found] == [False, True, False, True, False]
    assert found[1].saturated == "99.4 % of its values are its least, 0"
    assert found[3].saturated == "1 values are NaN or infinite"
    assert [one.dead for one in found] == ["", "", "", "", "always 3.5"]
    assert found[3].mean == pytest.approx(np.delete(values[:, 0, 0, 3], [4, 7]).mean(dtype=np.float64))


def test_a_feature_at_the_largest_half_is_saturated(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    images[1, 2, 3] = 65504
    np.save(tmp_path / "i.npy", images)
    identity = {"a": {"layers": [{"convolve": {"bank": "identity"}}]}}
    run(write_pipeline(tmp_path, "i.npy", identity, store={"dtype": "float16"}), "-q")
    (one,) = map_statistics(featpipe.open(tmp_path / "out.zarr"), "a/scale1").features
    assert one.saturated == "reaches 65504, the largest number of its type"


def test_many_values_are_sampled_the_same_way_every_time(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4000, 1, 1, 600)).astype(np.float32)
    write_stack(tmp_path / "a.zarr", {"m/scale1": values}, [0] * 4000, [0] * 4000)
    stack = featpipe.open(tmp_path / "a.zarr")
    first, again, other = (map_statistics(stack, "m/scale1", most_values=1_300_000, seed=seed) for seed in (0, 0, 1))
    assert first == again
    whole = map_statistics(stack, "m/scale1")
    assert not whole.sampled
    flat = values.reshape(4000, 600).astype(np.float64)
    np.testing.assert_allclose([one.std for one in whole.features], flat.std(axis=0), rtol=1e-12)
    np.testing.assert_allclose([one.mean for one in whole.features], flat.mean(axis=0), atol=1e-15)
    assert whole.features[5].histogram == tuple(np.histogram(flat[:, 5], BINS)[0])
    assert first != other
    assert first.values < first.of == values.size
    assert "pieces of the map, drawn at random" in first.sampled
    assert "Decided by" in render_report(gather_facts(str(tmp_path / "a.zarr"), most_values=1_300_000))


def test_a_killed_run_is_told_with_those_that_went_on(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.random.default_rng(0).integers(0, 256, (120, 128, 128), np.uint8))
    heavy = {"a": {"layers": [{"convolve": {"kernels": np.ones((9, 25, 25)).tolist()}}, {"pool": {"max": 4}}]}}
    file, beside = write_pipeline(tmp_path, "i.npy", heavy), tmp_path / "out.zarr.run"
    child = subprocess.Popen(command("run", file, "-q", "--threads", "1"), stderr=subprocess.DEVNULL)
    wait_for(lambda: sum(one.read_text().count('"map"') for one in beside.glob("receipts-*")) >= 3)
    os.kill(child.pid, signal.SIGSTOP)
    (going,) = gather_facts(str(tmp_path / "out.zarr")).runs
    child.kill()
    child.wait()
    facts = gather_facts(str(tmp_path / "out.zarr"))
    assert (going.status, facts.runs[0].status) == ("running", "killed")
    assert facts.standing is not None
    assert 3 <= facts.standing.done < facts.standing.planned == 30
    assert facts.samples.images
    assert 0 < facts.statistics[0].values < facts.statistics[0].of
    words = Page(render_report(facts)).words
    assert f"{facts.standing.done} of 30 shards are there" in words
    assert "featpipe run PIPELINE.yaml" in words
    assert run(file, "-q").returncode == 0
    killed, last = gather_facts(str(tmp_path / "out.zarr")).runs
    assert killed.tasks == last.resumed == facts.standing.done
    assert (last.status, last.tasks) == ("complete", 30 - last.resumed)


def wait_for(happened: Any) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_run_that_fails_writes_its_report_and_keeps_its_exit_code(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    file = write_pipeline(tmp_path, "images", size=[24, 24], fit="error", color="gray")
    done = run(file, "--max-failures", "1", "--report-to", str(tmp_path / "deep.html"))
    assert done.returncode == 1, done.stderr
    assert f"featpipe: wrote {tmp_path / 'deep.html'}" in done.stderr
    words = Page((tmp_path / "deep.html").read_text()).words
    assert "2 of 26 images failed, and 1 may" in words
    assert "partial" in words


def test_an_interrupted_run_writes_its_report(tmp_path: Path) -> None:
    np.save(tmp_path / "i.npy", np.random.default_rng(0).integers(0, 256, (400, 128, 128), np.uint8))
    heavy = {"a": {"layers": [{"convolve": {"kernels": np.ones((9, 25, 25)).tolist()}}, {"pool": {"max": 4}}]}}
    words = command("run", write_pipeline(tmp_path, "i.npy", heavy), "-q", "--threads", "1", "--report")
    child = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    beside = tmp_path / "out.zarr.run"
    wait_for(lambda: any('"map"' in one.read_text() for one in beside.glob("receipts-*")))
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130, child.communicate()
    child.communicate()
    (one,) = gather_facts(str(tmp_path / "out.zarr")).runs
    assert one.status == "interrupted"
    assert one.tasks
    assert "interrupted" in Page((tmp_path / "out.report.html").read_text()).words


def test_a_report_that_cannot_be_written_never_fails_a_run(tmp_path: Path, folder: Path) -> None:
    file = write_pipeline(tmp_path, str(folder / "images"))
    (tmp_path / "out.report.html").mkdir()
    done = run(file, "-q", "--report")
    assert done.returncode == 0
    assert "featpipe: no report: " in done.stderr
    (tmp_path / "foreign.zarr").mkdir()
    (tmp_path / "foreign.zarr" / "mine.txt").touch()
    refused = run(file, "-q", "--report", "--set", f"store.path={tmp_path / 'foreign.zarr'}")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    wrong = run(file, "--overwrite", "--report-to", str(tmp_path / "page.pdf"))
    assert wrong.returncode == 2
    assert "page.pdf: is not the name of a page. End it in .html." in wrong.stderr


def test_the_confusion_matrix_is_the_probes_and_goes_stale(tmp_path: Path, folder: Path) -> None:
    pytest.importorskip("scipy")
    shutil.copytree(folder / "images", tmp_path / "images")
    file, store = write_pipeline(tmp_path, "images"), tmp_path / "out.zarr"
    run(file, "-q")
    found = json.loads(call("probe", store, "-q", "--json").stdout)
    facts = gather_facts(str(store))
    (kept,) = facts.probes
    assert kept.found == found
    assert not kept.stale
    table = [row for row in Page(render_report(facts)).cells if row and row[0] in found["classes"] and len(row) == 4]
    assert [[int(cell) for cell in row[1:-1]] for row in table] == found["confusion"]
    Image.fromarray(np.full((24, 24), 77, np.uint8)).save(tmp_path / "images" / "train" / "ant" / "new.png")
    run(file, "-q")
    assert gather_facts(str(store)).probes[0].stale


def test_images_that_have_moved_leave_a_report_without_thumbnails(tmp_path: Path, folder: Path) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    run(write_pipeline(tmp_path, "images"), "-q")
    (tmp_path / "images").rename(tmp_path / "elsewhere")
    done = call("report", tmp_path / "out.zarr")
    assert (done.returncode, done.stdout) == (0, f"wrote {tmp_path / 'out.report.html'}\n")
    words = Page((tmp_path / "out.report.html").read_text()).words
    assert "Thumbnails of the images are not available: images.path: no such file or directory" in words
    assert "Response of kernels" in (tmp_path / "out.report.html").read_text()


def test_no_pictures_leaves_the_images_out_and_the_responses_in(folder: Path) -> None:
    page = make_report(str(folder / "out.zarr"), pictures=False)
    assert 'alt="Image' not in page
    assert 'alt="Response' in page


def test_of_a_large_image_the_middle_is_shown_with_its_responses(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 2560, 2304), np.uint8)
    np.save(tmp_path / "i.npy", image)
    same = np.zeros((1, 9, 9))
    same[0, 4, 4] = 1
    layers = [{"convolve": {"kernels": same.tolist()}}]  # the first response is to row 4 and column 4
    run(write_pipeline(tmp_path, "i.npy", {"a": {"layers": layers}}, store={"block": [1024, 1024]}), "-q")
    from featpipe.pages.samples import _member, _part

    stack = featpipe.open(tmp_path / "out.zarr")
    part = _part(image_size(stack, 0))
    assert part is not None
    assert [span.length for span in part] == [PART_EDGE, PART_EDGE]
    member = _member(stack, "a/scale1", 0)
    assert member is not None
    (y, x) = (slice(part[axis].start, part[axis].stop) for axis in (0, 1))
    np.testing.assert_array_equal(member.read(part, [0])[..., 0], image[0, y, x] / np.float32(255))
    (shown,) = gather_facts(str(tmp_path / "out.zarr")).samples.images
    assert (shown.part, shown.why) == ("the middle 512×512 of 2560×2304 pixels", "")


def test_ten_thousand_failures_are_grouped_and_counted() -> None:
    paths = [f"{i}.png" for i in range(12_000)]
    why = [f"{i}.png: is {i} pixels wide" if i % 2 else f"{i}.png: no {'x' * (i % 40)} file" for i in range(10_000)]
    found = group_failures(dict(enumerate(why)), paths, None)
    assert found.count == 10_000
    assert (found.reasons[0].count, found.reasons[0].alike) == (5000, True)
    assert len(found.reasons) == MOST_REASONS
    assert max(len(reason.names) for reason in found.reasons) <= MOST_NAMES
    assert all(len(reason.looked_at) <= MOST_LOOKED_AT for reason in found.reasons)
    assert sum(reason.count for reason in found.reasons) + found.more_images == 10_000
    assert found.reasons[0].more == 5000 - MOST_NAMES


def test_what_the_page_says_opens_the_store_does(folder: Path) -> None:
    pytest.importorskip("xarray")
    facts = gather_facts(str(folder / "out.zarr"))
    stack = featpipe.open(folder / "out.zarr")
    for name, lines in open_snippets(facts):
        there: dict[str, Any] = {}
        exec(lines, there)
        key = "features" if name == "zarr" else "values"
        np.testing.assert_array_equal(np.asarray(there[key]), np.asarray(stack[facts.opened]))
        if name == "featpipe":
            np.testing.assert_array_equal(there["X"], stack.xy(split="train")[0])


def test_a_store_made_anew_has_a_history_of_its_own_and_old_runs_are_forgotten(tmp_path: Path, folder: Path) -> None:
    file = write_pipeline(tmp_path, str(folder / "images"))
    run(file, "-q")
    run(file, "-q", "--retry-failed")
    history = History(LocalPlace(tmp_path / "out.zarr"))
    assert [one["retry_failed"] for one in history.runs()] == [False, True]
    for _ in range(MOST_RUNS):
        history.begin("token", {"images": 1}, {}, fresh=False)
    assert len(history.runs()) == MOST_RUNS
    shutil.rmtree(tmp_path / "out.zarr")
    run(file, "-q")
    assert [one["status"] for one in history.runs()] == ["complete"]


def test_a_store_in_a_bucket_has_its_history_and_its_report(tmp_path: Path, folder: Path, bucket: Bucket) -> None:
    store = {"path": f"{bucket.url}/deep/a.zarr"}
    file = write_pipeline(tmp_path, str(folder / "images"), {"all": FEATURES["all"]}, store=store)
    for words in ((), ("--retry-failed",)):
        assert run(file, "-q", *words).returncode == 0
    facts = gather_facts(store["path"])
    assert [one.options for one in facts.runs] == [(), ("--retry-failed",)]
    assert facts.samples.images[0].picture
    assert f'obstore.store.from_url("{store["path"]}")' in dict(open_snippets(facts))["zarr"]


def test_browsers_show_it_without_errors_requests_or_overflow(folder: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    address = (folder / "out.report.html").as_uri()
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        backgrounds = []
        for scheme, width in (("light", 1200), ("dark", 390)):
            tab = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
            said: list[str] = []
            asked: list[str] = []
            tab.on("console", lambda message, said=said: said.append(message.text))
            tab.on("pageerror", lambda error, said=said: said.append(str(error)))
            tab.on("request", lambda request, asked=asked: asked.append(request.url))
            tab.goto(address)
            assert said == []
            assert [url for url in asked if not url.startswith("data:")] == [address]
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
            backgrounds.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        browser.close()
    assert len(set(backgrounds)) == 2


def test_a_store_in_which_nothing_is_yet_has_a_page_that_says_so(tmp_path: Path) -> None:
    create_store(LocalPlace(tmp_path / "a.zarr"), [*stacked_pairs(), *own_pairs()], make_collection(), attributes())
    words = Page(make_report(str(tmp_path / "a.zarr"))).words
    assert "partial" in words
    assert "No image has features yet." in words
    assert words.count("Nothing of it is there yet.") == 3
    assert "No run of this store is on record" in words
