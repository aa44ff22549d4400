"""Fixtures: the servers, a bucket of the test's own, hosts that are taken down whatever happens."""

import os
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from imds import Imds  # noqa: E402
from proxy import Proxy  # noqa: E402
from scene import Scene  # noqa: E402
from world import S3Host, Server, Started, has_rgw  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for h in getattr(item, "hosts", []):
            report.sections.append(("agent %s" % h.name, h.log()[-6000:]))
        for p in getattr(item, "proxies", []):
            report.sections.append(("proxy", "\n".join(map(repr, p.seen[-60:]))))


@pytest.fixture(scope="session")
def started():
    with tempfile.TemporaryDirectory(prefix="tendril-aws-") as folder:
        servers = Started(folder)
        yield servers
        servers.close()


def server_of(name, started):
    there = os.environ.get("TENDRIL_TEST_" + name.upper())
    return Server(name, there) if there else started.up(name)


@pytest.fixture(scope="session")
def moto(started):
    return server_of("moto", started)


@pytest.fixture(scope="session")
def rgw(started):
    if not has_rgw() and "TENDRIL_TEST_RGW" not in os.environ:
        pytest.skip("there is no Ceph RGW here")
    return server_of("rgw", started)


@pytest.fixture(params=["moto", "rgw"])
def server(request):
    """Each test that asks for it runs on both."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def bucket(server):
    return server.bucket()


@pytest.fixture
def moto_bucket(moto):
    return moto.bucket()


@pytest.fixture
def rgw_bucket(rgw):
    return rgw.bucket()


@pytest.fixture
def make_host(request):
    hosts = request.node.hosts = []

    def make(bucket, **kw):
        h = S3Host(bucket, **kw)
        hosts.append(h)
        return h

    yield make
    for h in hosts:
        h.close()


@pytest.fixture
def make_proxy(request):
    proxies = request.node.proxies = []

    def make(server, **kw):
        p = Proxy(server.endpoint, **kw)
        proxies.append(p)
        return p

    yield make
    for p in proxies:
        p.down()


@pytest.fixture
def imds():
    with Imds() as i:
        yield i


@pytest.fixture
def scene(make_host, make_proxy, moto_bucket):
    return Scene(make_host, make_proxy(moto_bucket.server), moto_bucket)


@pytest.fixture
def rgw_scene(make_host, make_proxy, rgw_bucket):
    return Scene(make_host, make_proxy(rgw_bucket.server), rgw_bucket)
