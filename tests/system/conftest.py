"""Fixtures: a host that is taken down whatever happens, and its log in the report of a failure."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from host import Host  # noqa: E402


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    for h in getattr(item, "hosts", []):
        if report.when == "call" and report.failed:
            report.sections.append(("agent %s" % h.name, h.log()[-6000:]))


@pytest.fixture
def make_host(request):
    hosts = request.node.hosts = []

    def make(**kw):
        h = Host(**kw)
        hosts.append(h)
        return h

    yield make
    for h in hosts:
        h.close()


@pytest.fixture
def host(make_host):
    return make_host()


@pytest.fixture
def agent(make_host):
    """A host whose agent runs."""
    return make_host().start()
