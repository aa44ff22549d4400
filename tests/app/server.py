"""A small web application: says which version it is, and how it is (/health).

A version whose file `fails` says so is well for its first answers and ill from then on.
"""

import http.server
import os

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "VERSION")) as f:
    VERSION = f.read().strip()
FAILS = os.path.exists(os.path.join(HERE, "fails"))


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet
    checks = 0

    def do_GET(self):
        status, text = 200, "version %s\n" % VERSION
        if self.path == "/health":
            Handler.checks += 1
            if FAILS and Handler.checks > 1:
                status, text = 500, "the connection pool is empty\n"
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 512
    daemon_threads = True


Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
