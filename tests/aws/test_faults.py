"""Everything between the agent and S3 breaks, at every interesting byte: what must be true afterwards, and what people are told.

moto stands behind the proxy where requests are changed under way (it believes every signature), RGW where its own checks are the point.
"""

import os
import signal
import subprocess
import time

import pytest

from proxy import Message, error_document
from scene import BUNDLE, DESIRED, HEAD, LANE, RESULT, VERSION, happened
from world import BUILD, noise_bundle, wait_for

# ---- cuts ----


def test_polls_cut_at_every_interesting_byte(scene):
    """Of the answer: nothing, within the first line, within the headers, at their end, within the body, one byte before its end."""
    s = scene.served()
    polls = s.proxy.requests("GET", HEAD)
    assert polls and all(p.request.get("Authorization") for p in polls)

    def whole(request):
        request.set("If-None-Match", None)

    answer = {}
    s.proxy.fault(method="GET", path=HEAD, before=whole, after=lambda q, a: answer.update(n=len(a.bytes()), head=a.head_bytes()))
    wait_for("one whole answer", lambda: answer)
    cuts = [0, 1, 9, 13, answer["head"] // 2, answer["head"] - 2, answer["head"] - 1, answer["head"], answer["head"] + 1, answer["n"] - 1]
    for n in cuts:
        happened(s.proxy.fault(method="GET", path=HEAD, before=whole, cut_answer=n))
        assert s.host.version() == "v1"
    for n in (0, 1, 100):
        happened(s.proxy.fault(method="GET", path=HEAD, cut_request=n))
    s.host.assign("v2")
    s.settle()
    assert s.host.history()[0]["outcome"] == "done"


def test_connections_that_died_while_idle(scene):
    s = scene.served()
    for _ in range(5):
        n = len(s.proxy.requests("GET", HEAD))
        s.proxy.cut()
        wait_for("the next poll", lambda: len(s.proxy.requests("GET", HEAD)) > n)
        assert s.host.status()["store_ok"]


@pytest.mark.parametrize("what", [
    {"cut_request": 0}, {"cut_request": 50}, {"drop_answer": True}, {"cut_answer": 12}, {"repeat": 1},
    {"after": lambda q, a: (500, "InternalError")}, {"after": lambda q, a: (503, "SlowDown")},
    {"status": 409, "code": "ConditionalRequestConflict"}, {"status": 500, "code": "InternalError"}, {"status": 503, "code": "SlowDown"},
    {"status": 400, "code": "RequestTimeout"}, {"status": 412, "code": "PreconditionFailed"},
], ids=["cut-0", "cut-50", "lost", "torn", "repeated", "500-after", "503-after", "409", "500", "503", "timeout", "412"])
def test_writes_of_a_deploy_go_wrong_once(scene, what):
    """Each conditional write of a deploy is disturbed once: it is known afterwards who holds the lane, and the deploy goes through once."""
    s = scene.served()
    faults = [s.proxy.fault(method="PUT", path=path, **what) for path in (LANE, RESULT)]
    n = len(s.host.history())
    s.host.assign("v2")
    s.settle()
    happened(faults[0])
    assert s.lane()["epoch"] == 1 and s.lane()["lost"] == 0, "nobody else ever held this lane"
    assert [d["outcome"] for d in s.host.history()[:-n]].count("done") == 1


@pytest.mark.parametrize("nth", [1, 2, 3])
def test_lost_answers_to_renewals(scene, nth):
    """A lane that is held is written again and again: each of these answers may be lost."""
    s = scene.served()
    fault = s.proxy.fault(method="PUT", path=LANE, nth=nth, drop_answer=True)
    s.host.assign("v2")
    s.settle()
    assert s.lane()["epoch"] == 1
    assert fault.n_matched >= 1


@pytest.mark.parametrize("path", [DESIRED, HEAD], ids=["desired", "head"])
@pytest.mark.parametrize("what", [{"drop_answer": True}, {"repeat": 1}, {"cut_request": 300}, {"status": 503, "code": "SlowDown"}],
                         ids=["lost", "repeated", "cut", "503"])
def test_assign_under_faults(scene, path, what):
    """The command says that it is done, and the revision has grown by one."""
    s = scene
    s.host.assign("v1")
    fault = s.proxy.fault(method="PUT", path=path, **what)
    s.host.tendril("assign", "--env", "test", "--app", "shop", "--version", "v2", env=s.through())
    assert fault.n_matched
    assert s.bucket.payload("environments/test/desired.json")["revision"] == 2
    assert s.bucket.json("environments/test/rollout.json")["revision"] == 2


def publish(s, path, label):
    """Through the proxy. What it says of a failure is one sentence, and said again by a person it goes on where it was."""
    words = ("publish", path, "--app", "shop", "--version", label)
    r = s.host.tendril(*words, env=s.through(), check=False)
    if r.returncode != 0:
        assert r.stderr.startswith("tendril publish: ") and r.stderr.count("\n") == 1, r.stderr
        s.host.tendril(*words, env=s.through())


@pytest.mark.parametrize("path", [VERSION, BUNDLE], ids=["version", "bundle"])
@pytest.mark.parametrize("what", [{"drop_answer": True}, {"repeat": 1}, {"cut_request": 300}, {"status": 503, "code": "SlowDown"}],
                         ids=["lost", "repeated", "cut", "503"])
def test_publish_under_faults(scene, path, what):
    s = scene
    fault = s.proxy.fault(method="PUT", path=path, **what)
    zip_path = noise_bundle(os.path.join(s.host.dir, "v3.zip"), 50_000)
    publish(s, zip_path, "v3")
    assert fault.n_matched
    with open(zip_path, "rb") as f:
        assert s.bucket.get("applications/shop/versions/v3/bundle") == f.read()
    assert s.bucket.payload("applications/shop/versions/v3/version.json")["label"] == "v3"


@pytest.mark.parametrize("what", [{"method": "PUT", "path": "partNumber=2", "drop_answer": True},
                                  {"method": "PUT", "path": "partNumber=1", "cut_request": 1_000_000},
                                  {"method": "PUT", "path": "partNumber=3", "status": 503, "code": "SlowDown"},
                                  {"method": "POST", "path": "uploadId", "drop_answer": True},
                                  {"method": "POST", "path": "uploads", "status": 500, "code": "InternalError"},
                                  {"method": "POST", "path": "uploadId", "before": lambda q: (200, "InternalError")}],
                         ids=["part-lost", "part-cut", "part-503", "complete-lost", "begin-500", "complete-200-error"])
def test_multipart_upload_under_faults(scene, what):
    """In parts: whatever is lost, the object is whole afterwards and no upload is left behind, or the command says that it failed."""
    s = scene
    fault = s.proxy.fault(**what)
    zip_path = noise_bundle(os.path.join(s.host.dir, "big.zip"), 30_000_000)
    publish(s, zip_path, "big")
    assert fault.n_matched
    with open(zip_path, "rb") as f:
        assert s.bucket.get("applications/shop/versions/big/bundle") == f.read()
    assert s.bucket.uploads() == []


def test_an_upload_that_fails_for_good_is_cleaned(scene):
    s = scene
    s.proxy.fault(method="PUT", path="partNumber=2", times=None, status=403, code="AccessDenied")
    zip_path = noise_bundle(os.path.join(s.host.dir, "big.zip"), 30_000_000)
    r = s.host.tendril("publish", zip_path, "--app", "shop", "--version", "big", env=s.through(), check=False)
    assert r.returncode != 0 and "AccessDenied" in r.stderr
    assert s.bucket.uploads() == []
    assert not [n for n in s.bucket.names("applications/") if "/big/" in n]


# ---- storms, silence, delays ----


def test_slow_down_storm(scene):
    """Everybody is told to slow down: asked less and less, told with the server's word, and over by itself."""
    s = scene.served()
    storm = s.proxy.fault(times=None, status=503, code="SlowDown")
    s.host.wait_silent("SlowDown")
    n, before = storm.n_matched, time.monotonic()
    time.sleep(6)  # a rate is measured
    rate = (storm.n_matched - n) / (time.monotonic() - before)
    assert rate < 2, "%.1f requests a second though told to slow down" % rate
    assert s.host.version() == "v1"
    s.proxy.clear()
    s.host.wait_answers()
    s.host.assign("v2")
    s.settle()


def test_internal_errors_in_the_middle_of_a_deploy(scene):
    s = scene.served()
    storm = s.proxy.fault(method="GET", path=BUNDLE, times=3, status=500, code="InternalError")
    s.host.assign("v2")
    happened(storm)
    assert s.host.version() == "v1"
    s.settle()


def test_slow_answers_are_waited_for(scene):
    s = scene.served()
    s.proxy.fault(path=r"environments/", times=12, delay_answer=0.7)
    s.host.assign("v2")
    s.settle()


def test_a_server_that_takes_connections_and_says_nothing(scene):
    s = scene.served()
    s.proxy.silent = True
    s.proxy.cut()
    s.host.wait_silent(seconds=150)
    assert s.host.version() == "v1"
    s.proxy.silent = False
    s.proxy.cut()
    s.host.wait_answers(120)


# ---- bytes ----


@pytest.mark.parametrize("what", [{"truncate": 20}, {"flip": 3}, {"wrong_length": 5}, {"wrong_length": -5}, {"set_headers": {"Content-Length": None}},
                                  {"set_headers": {"Content-Length": "99999999"}}, {"set_headers": {"ETag": None}}, {"truncate": 0}],
                         ids=["truncated", "flipped", "longer", "shorter", "no-length", "huge", "no-etag", "empty"])
@pytest.mark.parametrize("path", [HEAD, DESIRED], ids=["head", "desired"])
def test_documents_come_damaged(scene, path, what):
    """A document that is not what was written changes nothing; when it comes whole, all goes on."""
    s = scene.served()
    s.host.stop()
    fault = s.proxy.fault(method="GET", path=path, times=3, **what)
    s.host.start()
    happened(fault)
    assert s.host.version() == "v1" and s.host.status()["current"]["label"] == "v1"
    s.proxy.clear()
    s.host.assign("v2")
    s.settle()


def test_a_bundle_with_another_byte_is_refused(scene):
    """The length is right and the digest is not: the failure is told at verify, and a second try gets it whole."""
    s = scene.served()
    s.proxy.fault(method="GET", path=BUNDLE, times=None, flip=500)
    s.host.assign("v2")
    record = s.host.wait_ended(2)
    assert record["label"] == "v2" and record["outcome"] in ("failed", "retry"), record
    assert "SHA-256" in record["error"]
    assert s.host.version() == "v1"
    s.proxy.clear()
    s.host.tendril("deploy", "--retry", check=False)
    s.settle()


@pytest.mark.parametrize("what", [{"cut_body": 1}, {"cut_body": 3_000_000}, {"wrong_length": 1000, "times": 1}, {"drop_answer": True},
                                  {"truncate": 700_000, "times": 1}],
                         ids=["first-byte", "middle", "longer", "lost", "truncated"])
def test_ranges_of_a_bundle_are_cut(scene, what):
    """Ranges are cut: each is gone on with where it ended, and the whole is right."""
    s = scene.served()
    s.host.tendril("publish", noise_bundle(os.path.join(s.host.dir, "big.zip"), 20_000_000), "--app", "shop", "--version", "big")
    fault = s.proxy.fault(method="GET", path=BUNDLE, **{"times": 3, **what})
    s.host.assign("big")
    s.host.wait_served("big", 90)
    assert s.host.version() == "big1"
    assert fault.n_matched >= fault.times
    assert [d["outcome"] for d in s.host.history() if d["label"] == "big"][0] == "done"


def test_an_object_replaced_between_two_ranges(scene):
    """Ranges of two objects never become one file: it is noticed, and what was assigned is not served."""
    s = scene.served()
    s.host.tendril("publish", noise_bundle(os.path.join(s.host.dir, "big.zip"), 40_000_000), "--app", "shop", "--version", "big")
    with open(noise_bundle(os.path.join(s.host.dir, "other.zip"), 40_000_000, seed=2), "rb") as f:
        other = f.read()
    s.proxy.fault(method="GET", path=BUNDLE, nth=3, before=lambda request: s.bucket.put("applications/shop/versions/big/bundle", other))
    s.host.assign("big")
    record = s.host.wait_ended(2)
    assert record["label"] == "big" and record["outcome"] in ("failed", "retry"), record
    refused = [x for x in s.proxy.requests("GET", BUNDLE) if x.status == 412]
    assert refused, "ranges are asked with If-Match"
    assert s.host.version() == "v1"


def test_a_wrong_digest_is_refused_by_the_server(rgw_scene):
    """A byte of a document changes on its way up: the server notices, nothing wrong is stored, and the next try is right."""
    s = rgw_scene.served()
    fault = s.proxy.fault(method="PUT", path=LANE, times=2, flip_request=20)
    s.host.assign("v2")
    s.settle()
    assert [x.status for x in s.proxy.requests("PUT", LANE) if x.fault] == [400] * fault.times


@pytest.mark.parametrize("size", [100_000, 30_000_000], ids=["one-put", "parts"])
def test_a_bundle_that_changes_on_its_way_up(rgw_scene, size):
    s = rgw_scene
    s.proxy.fault(method="PUT", path=BUNDLE if size < 1_000_000 else "partNumber=2", flip_request=70_000)
    zip_path = noise_bundle(os.path.join(s.host.dir, "v3.zip"), size)
    r = s.host.tendril("publish", zip_path, "--app", "shop", "--version", "v3", env=s.through(), check=False)
    if r.returncode == 0:
        with open(zip_path, "rb") as f:
            assert s.bucket.get("applications/shop/versions/v3/bundle") == f.read()
    else:
        assert "Digest" in r.stderr or "SHA256" in r.stderr, r.stderr
        assert s.bucket.get("applications/shop/versions/v3/version.json") is None
    assert s.bucket.uploads() == []


# ---- clocks ----


@pytest.mark.parametrize("minutes", [20, -20])
def test_clocks_that_differ(scene, minutes):
    """The server's clock is learned from its answers; all goes on, and status tells by how much they differ."""
    s = scene
    s.proxy.clock = 60 * minutes
    s.host.start()
    s.host.deploy("v1")
    s.host.assign("v2")
    s.settle()
    text = s.host.tendril("status").stdout + s.host.explain() + s.host.tendril("explain", "credentials").stdout
    assert "clock" in text, text
    refused = [x for x in s.proxy.requests() if x.status == 403]
    assert 1 <= len(refused) <= 8, "the correction is kept: %d requests were refused" % len(refused)
    s.host.tendril("publish", noise_bundle(os.path.join(s.host.dir, "v3.zip"), 1000), "--app", "shop", "--version", "v3", env=s.through())


def test_a_clock_that_a_real_server_refuses(make_host, make_proxy, rgw_bucket):
    """RGW checks x-amz-date itself: the first signature is of another hour, and the answer's Date puts it right."""
    proxy = make_proxy(rgw_bucket.server)
    proxy.fault(method="GET", times=1, status=403, code="RequestTimeTooSkewed", set_headers={"Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())})
    host = make_host(rgw_bucket, endpoint=proxy.endpoint).start()
    host.web("v1")
    host.deploy("v1")


# ---- servers that lie ----


def strip_conditions(proxy):
    return proxy.fault(method="PUT|DELETE", when=lambda q: q.get("If-Match") or q.get("If-None-Match"), times=None, strip=("If-Match", "If-None-Match"))


def test_a_server_that_ignores_conditions(scene):
    """It takes the header and lets two win: nothing is coordinated there, with words, and what runs goes on."""
    s = scene.served()
    s.host.stop()
    strip_conditions(s.proxy)
    s.host.start()
    s.host.assign("v2")
    text = s.host.wait_told("condition", seconds=40)
    assert "v2" not in (s.host.version() or ""), text
    assert s.host.version() == "v1"
    r = s.host.tendril("init", "--store", s.bucket.url + "-new", env=s.through(), check=False)
    assert r.returncode != 0 and "condition" in r.stderr
    s.proxy.clear()
    s.host.stop()
    s.host.start()
    s.settle()


def test_etags_without_quotes_are_learned(rgw_scene):
    """This server refuses every quoted ETag: it is noticed once, and from then on no write is tried twice for it."""
    s = rgw_scene.served()
    s.host.assign("v2")
    s.settle()
    matches = [x for x in s.proxy.requests("PUT") if x.request.get("If-Match")]
    quoted = [x for x in matches if x.request.get("If-Match").startswith('"')]
    bare = [x for x in matches if x not in quoted and "/selftest/" not in x.request.path]
    assert len(quoted) <= 2 and bare and all(x.status == 200 for x in bare), (quoted, bare)


@pytest.mark.parametrize("status, code", [(400, "AuthorizationHeaderMalformed"), (301, "PermanentRedirect"), (307, "TemporaryRedirect")])
def test_another_region(scene, make_proxy, status, code):
    """The bucket is in another region than configured: signed for that one from then on; where `Location` points is never asked."""
    s = scene
    trap = make_proxy(s.bucket.server)

    def elsewhere(request):
        if "/eu-central-1/s3/" in (request.get("Authorization") or ""):
            return None
        answer = error_document(status, code, Region="eu-central-1")
        answer.set("x-amz-bucket-region", "eu-central-1")
        answer.set("Location", trap.endpoint + request.path)
        return answer

    s.proxy.fault(times=None, before=elsewhere)
    s.served()
    n = len([x for x in s.proxy.requests() if x.status == status])
    assert n <= 3, "the region is remembered"
    s.host.assign("v2")
    s.settle()
    assert len([x for x in s.proxy.requests() if x.status == status]) <= n + 3
    assert trap.seen == []


def test_answers_that_are_not_s3(scene):
    """A captive portal or a balancer answers HTML, or no HTTP: told, and nothing changes."""
    s = scene.served()
    page = b"<html><body>sign in</body></html>"
    portal = s.proxy.fault(times=None, after=lambda q, a: Message("HTTP/1.1 200 OK", [("Content-Type", "text/html"), ("Content-Length", str(len(page)))],
                                                                b"" if q.method == "HEAD" else page))
    s.host.wait_silent()
    assert s.host.version() == "v1"
    s.proxy.clear(portal)
    s.host.wait_answers()
    noise = s.proxy.fault(times=None, after=lambda q, a: Message("\0\1\2 not http at all", [], b""))
    s.host.wait_silent()
    assert s.host.version() == "v1"
    s.proxy.clear(noise)
    s.host.wait_answers()
    s.host.assign("v2")
    s.settle()


# ---- deaths ----


def net_pid(host):
    with open("/proc/%d/task/%d/children" % (host.agent.pid, host.agent.pid)) as f:
        for pid in f.read().split():
            with open("/proc/%s/comm" % pid) as name:
                if name.read().strip().startswith("tendril-net"):
                    return int(pid)
    return None


@pytest.mark.parametrize("path", [LANE, RESULT, BUNDLE, HEAD], ids=["lane", "result", "bundle", "head"])
def test_tendril_net_killed_under_a_call(scene, path):
    """What it had done is unknown, and found out: the deploy goes through, and nobody else ever had the lane."""
    s = scene.served()
    killed = []

    def kill(request, answer):
        pid = net_pid(s.host)
        if pid:
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    s.proxy.fault(method="GET" if path in (BUNDLE, HEAD) else "PUT", path=path, after=kill)
    s.host.assign("v2")
    s.settle()
    assert killed
    tries = [d for d in s.host.history() if d["label"] == "v2"]
    assert s.lane()["epoch"] == len(tries) <= 2 and s.lane()["lost"] == 0
    assert s.host.status()["store_ok"]


def test_the_agent_killed_under_a_fetch_goes_on_where_it_was(scene):
    """Ranges that were whole are not fetched again."""
    s = scene.served()
    size = 60_000_000
    s.host.tendril("publish", noise_bundle(os.path.join(s.host.dir, "big.zip"), size), "--app", "shop", "--version", "big")
    size = len(s.bucket.get("applications/shop/versions/big/bundle"))
    slow = s.proxy.fault(method="GET", path=BUNDLE, nth=7, times=None, delay=600)
    s.host.assign("big")
    wait_for("six ranges came", lambda: slow.n_matched > 6 and len(answered(s.proxy, 0)) >= 6, 60)
    looks = []
    wait_for("all that came is on disk", lambda: looks.append(incoming(s.host)) or looks[-1] == looks[-2:][0] and len(looks) > 1, 20, every=0.5)
    s.host.kill()
    s.proxy.clear(slow)
    s.proxy.cut()
    before, n = sum(range_bytes(x.request, size) for x in answered(s.proxy, 0)), len(s.proxy.requests("GET", BUNDLE))
    s.host.start()
    s.host.wait_served("big", 90)
    again = sum(range_bytes(x.request, size) for x in answered(s.proxy, n))
    assert again <= size - before + 2 * 8 * 1024 * 1024, "%d of %d bytes came before, %d after" % (before, size, again)


def incoming(host):
    folder = host.path("var/lib/tendril/incoming")
    return [(n, os.stat(os.path.join(folder, n)).st_mtime_ns) for n in sorted(os.listdir(folder))]


def answered(proxy, first):
    """The whole answers to requests for a part of the bundle."""
    return [x for x in proxy.requests("GET", BUNDLE)[first:] if x.status in (200, 206)]


def range_bytes(request, size):
    text = request.get("Range")
    if not text:
        return size
    first, last = text.split("=")[1].split("-")
    return min(int(last or size - 1), size - 1) - int(first) + 1


def test_a_laptop_killed_under_a_publish(scene):
    """Nothing half is published; said again it is."""
    s = scene
    zip_path = noise_bundle(os.path.join(s.host.dir, "big.zip"), 40_000_000)
    s.proxy.fault(method="PUT", path="partNumber=3", delay=60)
    p = subprocess.Popen([os.path.join(BUILD, "tendril"), "publish", zip_path, "--app", "shop", "--version", "big"],
                         env=s.host.environment_of(laptop=True, more=s.through()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("parts go up", lambda: s.proxy.requests("PUT", "partNumber="), 30)
    p.kill()
    p.wait()
    s.proxy.cut()
    assert s.bucket.get("applications/shop/versions/big/version.json") is None
    s.host.tendril("publish", zip_path, "--app", "shop", "--version", "big")
    with open(zip_path, "rb") as f:
        assert s.bucket.get("applications/shop/versions/big/bundle") == f.read()


def test_a_hostile_name_in_a_list(scene):
    """Keys that no agent writes (dots, control characters, very long) are passed over, whatever a page says."""
    s = scene
    for name in ("applications/shop/versions/../x/version.json", "applications/shop/versions/a b/version.json",
                 "applications/shop/versions//version.json", "applications/shop/versions/" + "y" * 300 + "/version.json"):
        s.bucket.put(name, b"{}")
    r = s.host.tendril("versions", "--app", "shop", env=s.through())
    assert "v1" in r.stdout and "v2" in r.stdout


