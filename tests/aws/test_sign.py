"""The signer against botocore's, over thousands of random requests, and against a server that checks signatures.

SEED=n repeats a run, REQUESTS=n says how many of each kind. sign-lines is the program that signs what a line of JSON says.
"""

import datetime
import hashlib
import http.client
import json
import os
import random
import string
import subprocess
import time
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import pytest

SEED = int(os.environ.get("SEED") or time.time_ns() % 10**9)
REQUESTS = int(os.environ.get("REQUESTS") or 1500)
PROGRAM = os.path.join(os.environ.get("TENDRIL_BUILD", "build/release"), "tests", "aws", "sign-lines")
EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"

# What has ever been encoded wrongly by somebody.
PIECES = ["a", "Z", "0", "-", "_", ".", "~", " ", "  ", "+", "%", "%2F", "%20", "%zz", "/", "//", "/./", "/../", "..", "=", "&", "?", "#", "*", "'", '"', "(", ")",
          "!", "@", ":", ";", ",", "$", "[", "]", "{", "}", "|", "^", "`", "<", ">", "\\", "é", "ß", "日本", "🚀", "\u0301", "\u00a0", "\u2028", "\t", "\n", "\r",
          "\x01", "\x1f", "\x7f", "\u0080", "\uffff", "index.html", "applications/shop/versions/v1.json"]
NAMES = ["Content-Type", "content-md5", "Range", "If-Match", "IF-NONE-MATCH", "x-amz-meta-a", "x-amz-meta-a-b", "X-Amz-Meta-Ab", "x-amz-meta-A_b", "x-amz-acl", "Cache-Control",
         "x-amz-server-side-encryption", "x-amz-checksum-sha256", "x-amz-target", "Content-Encoding", "if-modified-since", "Date-Of-Birth", "x~y", "z!#$&'*+.^`|"]
BLANKS = ["", " ", "  ", "\t", " \t ", "     "]


def text(rng, longest):
    return "".join(rng.choice(PIECES) for _ in range(rng.choice([0, 1, 2, 5, 12, longest])))


def header_value(rng):
    """Never empty, never with a line break; blanks anywhere."""
    words = ["".join(rng.choice(string.ascii_letters + string.digits + "=+/,;:\"'%*é日") for _ in range(rng.choice([1, 3, 20])))
             for _ in range(rng.choice([1, 1, 2, 5, 200 if rng.random() < 0.05 else 3]))]
    return rng.choice(BLANKS) + "".join(w + rng.choice(BLANKS) for w in words)


def headers(rng):
    some = [[rng.choice(NAMES), header_value(rng)] for _ in range(rng.choice([0, 1, 3, 6, 12]))]
    if rng.random() < 0.02:
        some += [["x-amz-meta-%d" % i, header_value(rng)] for i in range(40)]
    return some


def query(rng, unique):
    """Pairs; empty values, empty names, duplicates that are out of order."""
    pairs = [["prefix", text(rng, 40)], ["uploads", ""], ["list-type", "2"], ["continuation-token", "1/+a+b=="], ["a", "1"], ["a-b", "2"], ["a", "0"], ["ab", ""], ["A", "é"],
             ["a.b", "x"], ["a~", "x=y"], ["a/b", "/"], ["delimiter", "/"], ["", "nameless"]]
    pairs += [[text(rng, 5), text(rng, 30)] for _ in range(4)]
    if rng.random() < 0.02:
        pairs += [["n%d" % i, text(rng, 5)] for i in range(90)] + [["long", "ü" * 3000]]
    rng.shuffle(pairs)
    some = pairs[:rng.choice([0, 0, 1, 2, 5, len(pairs)])]
    some += rng.sample(some, min(len(some), rng.choice([0, 0, 1, 3])))
    # botocore's presigner keeps one value a name, and cannot read some that are empty.
    return [list(p) for p in {name: value for name, value in some if name}.items()] if unique else some


def credentials(rng):
    printable = string.ascii_letters + string.digits + "+/="
    return {"key_id": "AKIA" + "".join(rng.choice(string.ascii_uppercase + string.digits) for _ in range(rng.choice([1, 16, 60]))),
            "secret": "".join(rng.choice(printable + ("é" if rng.random() < 0.1 else "")) for _ in range(rng.choice([1, 40, 59, 60, 61, 200]))),
            "token": rng.choice([None, "".join(rng.choice(printable) for _ in range(rng.choice([1, 400, 1200, 3000])))])}


def make(rng, people, service, presigned):
    body = rng.choice([b"", b"", rng.randbytes(50)])
    host = "%s.%s.amazonaws.com" % (rng.choice(["b", "my-bucket", "a.b.c"]), service) if rng.random() < 0.7 else "127.0.0.1:%d" % rng.randint(1025, 65535)
    unsigned = service == "s3" and (presigned or rng.random() < 0.3)
    return {"method": rng.choice(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"]), "host": host, "key": text(rng, 60), "query": query(rng, presigned),
            "headers": headers(rng), "body": "" if presigned else body.hex(), "payload": UNSIGNED if unsigned else hashlib.sha256(b"" if presigned else body).hexdigest(),
            "region": rng.choice(["eu-west-1", "us-east-1", "cn-north-1", "us-gov-west-1", "x"]), "service": service,
            "time": rng.choice([rng.randint(946684800, 4102444799), rng.randrange(1767225600, 1900000000, 86400), 1790000000]),
            **({"valid": rng.choice([1, 60, 3600, 604800])} if presigned else {}), **rng.choice(people)}


def ours(requests):
    run = subprocess.run([PROGRAM], input="".join(json.dumps(r) + "\n" for r in requests).encode(), stdout=subprocess.PIPE, check=True, timeout=300)
    return [json.loads(line) for line in run.stdout.splitlines()]


def url(r):
    """By Python's own encoder, pairs as they came."""
    pairs = "&".join("%s=%s" % (quote(n, safe=""), quote(v, safe="")) for n, v in r["query"])
    return "https://%s/%s%s" % (r["host"], quote(r["key"], safe="/"), "?" + pairs if pairs else "")


def theirs(r, monkeypatch):
    """The request as botocore signs it."""
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: datetime.datetime.fromtimestamp(r["time"], datetime.timezone.utc))
    s3 = r["service"] == "s3"
    kind = {(True, False): botocore.auth.S3SigV4Auth, (False, False): botocore.auth.SigV4Auth,
            (True, True): botocore.auth.S3SigV4QueryAuth, (False, True): botocore.auth.SigV4QueryAuth}[s3, "valid" in r]
    request = botocore.awsrequest.AWSRequest(r["method"], url(r), data=bytes.fromhex(r["body"]))
    for name, value in r["headers"]:
        request.headers.add_header(name, value)
    if r["payload"] == UNSIGNED and s3:
        request.context["client_config"] = botocore.config.Config(s3={"payload_signing_enabled": False})
    signer = kind(botocore.credentials.Credentials(r["key_id"], r["secret"], r["token"]), r["service"], r["region"], *([r["valid"]] if "valid" in r else []))
    signer.add_auth(request)
    return request


def sorted_pairs(r):
    """As the canonical query has them."""
    return "&".join("%s=%s" % pair for pair in sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in r["query"]))


def difference(r, mine, request):
    """None where the two signers agree to the byte."""
    if "error" in mine:
        return "refused: " + mine["error"]
    if mine["path"] != urlsplit(url(r)).path:
        return "path"
    if "valid" in r:
        expected = sorted(parse_qsl(urlsplit(request.url).query, keep_blank_values=True, strict_parsing=True))
        if sorted(parse_qsl(mine["query"], keep_blank_values=True, strict_parsing=True)) != expected:
            return "query: not " + request.url
        covered = mine["query"].split("&X-Amz-Signature=")[0].split("&")
        return None if covered == sorted(covered, key=lambda p: p.partition("=")[::2]) else "the query is not sorted"
    if mine["query"] != sorted_pairs(r):
        return "query: not " + sorted_pairs(r)
    names = ["X-Amz-Date"] + ["X-Amz-Content-SHA256"] * (r["service"] == "s3") + ["X-Amz-Security-Token"] * (r["token"] is not None) + ["Authorization"]
    expected = ["%s: %s" % (n if n == "Authorization" else n.lower(), request.headers[n]) for n in names]
    return None if mine["headers"] == expected else "headers: not %r" % expected


@pytest.mark.parametrize("kind", ["s3", "other", "s3 presigned", "other presigned"])
def test_botocore_signs_the_same(kind, monkeypatch):
    rng = random.Random("%d %s" % (SEED, kind))
    people = [credentials(rng) for _ in range(7)]
    requests = [make(rng, people, "s3" if kind.startswith("s3") else rng.choice(["sts", "logs", "sqs", "monitoring"]), kind.endswith("presigned")) for _ in range(REQUESTS)]
    answers = ours(requests)
    assert len(answers) == len(requests)
    for r, mine in zip(requests, answers):
        what = difference(r, mine, theirs(r, monkeypatch))
        assert what is None, "SEED=%d: %s\n%s\n%s" % (SEED, what, json.dumps(r), json.dumps(mine))


def test_what_cannot_be_signed_is_refused_with_words():
    good = {"method": "GET", "host": "b.example", "key": "k", "query": [], "headers": [], "payload": EMPTY, "region": "r", "service": "s3", "time": 1790000000,
            "key_id": "AKIA", "secret": "not-to-be-told", "token": "nor-this"}
    bad = [{"headers": [["X", "a\r\nY: b"]]}, {"headers": [["X", " "]]}, {"headers": [["X Y", "b"]]}, {"headers": [["", "b"]]}, {"headers": [["Host", "c"]]},
           {"headers": [["Content-Length", "1"]]}, {"headers": [["x-amz-Date", "1"]]}, {"headers": [["x-%d" % i, "1"] for i in range(64)]}, {"host": "b\r\nX: y"}, {"host": ""},
           {"valid": 604801}, {"region": "r" * 300}]
    answers = ours([dict(good, **change) for change in bad])
    for change, answer in zip(bad, answers):
        assert "error" in answer and answer["error"].startswith("sign: "), (change, answer)
        assert "told" not in json.dumps(answer) and "this" not in json.dumps(answer), answer


# ---- a server that checks ----

ODD_KEYS = ["plain", "a b", "a+b", "a%2Bb", "%", "%2F", "a//b", "//a", "a/../b", "./a", "..", "a/.", "é/日本🚀", "~-_.", "(!*')", "a=b&c", "a?b#c", "a;b:c@d,e$f", "[{}]|\\^`<>\"", "tab\there",
            "line\nbreak", "\x01\x1f", "a/", "x" * 900]


class Checked:
    """A bucket that is spoken to with raw bytes, signed by sign-lines."""

    def __init__(self, bucket):
        self.bucket, self.server = bucket, bucket.server
        self.host = urlsplit(self.server.endpoint).netloc

    def sign(self, method, key, **other):
        return {"method": method, "host": self.host, "key": self.bucket.name + "/" + key if key is not None else self.bucket.name, "query": [], "headers": [], "payload": EMPTY,
                "region": "us-east-1", "service": "s3", "time": int(time.time()), "key_id": self.server.key_id, "secret": self.server.secret, "token": None, **other}

    def send(self, r, body=b"", change=lambda target, lines: (target, lines)):
        """Status and body. change: what somebody alters on the way."""
        signed = ours([r])[0]
        target = signed["path"] + ("?" + signed["query"] if signed["query"] else "")
        target, lines = change(target, ["%s:%s" % (n, v) for n, v in r["headers"]] + ([] if "valid" in r else signed["headers"]))
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.connect()
            head = ["%s %s HTTP/1.1" % (r["method"], target), "Host: " + self.host, *lines, "Content-Length: %d" % len(body), "Connection: close", "", ""]
            connection.sock.sendall("\r\n".join(head).encode() + body)
            answer = http.client.HTTPResponse(connection.sock, method=r["method"])
            answer.begin()
            return answer.status, answer.read()
        finally:
            connection.close()


@pytest.fixture
def checked(rgw_bucket):
    return Checked(rgw_bucket)


def stored(checked, key):
    return checked.server.s3.get_object(Bucket=checked.bucket.name, Key=key)["Body"].read()


@pytest.mark.parametrize("key", ODD_KEYS, ids=lambda k: quote(k[:20], safe=""))
def test_a_server_accepts_odd_keys(checked, key):
    """By header and by presigned query, for writing and for reading, and it is this key that is meant."""
    body = b"of " + key.encode()
    status, answer = checked.send(checked.sign("PUT", key, payload=hashlib.sha256(body).hexdigest()), body)
    assert status == 200, answer
    assert checked.send(checked.sign("GET", key, headers=[["Range", "bytes=0-2"]])) == (206, body[:3])
    assert checked.send(checked.sign("GET", key, valid=60)) == (200, body)
    status, answer = checked.send(checked.sign("PUT", key, valid=60, headers=[["Content-Type", "text/x  odd"]]), body + b" again")
    assert status == 200, answer
    listed = checked.server.s3.list_objects_v2(Bucket=checked.bucket.name, EncodingType="url")
    assert [unquote(o["Key"]) for o in listed["Contents"]] == [key]
    assert checked.send(checked.sign("GET", key)) == (200, body + b" again")


def test_a_server_accepts_odd_queries_and_headers(checked):
    for value in ["", "a b", "a+b==", "é", "%2B", "a&b=c", "*'()", "~"]:
        status, answer = checked.send(checked.sign("GET", None, query=[["list-type", "2"], ["prefix", value], ["max-keys", "5"], ["delimiter", ""]]))
        assert status == 200, (value, answer)
    status, answer = checked.send(checked.sign("PUT", "h", payload=UNSIGNED, token="t/o+k=" * 200,
                                               headers=[["X-Amz-Meta-A-B", "1"], ["x-amz-meta-a", "  two   words "], ["X-AMZ-META-AB", "3"], ["If-None-Match", "*"]]), b"x")
    assert status == 200, answer
    assert stored(checked, "h") == b"x"


def test_a_server_refuses_what_was_changed_on_the_way(checked):
    """Else the tests above would show nothing."""
    key = "k"
    checked.bucket.server.s3.put_object(Bucket=checked.bucket.name, Key="other", Body=b"x")
    assert checked.send(checked.sign("GET", key), change=lambda t, h: (t.replace("/k", "/other"), h))[0] == 403
    assert checked.send(checked.sign("GET", "other", headers=[["Range", "bytes=0-0"]]), change=lambda t, h: (t, [x.replace("0-0", "0-9") for x in h]))[0] == 403
    assert checked.send(checked.sign("GET", "other", valid=60), change=lambda t, h: (t.replace("X-Amz-Expires=60", "X-Amz-Expires=6000"), h))[0] == 403
    assert checked.send(checked.sign("PUT", key, payload=hashlib.sha256(b"a").hexdigest()), b"b")[0] == 400
    assert checked.send(checked.sign("GET", "other", secret="SECRETEXAMPLF"))[0] == 403
    assert checked.send(checked.sign("GET", "other", time=int(time.time()) - 3600))[0] == 403
    assert checked.send(checked.sign("GET", "other", valid=1, time=int(time.time()) - 30))[0] == 403
