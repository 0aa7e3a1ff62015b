"""Opening brains and images that are no folder of ours: zip files, addresses, other programs'."""

from __future__ import annotations

import json
import shutil
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import zarr
from napari.utils.notifications import notification_manager
from ome_zarr.io import parse_url
from ome_zarr.writer import write_image, write_labels
from qtpy.QtCore import Qt

from brain.regions import write_multiscale
from napari_teramind.brain import BrainStore, foundation, open_brain
from napari_teramind.brain.foundation import open_root
from napari_teramind.brain.result import ResultWriter
from napari_teramind.errors import UserError
from napari_teramind.plugin import remote
from napari_teramind.plugin.omezarr import image_layers
from napari_teramind.plugin.reader import get_reader
from napari_teramind.plugin.spatialdata import spatialdata_layers
from napari_teramind.plugin.stores import store_layers
from napari_teramind.widgets.brain import BrainWidget

LONG = 30_000
DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def zipped(tiny_brain: BrainStore, tmp_path: Path) -> Path:
    path = tmp_path / "tiny.zarr.zip"
    root = Path(tiny_brain.path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        for file in sorted(root.rglob("*")):
            if file.is_file():
                packed.write(file, file.relative_to(root))
    return path


class Counting(SimpleHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012
    parts = True
    stalled = False
    stalls: list[str] = []  # noqa: RUF012

    def do_GET(self) -> None:
        """Send a file, or the part of it that was asked for."""
        if self.stalled:
            self.stalls.append(self.path)
            time.sleep(5)
        self.asked.append(self.path)
        wanted, file = self.headers.get("Range"), Path(self.translate_path(self.path))
        if wanted is None or not self.parts or not file.is_file():
            super().do_GET()
            return
        data = file.read_bytes()
        first, last = wanted.removeprefix("bytes=").split("-")
        start = int(first) if first else len(data) - int(last)
        stop = min(len(data), int(last) + 1) if first and last else len(data)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(data[start:stop])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def served(tiny_brain: BrainStore, tmp_path: Path):
    shutil.copytree(tiny_brain.path, tmp_path / "www" / "brain.zarr")
    Counting.asked.clear()
    handler = partial(Counting, directory=str(tmp_path / "www"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def panel(make_napari_viewer) -> BrainWidget:
    viewer = make_napari_viewer(show=True)
    _, panel = viewer.window.add_plugin_dock_widget("napari-teramind", "Brain")
    return panel


def layers_at(path: Path) -> list:
    return image_layers(open_root(str(path)), str(path))


def open_by_typing(panel: BrainWidget, qtbot, text: str) -> None:
    field = panel.empty.opening if panel.session.brain is None else panel.opening
    qtbot.keyClicks(field.address, text)
    qtbot.keyClick(field.address, Qt.Key.Key_Return)
    qtbot.waitUntil(field.button.isEnabled, timeout=LONG)


def test_a_zipped_brain_is_read_and_not_written(zipped: Path, tiny_arrays):
    stains, genes, _ = tiny_arrays
    assert get_reader(str(zipped)) is not None
    brain = open_brain(zipped)
    np.testing.assert_array_equal(brain.read_stains((0, 256, 0, 384), (0, 4)), stains)
    np.testing.assert_array_equal(brain.read_genes((0, 16, 0, 24), (0, 4)), genes)
    assert brain.table("gene_totals")["total"].sum() == genes.sum()
    with pytest.raises(UserError, match="unpack it first"):
        ResultWriter.create(brain, "a", (0, 64, 0, 64), (0, 2), {})


def test_what_is_no_zipped_brain_is_told(tmp_path: Path):
    broken = tmp_path / "a.zarr.zip"
    broken.write_bytes(b"PK nothing")
    assert get_reader(str(broken)) is None
    with pytest.raises(UserError, match="no zip file of a Zarr group"):
        open_brain(broken)


def test_a_zipped_brain_in_the_panel(panel, zipped, qtbot):
    open_by_typing(panel, qtbot, str(zipped))
    viewer = panel.session.viewer
    assert "DAPI" in viewer.layers
    qtbot.keyClicks(panel.gene, "Pvalb")
    qtbot.keyClick(panel.gene, Qt.Key.Key_Return)
    assert "Pvalb" in viewer.layers
    _, simulate = viewer.window.add_plugin_dock_widget("napari-teramind", "Simulate")
    assert "cannot be written into" in simulate.problem()


def test_a_brain_elsewhere_reads_only_what_is_looked_at(served, panel, qtbot):
    address = f"http://127.0.0.1:{served.server_address[1]}/brain.zarr"
    open_by_typing(panel, qtbot, address)
    viewer = panel.session.viewer
    assert "PolyT" in viewer.layers
    asked = [path for path in Counting.asked if "/c/" in path]
    everything = sum(
        1
        for file in Path(served.RequestHandlerClass.keywords["directory"]).rglob("c/**/*")
        if file.is_file()
    )
    assert 0 < len(set(asked)) < everything / 2
    before = len(Counting.asked)
    qtbot.keyClicks(panel.gene, "Pvalb")
    qtbot.keyClick(panel.gene, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "Pvalb" in viewer.layers, timeout=LONG)
    assert any("genes" in path for path in Counting.asked[before:])
    assert not any("stains/0/" in path for path in Counting.asked[before:])


def test_a_server_that_cannot_send_parts_is_told(served, panel, qtbot, monkeypatch):
    monkeypatch.setattr(Counting, "parts", False)
    address = f"http://127.0.0.1:{served.server_address[1]}/brain.zarr"
    open_by_typing(panel, qtbot, address)
    assert "that the server can send parts of files" in notification_manager.records[-1].message


def test_an_address_without_anything_is_told(served, panel, qtbot):
    open_by_typing(panel, qtbot, f"http://127.0.0.1:{served.server_address[1]}/nothing.zarr")
    assert "no brain that can be read" in notification_manager.records[-1].message
    assert len(panel.session.viewer.layers) == 0


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_of_ome_zarr_py(panel, tmp_path: Path, qtbot, version: str):
    from ome_zarr.format import FormatV04, FormatV05

    fmt = FormatV04() if version == "0.4" else FormatV05()
    path = tmp_path / "theirs.ome.zarr"
    rng = np.random.default_rng(1)
    data = rng.integers(0, 255, (2, 3, 64, 96), np.uint8)
    store = parse_url(path, mode="w", fmt=fmt).store
    group = zarr.group(store=store, zarr_format=2 if version == "0.4" else 3)
    write_image(
        data, group, axes=[{"name": "c", "type": "channel"}, *(
            {"name": name, "type": "space", "unit": "micrometer"} for name in "zyx")],
        fmt=fmt,
        scale={"c": 1, "z": 10, "y": 0.5, "x": 0.5},
    )  # fmt: skip
    labels = (data[0] > 100).astype(np.int32)
    write_labels(
        labels, group, name="cells", axes=[
            {"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"],
        fmt=fmt,
        scale={"z": 10, "y": 0.5, "x": 0.5},
    )  # fmt: skip
    open_by_typing(panel, qtbot, str(path))
    layers = panel.session.viewer.layers
    assert len(layers) == 2
    np.testing.assert_array_equal(np.asarray(layers[1].data[0]), data[1])
    np.testing.assert_allclose(layers[0].scale, (10, 0.5, 0.5))
    assert [str(unit) for unit in layers[0].units] == ["micrometer"] * 3
    ((values, meta, kind),) = layers_at(path / "labels" / "cells")
    assert kind == "labels"
    np.testing.assert_array_equal(np.asarray(values[0]), labels)
    assert meta["scale"] == [10, 0.5, 0.5]


def test_of_many_channels_the_first_are_shown_and_the_others_told_of(panel, tmp_path, qtbot):
    path = tmp_path / "panel.ome.zarr"
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    write_image(np.arange(20 * 64 * 64).reshape(20, 64, 64), group, axes="cyx")
    open_by_typing(panel, qtbot, str(path))
    assert len(panel.session.viewer.layers) == 16
    told = [n.message for n in notification_manager.records]
    assert any(f"{path} has 20 channels; the first 16 are shown." in text for text in told)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_images_of_ngff_zarr(tmp_path: Path, version: str):
    import ngff_zarr

    data = np.random.default_rng(2).integers(0, 999, (2, 3, 64, 96)).astype(np.uint16)
    image = ngff_zarr.to_ngff_image(
        data, dims=["c", "z", "y", "x"], scale={"c": 1, "z": 4, "y": 0.2, "x": 0.2},
        axes_units={"z": "micrometer", "y": "micrometer", "x": "micrometer"},
    )  # fmt: skip
    path = tmp_path / "theirs.ome.zarr"
    ngff_zarr.to_ngff_zarr(
        str(path), ngff_zarr.to_multiscales(image, scale_factors=[2]), version=version
    )
    layers = layers_at(path)
    assert len(layers) == 2
    values, meta, kind = layers[1]
    assert (kind, meta["multiscale"]) == ("image", True)
    assert meta["scale"] == pytest.approx([4, 0.2, 0.2])
    np.testing.assert_array_equal(np.asarray(values[0]), data[1])


def lost() -> list[str]:
    return [n.message for n in notification_manager.records if "was lost" in n.message]


def pixels_in_view(panel: BrainWidget) -> np.ndarray:
    """What napari has read of DAPI for the canvas."""
    layer = panel.session.layers("stain")[0]
    return np.asarray(layer.data[int(panel.session.viewer.dims.current_step[0])])


def test_a_dropped_connection_is_told_once_and_reading_goes_on_when_it_is_back(
    panel, served, qtbot, tiny_brain: BrainStore, monkeypatch
):
    monkeypatch.setattr(remote, "REST_SECONDS", 0.5)
    port = served.server_address[1]
    open_by_typing(panel, qtbot, f"http://127.0.0.1:{port}/brain.zarr")
    viewer = panel.session.viewer
    qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=LONG)
    before = len(lost())
    served.shutdown()
    served.server_close()
    for z in (2, 3, 1):
        viewer.dims.set_current_step(0, z)
        qtbot.wait(50)
    assert len(lost()) == before + 1
    assert f"http://127.0.0.1:{port}/brain.zarr" in lost()[-1]
    assert not pixels_in_view(panel).any()  # dark, and the window lives

    handler = served.RequestHandlerClass
    back = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=back.serve_forever, daemon=True).start()
    try:
        qtbot.wait(600)
        viewer.dims.set_current_step(0, 3)
        np.testing.assert_array_equal(
            pixels_in_view(panel), np.asarray(tiny_brain.stains.levels[0])[0, 3]
        )
        assert len(lost()) == before + 1
    finally:
        back.shutdown()
        back.server_close()
    qtbot.wait(600)
    viewer.dims.set_current_step(0, 0)
    viewer.layers["PolyT"].refresh()
    assert len(lost()) == before + 2


def test_a_damaged_part_is_told_as_such_and_the_rest_is_read(panel, served, qtbot, tmp_path):
    port = served.server_address[1]
    open_by_typing(panel, qtbot, f"http://127.0.0.1:{port}/brain.zarr")
    viewer = panel.session.viewer
    qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=LONG)
    rng = np.random.default_rng(0)
    for file in (tmp_path / "www" / "brain.zarr" / "stains").glob("*/c/**/*"):
        if file.is_file():
            file.write_bytes(rng.bytes(file.stat().st_size))
    before, told = len(lost()), len(notification_manager.records)
    for z in (2, 3, 1):
        viewer.dims.set_current_step(0, z)
    messages = [record.message for record in notification_manager.records[told:]]
    assert len(messages) == 1
    assert "is damaged" in messages[0]
    assert "/brain.zarr/stains" in messages[0]
    assert len(lost()) == before
    assert not pixels_in_view(panel).any()
    structures = viewer.layers["structures"]
    assert np.asarray(structures.data[0]).any()


def test_what_is_read_beside_the_window_is_an_error_and_not_dark(panel, served, qtbot):
    port = served.server_address[1]
    open_by_typing(panel, qtbot, f"http://127.0.0.1:{port}/brain.zarr")
    viewer = panel.session.viewer
    qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=LONG)
    served.shutdown()
    served.server_close()
    qtbot.mouseClick(panel.field.button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "could not be read" in panel.field.words.text(), timeout=LONG)
    assert viewer.dims.ndisplay == 2


def test_a_server_that_does_not_answer_is_left_in_peace(panel, served, qtbot, monkeypatch):
    """A stall holds the window once, not for every layer and every move."""
    port = served.server_address[1]
    monkeypatch.setattr(
        foundation, "PATIENCE", {"total": 2.0, "sock_connect": 1.0, "sock_read": 1.0}
    )
    open_by_typing(panel, qtbot, f"http://127.0.0.1:{port}/brain.zarr")
    viewer = panel.session.viewer
    qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=LONG)
    Counting.stalls.clear()
    Counting.stalled = True
    try:
        for z in (2, 3, 1, 0):
            viewer.dims.set_current_step(0, z)
        assert len([path for path in Counting.stalls if "/c/" in path]) == 1
        assert not pixels_in_view(panel).any()
    finally:
        Counting.stalled = False


def test_errors_of_this_computer_are_not_hidden(brain_copy: Path):
    from napari_teramind.plugin.layers import stain_layers

    for shard in (brain_copy / "stains" / "0" / "c").rglob("*"):
        if shard.is_file():
            shard.write_bytes(b"spoiled")
    data, _, _ = stain_layers(open_brain(brain_copy))[0]
    with pytest.raises(Exception, match=r"(?i)shard|checksum|crc|index|buffer|byte"):
        np.asarray(data[0])


@pytest.fixture
def spatial(tmp_path: Path) -> Path:
    """A store that spatialdata 0.7.3 wrote; see tests/data/make_spatialdata.py."""
    path = tmp_path / "sd.zarr"
    with zipfile.ZipFile(DATA / "spatialdata.zip") as packed:
        packed.extractall(path)
    return path


def test_a_spatialdata_store_opens_with_every_image_where_it_lies(panel, spatial, qtbot):
    open_by_typing(panel, qtbot, str(spatial))
    layers = panel.session.viewer.layers
    qtbot.waitUntil(lambda: len(layers) == 5, timeout=LONG)
    assert {"DAPI", "PolyT", "cells"} <= {layer.name for layer in layers}
    lies = json.loads((DATA / "spatialdata.json").read_text())["lies"]
    by_element = {Path(layer.metadata["path"]).name: layer for layer in layers}
    assert set(by_element) == set(lies)
    for name, matrix in lies.items():
        layer = by_element[name]
        pixel = np.arange(3.0, 3.0 + layer.ndim)
        wanted = np.asarray(matrix) @ [*(pixel + 0.5), 1]
        np.testing.assert_allclose(layer.data_to_world(tuple(pixel)), wanted[:-1], atol=1e-9)
    rng = np.random.default_rng(0)
    stain = rng.integers(0, 255, (2, 64, 96)).astype(np.uint8)
    np.testing.assert_array_equal(np.asarray(by_element["stain"].data[0]), stain[1])
    assert by_element["stain"].multiscale
    np.testing.assert_array_equal(np.asarray(by_element["cells"].data), stain[0] > 128)
    told = [n.message for n in notification_manager.records]
    assert any("also has points (1) and tables (1)" in text for text in told)


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        ({"type": "mapAxis"}, "a transformation 'mapAxis'"),
        ({"type": "identity", "input": {"axes": [{"name": "x"}, {"name": "y"}]}}, "axes x, y"),
    ],
)
def test_a_place_that_cannot_be_shown_is_told(spatial: Path, step: dict, problem: str):
    file = spatial / "labels" / "cells" / "zarr.json"
    values = json.loads(file.read_text())
    values["attributes"]["ome"]["multiscales"][0]["coordinateTransformations"] = [step]
    file.write_text(json.dumps(values))
    root = zarr.open_group(str(spatial), mode="r", use_consolidated=False)
    layers, words = spatialdata_layers(root, str(spatial))
    assert problem in words
    assert "labels/cells" in words
    assert {meta["name"] for _, meta, _ in layers} >= {"DAPI", "PolyT"}  # the rest is shown
    with pytest.raises(UserError, match=problem):
        store_layers(str(spatial / "labels" / "cells"))


def test_an_element_of_spatialdata_opens_by_its_own_path_where_it_lies(spatial: Path):
    lies = json.loads((DATA / "spatialdata.json").read_text())["lies"]
    whole, _ = spatialdata_layers(zarr.open_group(str(spatial), mode="r"), str(spatial))
    for name in lies:
        (folder,) = spatial.glob(f"*/{name}")
        layers, words = store_layers(str(folder))
        assert words == ""
        expected = [meta for _, meta, _ in whole if Path(meta["metadata"]["path"]).name == name]
        assert len(layers) == len(expected)
        for (_, meta, _), other in zip(layers, expected, strict=True):
            np.testing.assert_array_equal(meta["affine"], other["affine"])


def test_a_series_of_images_shows_its_first_and_tells_of_the_next(tmp_path: Path):
    """As bioformats2raw writes them."""
    root = zarr.create_group(str(tmp_path / "slide.zarr"))
    root.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    for i in (0, 1, 10):
        write_multiscale(
            tmp_path / "slide.zarr" / str(i),
            np.full((1, 2, 32, 32), i + 1, np.uint16),
            "czyx",
            scale={"z": 2.0, "y": 0.5, "x": 0.5},
        )
    root.create_group("OME")
    layers, words = store_layers(str(tmp_path / "slide.zarr"))
    assert len(layers) == 1
    assert np.asarray(layers[0][0][0]).max() == 1
    assert "holds 3 images" in words
    assert words.endswith("slide.zarr/1 for the next.")


def test_contrast_that_an_image_does_not_state_comes_from_its_pixels(panel, tmp_path: Path, qtbot):
    pixels = np.linspace(200, 40_000, 2 * 64 * 64).reshape(1, 2, 64, 64).astype(np.uint16)
    for name, labels in (("said.zarr", ["DAPI"]), ("silent.zarr", None)):
        write_multiscale(
            tmp_path / name,
            pixels,
            "czyx",
            scale={"z": 2.0, "y": 0.5, "x": 0.5},
            labels=labels,
        )
    layers = panel.session.viewer.layers
    open_by_typing(panel, qtbot, str(tmp_path / "said.zarr"))
    qtbot.waitUntil(lambda: len(layers) == 1, timeout=LONG)
    assert tuple(layers[0].contrast_limits) == (0, 255)  # as the file says
    open_by_typing(panel, qtbot, str(tmp_path / "silent.zarr"))
    qtbot.waitUntil(lambda: len(layers) == 2, timeout=LONG)
    assert layers[1].contrast_limits[1] > 10_000


@pytest.fixture
def bucket(served, monkeypatch):
    """The brain of `served` in a bucket that speaks as much S3 as reading takes."""
    import fsspec.config

    class Bucket(Counting):
        def do_GET(self) -> None:
            """List nothing; send files and parts of them."""
            if "list-type=2" not in self.path:
                super().do_GET()
                return
            if self.stalled:
                time.sleep(60)
            body = b"<ListBucketResult><Name>www</Name><KeyCount>0</KeyCount></ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            """Say how large a file is."""
            if self.stalled:
                time.sleep(60)
            super().do_HEAD()

    folder = Path(served.RequestHandlerClass.keywords["directory"]).parent
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Bucket, directory=str(folder)))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    own = {"anon": True, "endpoint_url": f"http://127.0.0.1:{port}"}
    monkeypatch.setitem(fsspec.config.conf, "s3", own)
    monkeypatch.setattr(
        foundation, "PATIENCE", {"total": 3.0, "sock_connect": 1.0, "sock_read": 1.0}
    )
    yield "s3://www/brain.zarr"
    Counting.stalled = False
    server.shutdown()
    server.server_close()


def test_a_brain_in_a_bucket_opens_and_a_stalled_one_is_left_in_peace(panel, bucket, qtbot):
    open_by_typing(panel, qtbot, bucket)
    viewer = panel.session.viewer
    qtbot.waitUntil(lambda: "structures" in viewer.layers, timeout=LONG)
    assert pixels_in_view(panel).any()
    before = len(lost())
    Counting.stalled = True
    began = time.monotonic()
    for z in (2, 3, 1):
        viewer.dims.set_current_step(0, z)
    assert time.monotonic() - began < 15  # and not 5 times 60 s for each
    assert len(lost()) == before + 1
    assert not pixels_in_view(panel).any()


def test_what_the_user_set_for_web_servers_is_kept(monkeypatch):
    import fsspec.config

    monkeypatch.setitem(
        fsspec.config.conf, "http", {"client_kwargs": {"headers": {"Authorization": "me"}}}
    )
    options = foundation._patience("https://example.org/b.zarr")
    assert options["client_kwargs"]["headers"] == {"Authorization": "me"}
    assert options["client_kwargs"]["timeout"].sock_read == foundation.PATIENCE["sock_read"]


def test_a_store_that_needs_another_package_is_told(tmp_path: Path):
    with pytest.raises(UserError, match="not installed"):
        open_brain("dropbox://somewhere/brain.zarr")
