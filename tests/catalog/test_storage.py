"""Storage options: one vocabulary, read from a file, translated for fsspec; and what is refused without repeating a secret."""

from pathlib import Path
from typing import Any

import pytest

from catalog.lake import Lake
from catalog.outage import is_outage, outage
from catalog.storage import fsspec_options, storage_options
from schemas.errors import UsageError

SECRET = "hush-hush"


@pytest.mark.parametrize(
    ("root", "options", "expected"),
    [
        (
            "s3://b/lake",
            {"aws_access_key_id": "k", "aws_secret_access_key": SECRET, "aws_region": "eu-1", "aws_allow_http": "true", "timeout": "5s"},
            {"key": "k", "secret": SECRET, "client_kwargs": {"region_name": "eu-1"}, "config_kwargs": {"read_timeout": 5.0}},
        ),
        ("s3://b/lake", {"aws_skip_signature": "true"}, {"anon": True}),
        ("gs://b/lake", {"google_service_account": "/etc/key.json", "timeout": "5s"}, {"token": "/etc/key.json"}),
        ("az://b/lake", {"azure_storage_account_name": "a", "azure_storage_account_key": SECRET}, {"account_name": "a", "account_key": SECRET}),
        ("ftp://host/lake", {"anything": "goes"}, {"anything": "goes"}),
    ],
)  # fmt: skip
def test_options_are_translated_for_fsspec(root: str, options: dict[str, str], expected: dict[str, Any]) -> None:
    assert fsspec_options(root, options) == expected


def test_options_come_from_the_file_the_environment_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "storage.toml"
    file.write_text(f'aws_access_key_id = "k"\naws_secret_access_key = "{SECRET}"\naws_allow_http = true\n')
    monkeypatch.setenv("COTRAIN_STORAGE", str(file))
    lake = Lake.at("s3://bucket/lake/")
    assert lake.storage_options == {"aws_access_key_id": "k", "aws_secret_access_key": SECRET, "aws_allow_http": "true"}
    assert SECRET not in f"{lake} {lake!r}"
    assert Lake.at(tmp_path / "lake").storage_options == {}
    file.write_text(f"aws_secret_access_key = {SECRET}")
    with pytest.raises(UsageError, match="cannot be read: TOMLDecodeError") as caught:
        storage_options("s3://bucket/lake")
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("root", "options", "message"),
    [
        (
            "s3://b/lake",
            {"aws_secret_acces_key": SECRET},
            "'aws_secret_acces_key' is unknown for s3://; did you mean aws_secret_access_key",
        ),
        ("s3://key:hush-hush@b/lake", {}, "the lake's s3:// URL carries a user or password"),
        ("ftp://me:hush-hush@host/lake", {}, "carries a user or password"),
    ],
)
def test_what_is_refused_is_not_repeated(root: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        Lake(root, options)
    assert SECRET not in str(caught.value)


def test_a_duration_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="timeout: 'soon' is no duration"):
        fsspec_options("s3://b/lake", {"timeout": "soon"})


def test_an_azure_container_is_no_user() -> None:
    assert Lake.at("abfss://container@account.dfs.core.windows.net/lake").root.startswith("abfss://container@")


def test_outages_and_refusals_are_told_apart() -> None:
    text = "Generic S3 error\n  \x1b[31m\u21b3\x1b[0m GET http://h/b?sig=hush-hush in 1 s, after 2 retries\n \u21b3 503 Service Unavailable"
    assert is_outage(OSError(text))
    assert not is_outage(OSError("Generic S3 error: 403 Forbidden: AccessDenied"))
    assert not is_outage(FileNotFoundError("Generic S3 error: gone"))
    assert not is_outage(ValueError(text))
    assert str(outage("s3://b/lake", OSError(text))) == (
        "the store of the lake s3://b/lake failed: Generic S3 error; GET http://h/b in 1 s, after 2 retries; 503 Service Unavailable. "
        "What was committed stays; run it again"
    )
