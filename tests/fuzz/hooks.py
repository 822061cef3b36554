"""What schemathesis is told about this API: how lines of JSON and archives are sent."""

import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(ctx, value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace")
    items = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(item).encode() + b"\n" for item in items)


@schemathesis.serializer("application/vnd.radixkv.archive")
def archive(ctx, value):
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", errors="replace")
