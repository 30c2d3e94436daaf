"""Every backend shows the same pictures, where the caller wants them; another one is a setting away."""

import threading
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import simplejpeg
from av.video.reformatter import Colorspace, VideoReformatter

from pipelines.doctor import examine
from pipelines.shards.backends import container, pyav, swscale
from pipelines.shards.backends.base import Holds
from pipelines.shards.backends.images import SimpleJpegBackend
from pipelines.shards.backends.measured import Speed, measure_speeds, remember, remembered
from pipelines.shards.backends.probe import probe_tracks
from pipelines.shards.backends.registry import BACKENDS, VARIABLE, backend_for, choice, load_backend
from pipelines.shards.backends.swscale import Converter
from pipelines.shards.check import as_track
from pipelines.shards.decode import decode_rgb
from pipelines.shards.demux import demux
from pipelines.shards.draft import TrackDraft
from pipelines.shards.encode import encode_h264, encode_png
from schemas.errors import CorruptMediaError, UnknownNameError, UsageError
from schemas.shards import CodecHeader
from tests.pipelines.shards.test_shards import CODECS
from tests.support.video import barcode, read_barcode, write_video


@pytest.fixture(autouse=True)
def nothing_measured(tmp_path, monkeypatch):
    """Choices here are the defaults, whatever has been measured on this machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    remembered.cache_clear()
    yield
    remembered.cache_clear()


def jpegs(count: int = 6, side: int = 64, header_side: int = 64):
    data = [simplejpeg.encode_jpeg(barcode(n, side), 90) for n in range(count)]
    header, order = CodecHeader("mjpeg", width=header_side, height=header_side), np.arange(count, dtype=np.int32)
    return as_track(TrackDraft("c", header, order, np.arange(count), np.ones(count, bool), data), "x", "0")


def video(gop: int = 4):
    return as_track(
        encode_h264("c", np.stack([barcode(n) for n in range(12)]), np.arange(12) * 50_000_000, 20, gop=gop), "x", "0"
    )


def masks():
    return as_track(encode_png("c", np.stack([barcode(n)[..., 0] for n in range(6)]), np.arange(6)), "x", "0")


OPTIONAL = ("torchcodec", "nvdec", "decord")  # what they need is not everywhere
TRACKS = {"mjpeg": jpegs, "h264": video, "png": masks}


@pytest.mark.parametrize("name", BACKENDS.names())
def test_contract_pictures_land_where_they_are_wanted(name):
    backend = load_backend(name)
    if name in OPTIONAL and (why := backend.missing()):
        pytest.skip(why)
    assert backend.missing() is None
    assert backend.name == name
    for codec, make in TRACKS.items():
        if codec not in backend.codecs:
            continue
        track, frames = make(), [0, 2, 3, 5]
        into = np.full((4, 64, 64, 3), 77, np.uint8)
        backend.decode(track, frames, list(into), fast=False)
        assert [read_barcode(p) for p in into] == frames
        backend.decode(track, frames[::2], list(into[1:3]), fast=True)
        assert [read_barcode(p) for p in into] == [0, 0, 3, 5]


def test_fast_is_near_and_only_for_jpeg():
    track = jpegs()
    exact, fast = decode_rgb(track, range(6)), decode_rgb(track, range(6), fast=True)
    assert np.abs(exact.astype(int) - fast).mean() < 2
    assert np.array_equal(decode_rgb(video(), [3, 1]), decode_rgb(video(), [3, 1], fast=True))


def test_repeats_rotation_and_memory_of_any_layout():
    track = video()
    plain = decode_rgb(track, [3, 1, 3])
    assert np.array_equal(plain[0], plain[2])
    strided = np.zeros((3, 64, 128, 3), np.uint8)[:, :, ::2]
    decode_rgb(track, [3, 1, 3], strided)
    assert np.array_equal(strided, plain)
    header = replace(track.info.header, rotation=90)
    turned = replace(track, info=replace(track.info, header=header))
    assert np.array_equal(decode_rgb(turned, [3])[0], np.rot90(plain[0], -1))


@pytest.mark.parametrize(("codec", "at_least", "found"), [("mjpeg", (30, 32), (32, 32)), ("mjpeg", (40, 40), (64, 64)),
                                                          ("mjpeg", (8, 7), (8, 8)), ("h264", (30, 24), (30, 24))])  # fmt: skip
def test_small_pictures_are_decoded_small(codec, at_least, found):
    track = TRACKS[codec]()
    pictures = decode_rgb(track, [3, 1, 3], fast=True, at_least=at_least)
    assert pictures.shape == (3, *found, 3)
    whole = decode_rgb(track, [3, 1])
    for small, large in zip(pictures, whole, strict=False):
        expected = cv2.resize(large, found[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(expected.astype(int) - small).mean() < 12
    turned = replace(track, info=replace(track.info, header=replace(track.info.header, rotation=90)))
    assert np.array_equal(decode_rgb(turned, [3], fast=True, at_least=at_least[::-1])[0], np.rot90(pictures[0], -1))


def test_a_picture_of_another_size_than_stated_is_corrupt():
    for side in (32, 128):
        with pytest.raises(CorruptMediaError, match=r"frame 1 of camera c"):
            decode_rgb(jpegs(side=side), [1])


def test_another_backend_is_a_setting_away(monkeypatch):
    assert (choice("mjpeg").backend, choice("h264").backend) == ("simplejpeg", "pyav")
    monkeypatch.setenv(VARIABLE, "mjpeg=torchvision, h264=pyav")
    assert backend_for("mjpeg").name == "torchvision"
    assert read_barcode(decode_rgb(jpegs(), [4])[0]) == 4
    assert "COTRAIN_DECODERS" in next(f.found for f in examine() if f.check == "decoding mjpeg")
    monkeypatch.setenv(VARIABLE, "h264=opencv")
    with pytest.raises(UsageError, match="opencv does not decode h264, it decodes mjpeg, png"):
        backend_for("h264")
    assert not next(f for f in examine() if f.check == "decoding h264").ok
    monkeypatch.setenv(VARIABLE, "mjpeg=simplejpg")
    with pytest.raises(UnknownNameError, match="did you mean simplejpeg"):
        backend_for("mjpeg")
    monkeypatch.setenv(VARIABLE, "mjpeg")
    with pytest.raises(UsageError, match="write codec=backend"):
        backend_for("mjpeg")


def usable(name):
    backend = load_backend(name)
    if why := backend.missing():
        pytest.skip(why)
    return backend


def shown_by(backend, track, frames):
    header = track.info.header
    into = np.zeros((len(frames), header.height, header.width, 3), np.uint8)
    backend.decode(track, frames, list(into), fast=False)
    return into


@pytest.mark.parametrize("codec", CODECS)
def test_containers_show_the_same_pictures(codec, tmp_path):
    """Every codec, B-frames and open GOPs included: torchcodec's pictures are PyAV's, decord's too where it is allowed."""
    encoder, options = CODECS[codec]
    track = as_track(demux(str(write_video(tmp_path / "v.mp4", list(range(40)), codec=encoder, **options))).whole("c"), "x", "0")
    frames = [1, 2, 5, 17, 18, 39]
    wanted = shown_by(load_backend("pyav"), track, frames)
    assert [read_barcode(p) for p in wanted] == frames
    for backend in (usable("torchcodec"), load_backend("decord")):
        if track.info.header.codec not in backend.codecs or backend.missing():
            continue
        if backend.name == "decord" and not track.in_order:
            with pytest.raises(UsageError, match="decord shows wrong ones"):
                shown_by(backend, track, frames)
        else:
            assert np.array_equal(shown_by(backend, track, frames), wanted)


@pytest.mark.parametrize("name", ["video_90.mov", "nasa_13013.mp4", "h265_video.mp4", "av1_video.mkv"])
def test_real_files_look_the_same_to_an_independent_decoder(data, name):
    """BT.709 is shown as BT.709, and a rotation stated by the container is not applied twice."""
    track = as_track(demux(str(data / "quirk_video" / name)).whole("c"), "x", "0")
    frames = sorted({0, track.info.frames // 2, track.info.frames - 1})
    assert np.array_equal(shown_by(usable("torchcodec"), track, frames), shown_by(load_backend("pyav"), track, frames))


def test_colours_do_not_depend_on_what_the_thread_decoded_before():
    plain, frames = video(), [3]
    before = shown_by(load_backend("pyav"), plain, frames)
    other = replace(plain, info=replace(plain.info, header=replace(plain.info.header, colour_space=1)))
    grey = np.full((64, 64, 3), (200, 40, 90), np.uint8)
    colourful = as_track(encode_h264("c", np.stack([grey] * 4), np.arange(4), 20), "x", "0")
    tagged = replace(colourful, info=replace(colourful.info, header=replace(colourful.info.header, colour_space=1)))
    usual = shown_by(load_backend("pyav"), colourful, [1])
    assert np.abs(usual.astype(int) - grey).mean() < 4
    assert np.abs(shown_by(load_backend("pyav"), tagged, [1]).astype(int) - usual).mean() > 4  # BT.709 is another matrix
    shown_by(load_backend("pyav"), jpegs(), [0])  # full range
    shown_by(load_backend("pyav"), other, frames)
    assert np.array_equal(shown_by(load_backend("pyav"), plain, frames), before)
    assert np.array_equal(shown_by(load_backend("pyav"), colourful, [1]), usual)


@pytest.mark.parametrize("form", ["yuv420p", "yuvj420p", "yuv444p", "yuv422p", "yuv420p10le", "gray"])
def test_pictures_are_converted_in_place_as_pyav_converts_them(form):
    """Every bit is that of PyAV's converter, nothing beside the picture is touched, and odd widths are left to PyAV."""
    rng = np.random.default_rng(0)
    for width, height in ((64, 64), (640, 31), (48, 50), (50, 48)):
        picture = av.VideoFrame.from_ndarray(rng.integers(0, 256, (height, width, 3), np.uint8), format="rgb24").reformat(
            format=form
        )
        for colours in (None, (int(Colorspace.ITU709), int(Colorspace.ITU601))):
            told = dict(zip(("src_colorspace", "dst_colorspace"), colours, strict=True)) if colours else {}
            wanted = pyav._pixels(VideoReformatter().reformat(picture, format="rgb24", **told))
            memory = np.full(3 * width * height + 256, 77, np.uint8)
            start = -memory.ctypes.data % 16 + 64
            place, converter = memory[start : start + wanted.size].reshape(wanted.shape), Converter(picture, colours)
            assert converter.into(picture, place) == converter.usable == (width % 16 == 0 and swscale._libraries() is not None)
            assert np.array_equal(place, wanted if converter.usable else np.full_like(wanted, 77))
            assert (memory[:start] == 77).all()
            assert (memory[start + wanted.size :] == 77).all()
            assert not converter.into(picture, memory[start + 1 :][: wanted.size].reshape(wanted.shape))


def test_held_pictures_are_those_that_are_decoded():
    track, backend = video(), load_backend("pyav")
    assert isinstance(backend, Holds)
    assert not isinstance(SimpleJpegBackend(), Holds)
    held = backend.hold(track, [1, 4, 7])
    into = np.zeros((64, 64, 3), np.uint8)
    for frame, picture in reversed(list(zip([1, 4, 7], held, strict=True))):
        backend.show(track, picture, into)
        assert np.array_equal(into, decode_rgb(track, [frame])[0])


@pytest.mark.parametrize("codec", CODECS)
def test_what_a_decoder_showed_before_changes_nothing(codec, tmp_path):
    """Reads that jump between two films through one decoder show what a new thread's decoder shows, also after one that failed."""
    encoder, options = CODECS[codec]
    films = [
        as_track(
            demux(str(write_video(tmp_path / f"{n}.mp4", list(range(n, n + 24)), codec=encoder, **options))).whole("c"), "x", "0"
        )
        for n in (0, 50)
    ]
    truth = [_in_a_thread(lambda track=track: decode_rgb(track, range(24))) for track in films]
    rng, rows = np.random.default_rng(0), films[0].info.rows
    broken = replace(films[0], info=replace(films[0].info, rows=rows - 1))  # its last picture never comes
    for _ in range(40):
        number, first = int(rng.integers(2)), int(rng.integers(22))
        frames = sorted({first, first + int(rng.integers(1, 3))})
        assert np.array_equal(decode_rgb(films[number], frames), truth[number][frames])
        if rng.random() < 0.2 and broken.in_order:
            with pytest.raises(CorruptMediaError, match="never shows it"):
                decode_rgb(broken, [23])


def _in_a_thread(work):
    found = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    return found[0]


def test_containers_are_kept_by_identity_and_bounded(monkeypatch):
    """Another track under the same names is another track, and what was read first is dropped first."""
    backend = usable("torchcodec")
    monkeypatch.setattr(container, "OPEN_BYTES", 20_000)
    monkeypatch.setattr(container, "_local", threading.local())  # what other tests left open does not count
    for first in (0, 5, 9):
        frames = np.stack([barcode(first + n) for n in range(8)])
        track = as_track(encode_h264("c", frames, np.arange(8) * 50_000_000, 20), "x", "0")
        assert read_barcode(shown_by(backend, track, [2])[0]) == first + 2
    kept = container._local.readers
    assert 1 <= len(kept) <= 3
    assert len(kept) == 1 or sum(len(o.container.data) for o in kept.values()) <= 20_000


def test_nvdec_says_what_it_lacks_or_shows_the_same():
    backend = load_backend("nvdec")
    why = backend.missing()
    if why is not None:
        assert why.startswith(("there is no CUDA GPU", "torchcodec")), why
        return
    assert backend.on_device(video(), [3]).device.type == "cuda"
    assert [read_barcode(p) for p in shown_by(backend, video(), [1, 6, 11])] == [1, 6, 11]


def test_what_is_measured_here_is_believed(monkeypatch):
    speeds = [Speed("mjpeg", "simplejpeg", 200.0), Speed("mjpeg", "torchvision", 150.0), Speed("h264", "pyav", 100.0),
              Speed("h264", "torchcodec", 95.0), Speed("h264", "nvdec", None, "there is no CUDA GPU")]  # fmt: skip
    remember(speeds)
    assert (choice("mjpeg").backend, choice("h264").backend) == ("torchvision", "pyav")  # 5 % is no reason
    assert choice("mjpeg").why == "measured here: 150 us a picture; simplejpeg 200"
    assert choice("av1").why.startswith("takes single packets")
    monkeypatch.setenv(VARIABLE, "mjpeg=opencv")
    assert choice("mjpeg").backend == "opencv"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr("pipelines.shards.backends.measured.build", lambda: "another")
    remembered.cache_clear()
    assert choice("mjpeg").backend == "simplejpeg"


def test_measuring_finds_who_is_usable():
    """A decoder whose pictures are others is never chosen, however fast; one that is missing says why."""

    class Wrong(SimpleJpegBackend):
        name = "wrong"

        def decode(self, track, frames, into, *, fast):
            for place in into:
                place[...] = 0

    class Absent(SimpleJpegBackend):
        name = "absent"

        def missing(self):
            return "not here"

    found = measure_speeds([("mjpeg", jpegs)], [SimpleJpegBackend(), Wrong(), Absent(), load_backend("torchvision")])
    assert [(s.backend, s.us is not None) for s in found] == [
        ("simplejpeg", True), ("wrong", False), ("absent", False), ("torchvision", True),
    ]  # fmt: skip
    assert "differ by" in found[1].why
    assert found[2].why == "not here"


def test_probes_are_in_every_codec_that_can_be_encoded():
    made = dict(probe_tracks())
    assert {"mjpeg", "png", "h264"} <= set(made)
    for codec, make in made.items():
        track = make()
        assert track.info.header.codec == codec
        assert track is not make()
        if codec != "png":
            assert decode_rgb(track, [0, 47]).shape == (2, 256, 256, 3)
