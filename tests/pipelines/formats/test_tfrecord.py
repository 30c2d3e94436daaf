from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.formats.tfrecord import RecordWriter, masked_crc, read_record, read_records
from schemas.errors import CorruptMediaError, MissingFileError


@settings(database=None, deadline=None, max_examples=50)
@given(st.lists(st.lists(st.binary(max_size=300), max_size=4), max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, records: list[list[bytes]]):
    path = tmp_path_factory.mktemp("records") / "a.tfrecord"
    with RecordWriter(path) as writer:
        spans = [writer.write([memoryview(c) for c in chunks]) for chunks in records]
        assert writer.size == sum(s.length + 16 for s in spans)
    assert list(read_records(path)) == [(s, b"".join(chunks)) for s, chunks in zip(spans, records, strict=True)]
    for span, chunks in zip(spans, records, strict=True):
        assert read_record(path, span.offset) == b"".join(chunks)
        assert path.read_bytes()[span.payload : span.payload + span.length] == b"".join(chunks)


def test_the_mask_is_tensorflows():
    # crc32c("123456789") is 0xe3069283 (RFC 3720); its masked form follows from the definition
    assert masked_crc(0xE3069283) == (((0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def test_a_real_file_reads(data: Path):
    path = data / "rlds" / "bridge_dataset" / "1.0.0" / "bridge_dataset-train.tfrecord-00000-of-00001"
    records = list(read_records(path))
    assert len(records) == 25
    assert records[-1][0].end == path.stat().st_size


@pytest.mark.parametrize(
    ("at", "why"), [(3, "checksum of its length"), (14, "checksum of its 5 bytes"), (18, "checksum of its 5 bytes")]
)
def test_a_flipped_bit_names_file_and_offset(tmp_path: Path, at: int, why: str):
    path = tmp_path / "a.tfrecord"
    with RecordWriter(path) as writer:
        writer.write([b"first"])
        second = writer.write([b"other"])
    raw = bytearray(path.read_bytes())
    raw[second.offset + at] ^= 4
    path.write_bytes(raw)
    found = []
    with pytest.raises(CorruptMediaError, match=rf"a\.tfrecord: the record at byte {second.offset} is damaged: the {why}"):
        found.extend(data for _, data in read_records(path))
    assert found == [b"first"]


@pytest.mark.parametrize(("keep", "why"), [(5, "7 bytes into its header"), (14, "it should end at byte 21 and the file has 14")])
def test_a_cut_file_is_named(tmp_path: Path, keep: int, why: str):
    path = tmp_path / "a.tfrecord"
    with RecordWriter(path) as writer:
        writer.write([b"first"])
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptMediaError, match=why):
        list(read_records(path))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(MissingFileError, match=r"no\.tfrecord"):
        list(read_records(tmp_path / "no.tfrecord"))
