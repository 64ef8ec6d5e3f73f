"""The local page's server: what it computes, and whom it refuses."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image

import featpipe
from featpipe.explore.beginning import begin
from featpipe.explore.examples import NAMES, draw
from featpipe.explore.forms import describe_forms
from featpipe.explore.session import Session
from featpipe.explore.subject import open_file
from featpipe.explore.writing import write_pipeline
from featpipe.kernels.catalog import list_banks
from featpipe.spec.layers import OPS
from featpipe.spec.load import parse_pipeline
from featpipe.spec.source import read_yaml

ROOT = Path(__file__).resolve().parents[2]
EDGES = [{"convolve": {"bank": "sobel", "padding": "reflect"}}, "modulus", {"pool": {"max": 2}}]
uvicorn = pytest.importorskip("uvicorn", reason="the extra explore is not installed")
pytest.importorskip("starlette", reason="the extra explore is not installed")
Arrays = list[np.ndarray[Any, Any]]


class Answer(NamedTuple):
    """What the server said."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


class Page:
    """What the page's script would do."""

    def __init__(self, session: Session, port: int) -> None:
        self.session = session
        self.port = port

    def ask(self, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
        """Send a request as it is; paths that do not begin with / belong to the page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.putrequest(
                method, path if path.startswith("/") else f"/secret/{path}", skip_host="host" in headers
            )
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            if isinstance(body, bytes):
                connection.putheader("content-length", str(len(body)))
            elif body is not None:
                connection.putheader("transfer-encoding", "chunked")
            connection.endheaders()
            with contextlib.suppress(ConnectionError):  # a refusal comes before all has been sent
                for piece in [body] if isinstance(body, bytes) else body or ():
                    connection.send(piece if isinstance(body, bytes) else b"%x\r\n%s\r\n" % (len(piece), piece))
                if body is not None and not isinstance(body, bytes):
                    connection.send(b"0\r\n\r\n")
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def post(self, path: str, data: Any) -> Answer:
        return self.ask(path, "POST", data if isinstance(data, bytes) else json.dumps(data).encode())

    def look(self, **wish: Any) -> tuple[dict[str, Any], Arrays]:
        answer = self.post("api/look", wish)
        assert answer.status == 200, answer.content
        return unpack(answer.content)

    def chain(self, layers: list[Any], **wish: Any) -> tuple[dict[str, Any], Arrays]:
        return self.look(data={"images": {"color": "gray"}, "features": {"b": {"layers": layers}}}, **wish)

    def terms(self, key: str, y: int, x: int, feature: int) -> Answer:
        return self.ask(f"api/terms?key={key}&y={y}&x={x}&feature={feature}")

    def upload(self, content: Any, name: str = "a.png") -> Answer:
        return self.ask(f"api/image?name={quote(name)}", "PUT", content)


def unpack(content: bytes) -> tuple[dict[str, Any], Arrays]:
    (length,) = struct.unpack_from("<I", content)
    header, offset, arrays = json.loads(content[4 : 4 + length]), 4 + length, {}
    places = [header["image"]["pixels"]] if header["image"] else []
    places += [panel[kind] for panel in header["panels"] for kind in ("plane", "thumbs", "kernel")]
    for place in sorted((p for p in places if p and "part" in p), key=lambda p: p["part"]):
        array = np.frombuffer(content, place["dtype"], int(np.prod(place["shape"])), offset).reshape(place["shape"])
        offset += -(-array.nbytes // 4) * 4
        arrays[place["part"]] = array
    assert offset == len(content)
    return header, [arrays[i] for i in range(len(arrays))]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    from featpipe.explore.server import listen, make_app, make_server

    start = begin(None, None, tmp_path)
    session = Session(start.subject, start.base, start.shelf)
    with listen(0) as bound:
        port = bound.getsockname()[1]
        app = make_app(session, {"text": start.text, "note": ""}, tmp_path, port, "secret")
        server = make_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        yield Page(session, port)
        server.should_exit = True
        thread.join()


def png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def problems(header: dict[str, Any]) -> list[tuple[Any, str]]:
    return [(one["layer"], one["what"]) for one in header["problems"]]


# -- what it computes -------------------------------------------------------------------------------------------------


def test_every_feature_that_is_shown_is_what_extract_gives(page: Page) -> None:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (60, 83, 3), np.uint8)
    assert page.upload(png(pixels)).json() == {"name": "a.png", "path": "a.png", "kind": "upload"}
    gabor = {"bank": "gabor", "frequencies": [0.2], "orientations": 2, "padding": "same", "stride": [1, 2]}
    layers = [{"convolve": gabor}, "modulus", {"save": "amplitude"}, {"pool": {"max": 3, "stride": 2}}]  # fmt: skip
    data = {"images": {"path": "a.png", "color": "rgb"}, "features": {"t": {"scales": [1, 2], "layers": layers}}}
    for scale in (1, 2):
        for feature in (0, 3):
            header, arrays = page.look(
                data=data, scale=scale, chosen={"0": feature, "1": feature, "2": feature, "3": feature}
            )
            assert header["problems"] == []
            wanted = featpipe.extract(pixels[None], yaml.safe_load(header["text"]))
            last, amplitude = header["panels"][-1], header["panels"][-2]
            assert (last["title"], last["layer"], amplitude["layer"]) == ("pool max 3×3", 3, 1)
            np.testing.assert_array_equal(arrays[last["plane"]["part"]], wanted[f"t/scale{scale}"][0, ..., feature])
            np.testing.assert_array_equal(
                arrays[amplitude["plane"]["part"]], wanted[f"t/amplitude/scale{scale}"][0, ..., feature]
            )


def test_a_change_computes_from_its_layer_on_and_sends_what_is_new(page: Page) -> None:
    header, _ = page.chain(EDGES)
    assert [panel["computed"] for panel in header["panels"]] == [True, True, True]
    have = [
        place["id"]
        for panel in header["panels"]
        for place in (panel["plane"], panel["thumbs"], panel["kernel"] or {"id": ""})
    ]
    have.append(header["image"]["pixels"]["id"])
    changed, arrays = page.chain([*EDGES[:2], {"pool": {"max": 3}}], have=have)
    assert [panel["computed"] for panel in changed["panels"]] == [False, False, True]
    assert len(arrays) == 2
    assert arrays[0].shape == (170, 170)
    other, _ = page.chain([{"convolve": {"bank": "scharr", "padding": "reflect"}}, *EDGES[1:]], have=have)
    assert [panel["computed"] for panel in other["panels"]] == [True, True, True]
    assert not {panel["key"] for panel in other["panels"]} & {panel["key"] for panel in header["panels"]}


def test_maps_that_are_kept_have_a_bound(page: Page) -> None:
    page.session.maps.most = 8 << 20
    for width in range(1, 6):
        header, _ = page.chain([{"convolve": {"bank": "sobel", "padding": width}}, *EDGES[1:]])
        assert header["problems"] == []
    assert page.session.maps.bytes() <= 8 << 20
    assert len(page.session.maps.held) >= 3


def test_thumbnails_are_quantised_over_the_range_that_the_legend_tells(page: Page) -> None:
    header, arrays = page.chain(EDGES)
    panel = header["panels"][0]
    low, high, signed = panel["span"]
    assert signed
    assert low == -high
    thumbs, plane = arrays[panel["thumbs"]["part"]], arrays[panel["plane"]["part"]]
    step = -(-512 // 112)
    some = plane[step // 2 :: step, step // 2 :: step]
    np.testing.assert_allclose(thumbs[0], np.clip((some - low) / (high - low) * 255, 0, 255), atol=0.51)


def test_terms_make_the_value(page: Page) -> None:
    header, arrays = page.chain(EDGES)
    convolve, modulus, pool = header["panels"]
    terms = page.terms(convolve["key"], 268, 201, 1).json()
    value = sum(a * b for a, b in zip(terms["values"], terms["weights"], strict=True))
    assert value == pytest.approx(terms["value"], abs=1e-6)
    assert terms["sum"] == pytest.approx(value)
    assert terms["seen"] == [[267, 270], [200, 203]]
    terms = page.terms(pool["key"], 100, 90, 0).json()
    before = arrays[modulus["plane"]["part"]][200:202, 180:182]
    assert terms["value"] == before.max() == arrays[pool["plane"]["part"]][100, 90]
    assert terms["values"] == before.ravel().tolist()
    assert page.terms(convolve["key"], 512, 0, 0).status == 422
    assert page.terms("gone", 0, 0, 0).status == 422


def test_a_large_image_shows_its_middle(page: Page) -> None:
    rows, columns = np.mgrid[:700, :900]
    assert page.upload(png(((rows + 2 * columns) % 256).astype(np.uint8))).status == 200
    header, arrays = page.chain(EDGES, most=256)
    image = header["image"]
    assert (image["shape"], image["origin"], image["whole"]) == ([256, 256, 1], [222, 322], [700, 900])
    wanted = ((rows + 2 * columns) % 256)[222:478, 322:578]
    np.testing.assert_array_equal(arrays[image["pixels"]["part"]][..., 0], wanted.astype(np.float32) / np.float32(255))


def test_what_is_typed_is_read_as_yaml(page: Page) -> None:
    header, _ = page.chain(
        [{"convolve": {"bank": "gaussian", "sigmas": {"$yaml": "[1, 2e0]"}}}, {"$yaml": "- pool: {max: 2}"}]
    )
    assert header["problems"] == []
    assert header["data"]["features"]["b"]["layers"] == [
        {"convolve": {"bank": "gaussian", "sigmas": [1, 2.0]}},
        {"pool": {"max": 2}},
    ]
    header, _ = page.chain([EDGES[0], {"$yaml": "pool: {max: 2"}])
    assert header["problems"][0]["layer"] == 1
    assert "not valid YAML" in header["problems"][0]["what"]
    assert len(header["panels"]) == 1


@pytest.mark.parametrize("file", sorted((ROOT / "pipelines").glob("*.yaml")), ids=lambda path: path.name)
def test_the_text_of_a_pipeline_reads_back_as_it_was(file: Path) -> None:
    root, _ = read_yaml(file.read_text(encoding="utf-8"), file.name)
    written, found = read_yaml(write_pipeline(root.data()), file.name)
    assert not found
    assert written.data() == root.data()


def test_every_layer_and_bank_has_a_form_whose_example_is_right() -> None:
    forms = describe_forms()["layers"]
    assert set(forms) == set(OPS)
    banks = {variant["title"] for variant in forms["convolve"]["variants"]}
    assert len(forms["convolve"]["variants"]) == len(list_banks())
    assert {"gabor", "random", "kernels written out"} <= banks
    for op, form in forms.items():
        for variant in form["variants"]:
            if ".np" not in str(variant["data"]) and ".safetensors" not in str(variant["data"]):
                layers = [{op: variant["data"]}, {"pool": {"max": 1}}]
                parse_pipeline({"features": {"b": {"layers": layers}}})
            for field in [*variant["fields"], *form["options"]]:
                assert field["kind"] in {
                    "choice", "flag", "number", "integer", "pair", "list", "padding", "over", "kernels", "label", "text"
                }  # fmt: skip


# -- what is wrong ----------------------------------------------------------------------------------------------------


def test_what_is_wrong_is_told_beside_its_layer_and_the_maps_before_it_are_shown(page: Page) -> None:
    cases: list[tuple[Any, int, str]] = [
        ({"convolve": {"bank": "sobol"}}, 0, "there is no bank 'sobol'."),
        ({"pool": {"max": 0}}, 1, "must be at least 1, got 0."),
        ({"pool": {"max": 600}}, 1, "window 600 px exceeds its 512×512 input"),
        ({"reduce": {"over": "sigma"}}, 1, "no feature carries the label 'sigma'."),
        ({"pul": {"max": 2}}, 1, "'pul' is not a layer."),
        ({"convolve": {"bank": {"fit": "kmeans", "kernels": 4}}}, 1, "learns its bank from a collection"),
        ({"convolve": {"bank": {"fit": "random", "kernels": 2000}, "padding": "same"}}, 1, "MiB"),
    ]
    for layer, at, what in cases:
        header, _ = page.chain([layer] if at == 0 else [EDGES[0], layer, {"activate": "relu"}])
        (told, *_) = problems(header)
        assert told[0] == at
        assert what in told[1]
        assert len(header["panels"]) == at


def test_names_of_files_are_shown_as_text_that_neither_acts_nor_reorders(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "a\x9b2J\u202egnp.png"
    file.write_bytes(png(draw(NAMES[0])))
    page.session.subject = open_file(file)
    header, _ = page.look(
        text="images: {path: a.png, size: [9, 9]}\nfeatures: {b: {layers: [{convolve: {bank: \u202eno}}]}}\n"
    )
    shown = [header["image"]["name"], *(str(one["what"]) + str(one["where"]) for one in header["problems"])]
    assert shown[0] == r"a\x9b2J\u202egnp.png"
    assert len(shown) > 1
    assert not re.search("[\x9b\u202e]", "".join(shown))
    assert header["image"]["path"] == str(file)


def test_bad_text_is_told_with_its_place(page: Page) -> None:
    for text, where in (
        ("images: [", "pipeline.yaml:2:1"),
        ("", "pipeline.yaml"),
        ("[1, 2]", "pipeline.yaml:1:1"),
        ("a: &x 1", "pipeline.yaml:1:4"),
    ):
        header, _ = page.look(text=text)
        assert header["panels"] == []
        assert header["problems"][0]["where"].startswith(where)
    text = "images: {color: grey}\nfeatures: {b: {layers: [{convolve: {bank: sobel}}]}}"
    header, _ = page.look(text=text)
    assert len(header["panels"]) == 1
    assert header["problems"][0]["path"] == ["images", "color"]


# -- whom it refuses --------------------------------------------------------------------------------------------------


def test_other_hosts_pages_and_guesses_are_refused(page: Page) -> None:
    def status(path: str = "api/start", method: str = "GET", **headers: str) -> int:
        return page.ask(path, method, **headers).status

    own, port = f"http://127.0.0.1:{page.port}", page.port
    assert status() == status(host=f"localhost:{port}") == status(origin=own) == 200
    for host in (
        "evil.example",
        f"evil.example:{port}",
        "127.0.0.1",
        "127.0.0.1:80",
        f"127.0.0.1:{port}.evil.example",
        "",
    ):
        assert status(host=host) in (400, 421), host
    for origin in (
        "http://evil.example",
        "null",
        f"https://127.0.0.1:{port}",
        f"http://localhost:{port}",
        "http://127.0.0.1:1",
    ):
        assert status(origin=origin) == 403, origin
        assert status("api/look", "POST", origin=origin) == 403, origin
    for site in ("cross-site", "same-site"):
        assert status(sec_fetch_site=site) == 403
        assert status("static/app.js", sec_fetch_site=site) == 403
    for path in (
        "/",
        "/secre/api/start",
        "/secret2/api/start",
        "/api/start",
        "//secret/api/start",
        "/%73ecre/",
        "/Secret/",
    ):
        assert status(path) == 403, path
    assert status("/secret") in (200, 307)


def test_every_answer_forbids_other_sources(page: Page) -> None:
    for path in ("", "static/app.js", "api/start", "nothing", "/"):
        headers = page.ask(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
    page_text = page.ask("").content.decode()
    assert not re.search(r"\son\w+=|<script(?![^>]*src=)|<style|style=", page_text)


def test_files_outside_the_page_are_not_served(page: Page) -> None:
    for path in ("static/../server.py", "static/%2e%2e/server.py", "static/..%2fserver.py", "static//etc/passwd"):
        assert page.ask(path).status in (307, 403, 404), path


def test_uploads_are_limited_and_checked(page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("featpipe.explore.server.MOST_UPLOADED", 1 << 20)
    before = page.session.subject
    assert page.upload(bytes(2 << 20)).status == 413

    def streamed() -> Iterator[bytes]:
        for _ in range(40):
            yield bytes(1 << 16)

    assert page.upload(streamed()).status == 413
    assert page.post("api/look", b" " * (2 << 20)).status == 413
    for content in (b"", b"<svg/>", b"GIF89a", b"%PDF-1.4", b"PK\3\4"):
        answer = page.upload(content, "../../x.png")
        assert answer.status == 422
        assert answer.json()["problems"][0]["where"] == "x.png"
    assert page.session.subject is before
    assert not list(tmp_path.parent.glob("x*"))


def test_a_bomb_is_refused_before_it_is_decoded(page: Page) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 15_000, 15_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(1 << 20)))
        + chunk(b"IEND", b"")
    )
    assert page.upload(bomb).status == 200
    held = psutil.Process().memory_info().rss
    header, _ = page.chain(EDGES)
    assert psutil.Process().memory_info().rss < held + (64 << 20)
    assert header["image"] is None
    assert "15000×15000" in header["problems"][0]["what"]


def test_nonsense_is_answered_in_words(page: Page) -> None:
    for content in (b"", b"[]", b"{", b"[" * 100_000, b'{"chosen": 3}', b'{"scale": "x"}', b'{"first": {"0": null}}'):
        answer = page.post("api/look", content)
        assert answer.status == 400, content[:20]
        assert answer.json()["problems"][0]["what"]
    assert page.ask("api/terms?key=a&y=x").status == 400
    assert page.post("api/example", {"name": "../../etc/passwd"}).status == 422
    for data in (
        {},
        {"features": 3},
        {"features": {"b": 3}},
        {"features": {"b": {"layers": [None]}}},
        {"images": 3},
        {"": {"$yaml": ":"}},
    ):
        header, _ = page.look(data=data)
        assert header["panels"] == []
        assert header["problems"]


def test_examples_can_be_looked_at_and_taken_home(page: Page) -> None:
    for name in NAMES:
        assert page.post("api/example", {"name": name}).json()["kind"] == "example"
        header, _ = page.chain(EDGES)
        assert header["image"]["shape"] == [512, 512, 1]
        pixels = np.asarray(Image.open(io.BytesIO(page.ask("api/image").content)))
        np.testing.assert_array_equal(pixels, draw(name))
    page.upload(png(np.zeros((9, 9), np.uint8)))
    assert page.ask("api/image").status == 404
