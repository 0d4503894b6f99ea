"""The XML of List Blobs; blobs_api.py answers it.

Azure Storage REST reference, "List Blobs": names in order, `delimiter` folds what follows it into one BlobPrefix,
`marker` and `NextMarker` page through, at most 5000 entries a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree as ET

from trainyard_sandbox.azure.blob_store import AzureBlobs, ListedBlob
from trainyard_sandbox.azure.errors import StorageError, http_time

LIST_PARAMETERS = frozenset({"prefix", "delimiter", "marker", "maxresults", "include"})
MAX_RESULTS = 5000


def list_blobs(blobs: AzureBlobs, container: str, asked: Mapping[str, str], endpoint: str) -> str:
    """One page of a container's blobs.

    Raises:
        StorageError: 400 OutOfRangeQueryParameterValue, 404 ContainerNotFound.
    """
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
    length = _length(asked.get("maxresults", str(MAX_RESULTS)))
    entries = _folded(blobs.list(container, prefix), prefix, delimiter)
    waiting = [entry for entry in entries if _name(entry) >= asked.get("marker", "")]
    root = ET.Element("EnumerationResults", ServiceEndpoint=endpoint, ContainerName=container)
    for tag, value in (("Prefix", prefix), ("Marker", asked.get("marker", "")), ("Delimiter", delimiter)):
        if value:
            ET.SubElement(root, tag).text = value
    ET.SubElement(root, "MaxResults").text = str(length)
    shown = ET.SubElement(root, "Blobs")
    for entry in waiting[:length]:
        if isinstance(entry, str):
            ET.SubElement(ET.SubElement(shown, "BlobPrefix"), "Name").text = entry
        else:
            _add_blob(shown, entry, with_metadata="metadata" in asked.get("include", "").split(","))
    ET.SubElement(root, "NextMarker").text = _name(waiting[length]) if len(waiting) > length else ""
    return '<?xml version="1.0" encoding="utf-8"?>' + ET.tostring(root, encoding="unicode")


def _length(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        message = "One of the query parameters specified in the request URI is outside the permissible range."
        raise StorageError(400, "OutOfRangeQueryParameterValue", message)
    return min(int(text), MAX_RESULTS)


def _folded(found: Sequence[ListedBlob], prefix: str, delimiter: str) -> list[ListedBlob | str]:
    """The blobs, those below a delimiter as one prefix each."""
    entries: list[ListedBlob | str] = []
    for blob in found:
        rest = blob.name[len(prefix) :]
        if not delimiter or delimiter not in rest:
            entries.append(blob)
            continue
        folder = prefix + rest.partition(delimiter)[0] + delimiter
        if folder not in entries:
            entries.append(folder)
    return entries


def _name(entry: ListedBlob | str) -> str:
    return entry if isinstance(entry, str) else entry.name


def _add_blob(parent: ET.Element, blob: ListedBlob, *, with_metadata: bool) -> None:
    element = ET.SubElement(parent, "Blob")
    ET.SubElement(element, "Name").text = blob.name
    properties = ET.SubElement(element, "Properties")
    values = {
        "Creation-Time": http_time(blob.info.created),
        "Last-Modified": http_time(blob.info.modified),
        "Etag": blob.info.etag.strip('"'),
        "Content-Length": str(blob.size),
        "Content-Type": blob.info.content_type,
        "Content-MD5": blob.info.headers.get("content-md5", ""),
        "BlobType": "BlockBlob",
        "AccessTier": "Hot",
        "AccessTierInferred": "true",
        "LeaseStatus": "unlocked",
        "LeaseState": "available",
        "ServerEncrypted": "true",
    }
    for tag, value in values.items():
        ET.SubElement(properties, tag).text = value
    if with_metadata:
        metadata = ET.SubElement(element, "Metadata")
        for name, value in blob.info.metadata.items():
            ET.SubElement(metadata, name).text = value
