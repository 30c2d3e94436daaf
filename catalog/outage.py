"""Recognising that a lake's object store failed, and saying so without the clutter and the credentials of its clients' messages."""

import re

from schemas.errors import TransportError

_CLIENT = re.compile(r"Generic (S3|GCS|MicrosoftAzure|HTTP) error|error sending request|object-store error", re.IGNORECASE)
_REFUSED = re.compile(r"\b(400|401|403|404|405) [A-Z][a-z]+|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|NoSuchBucket")
_COLOUR, _QUERY, _ARROW = re.compile(r"\x1b\[[0-9;]*m"), re.compile(r"\?[^\s\"']+"), re.compile(r"\s*\u21b3\s*")
SHOWN = 300


def is_outage(error: BaseException) -> bool:
    """Tell whether an error of delta-rs or polars says that the store failed or did not answer; a refusal is not one.

    Both raise `OSError` or their own classes without a number, so only the text tells.
    """
    if not (type(error) is OSError or type(error).__module__.partition(".")[0] in ("polars", "deltalake", "_internal")):
        return False
    text = str(error)
    return bool(_CLIENT.search(text)) and not _REFUSED.search(text)


def outage(root: str, error: BaseException) -> TransportError:
    """Describe an outage in a sentence; request addresses lose their queries, which may hold signatures."""
    text = _ARROW.sub("; ", _QUERY.sub("", _COLOUR.sub("", str(error))))
    text = re.sub(r"\s+", " ", text).strip("; ")
    return TransportError(f"the store of the lake {root} failed: {text[:SHOWN]}. What was committed stays; run it again")
