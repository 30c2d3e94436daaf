"""Storage options: one vocabulary for Delta, polars and fsspec, read from a file whose name is in the environment.

The keys are those of Rust's object_store, which Delta and polars take as they are; fsspec's names for the same things are looked up here.
Values are credentials: no message of this module repeats one, and no command takes one, because process lists show commands.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from schemas.errors import UsageError

VARIABLE = "COTRAIN_STORAGE"  # names a TOML file of options
_S3 = {
    "aws_access_key_id": "key", "aws_secret_access_key": "secret", "aws_session_token": "token", "aws_endpoint_url": "endpoint_url",
    "aws_region": "client_kwargs.region_name", "aws_allow_http": "", "aws_skip_signature": "anon", "aws_conditional_put": "",
    "aws_virtual_hosted_style_request": "", "timeout": "config_kwargs.read_timeout", "connect_timeout": "config_kwargs.connect_timeout",
}  # fmt: skip
_GCS = {
    "google_service_account": "token", "google_service_account_key": "token", "google_application_credentials": "token",
    "google_skip_signature": "anon", "timeout": "", "connect_timeout": "",
}  # fmt: skip
_AZURE = {
    "azure_storage_account_name": "account_name", "azure_storage_account_key": "account_key", "azure_storage_sas_token": "sas_token",
    "azure_storage_client_id": "client_id", "azure_storage_client_secret": "client_secret", "azure_storage_tenant_id": "tenant_id",
    "azure_skip_signature": "anon", "timeout": "", "connect_timeout": "",
}  # fmt: skip
KNOWN: Mapping[str, Mapping[str, str]] = {
    "s3": _S3, "s3a": _S3, "gs": _GCS, "gcs": _GCS, "az": _AZURE, "abfs": _AZURE, "abfss": _AZURE,
}  # fmt: skip


def storage_options(root: str) -> dict[str, str]:
    """Return the options for a lake at `root`: those of the file `$COTRAIN_STORAGE`; none for a local lake.

    Raises:
        UsageError: the file cannot be read, or a key is unknown for this kind of store.
    """
    options = _from_file(os.environ.get(VARIABLE)) if urlsplit(root).scheme in KNOWN else {}
    check_options(root, options)
    return options


def check_options(root: str, options: Mapping[str, str]) -> None:
    """Check that every key means something for the store at `root`.

    Raises:
        UsageError: one does not; the nearest ones are named.
    """
    scheme = urlsplit(root).scheme
    for key in options if scheme in KNOWN else ():  # other filesystems take their own
        if key not in KNOWN[scheme]:
            near = difflib.get_close_matches(key, KNOWN[scheme], 3) or sorted(KNOWN[scheme])
            raise UsageError(f"storage option {key!r} is unknown for {scheme}://; did you mean {', '.join(near)}?")


def check_root(root: str) -> None:
    """Refuse a URL that carries credentials: roots are shown, logged and stored.

    Raises:
        UsageError: it does; the message does not repeat it.
    """
    parts = urlsplit(root)
    if parts.scheme and (
        parts.password is not None or (parts.scheme != "abfss" and parts.scheme in KNOWN and "@" in parts.netloc)
    ):
        raise UsageError(
            f"the lake's {parts.scheme}:// URL carries a user or password, which would end up in logs; "
            f"give credentials in the environment, or in the file that ${VARIABLE} names"
        )


def fsspec_options(root: str, options: Mapping[str, str]) -> dict[str, Any]:
    """Translate options into what fsspec's filesystem for `root` is built from; those that only Delta knows are left out."""
    names, found = KNOWN.get(urlsplit(root).scheme), dict[str, Any]()
    if names is None:
        return dict(options)
    for key, value in options.items():
        outer, _, inner = names.get(key, "").partition(".")
        if inner:
            found.setdefault(outer, {})[inner] = seconds(key, value) if inner.endswith("timeout") else value
        elif outer:
            found[outer] = value.lower() == "true" if outer == "anon" else value
    return found


def seconds(key: str, text: str) -> float:
    """Read a duration such as `5s`, as object_store writes them.

    Raises:
        UsageError: it is none.
    """
    if not (found := re.fullmatch(r"(\d+(?:\.\d+)?)\s*s(?:econds)?", text.strip())):
        raise UsageError(f"storage option {key}: {text!r} is no duration; write for example 5s")
    return float(found[1])


def _from_file(path: str | None) -> dict[str, str]:
    if not path:
        return {}
    try:
        read = tomllib.loads(Path(path).read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UsageError(
            f'the file that ${VARIABLE} names cannot be read: {type(error).__name__}; it holds `key = "value"` lines'
        ) from None
    return {str(key).lower(): str(value) if not isinstance(value, bool) else str(value).lower() for key, value in read.items()}
