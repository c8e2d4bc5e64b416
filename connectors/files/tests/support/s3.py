"""S3 by moto on a port, in front of a folder whose files are in its bucket when it starts.

s3.py <port> <folder> <access key id> [<certificate> <key>]

moto takes every signature; this refuses requests of any other access key, as a store does.
"""
import pathlib
import sys

from moto.s3.models import s3_backends
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

port, folder, key = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
tls = tuple(sys.argv[4:6]) or None
backend = s3_backends["123456789012"]["aws"]
backend.create_bucket("kho", "us-east-1")
for file in folder.rglob("*"):
    if file.is_file():
        backend.put_object("kho", str(file.relative_to(folder)), file.read_bytes())
moto = DomainDispatcherApplication(create_backend_app)
REFUSED = b"""<?xml version="1.0" encoding="UTF-8"?>
<Error><Code>InvalidAccessKeyId</Code><Message>The access key is not known.</Message></Error>"""


def guarded(environ, start_response):
    """Lets pass what is signed with the key, and the test itself, which is not signed."""
    signed = environ.get("HTTP_AUTHORIZATION", "")
    if signed and f"Credential={key}/" not in signed:
        start_response("403 Forbidden", [("Content-Type", "application/xml"), ("Content-Length", str(len(REFUSED)))])
        return [REFUSED]
    return moto(environ, start_response)


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


run_simple("127.0.0.1", port, guarded, threaded=True, request_handler=Quiet, ssl_context=tls)
