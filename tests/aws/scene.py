"""A host behind a faulty proxy, as the tests of faults, credentials and silence have it."""

from world import wait_for

HEAD = r"/rollout\.json$"
DESIRED = r"/desired\.json$"
LANE = r"/lane/0\.json$"
RESULT = r"/host/h1\.json$"
BUNDLE = r"/bundle(\?|$)"
VERSION = r"/version\.json$"


class Scene:
    """A host behind a proxy; v1 and v2 are published, v1 is served."""

    def __init__(self, make_host, proxy, bucket, **kw):
        self.proxy, self.bucket = proxy, bucket
        self.host = make_host(bucket, endpoint=proxy.endpoint, interval=0.02, consecutive=1, drain_timeout=1, **kw)
        self.host.web("v1")
        self.host.web("v2")

    def served(self):
        self.host.start()
        self.host.deploy("v1")
        return self

    def through(self):
        """For commands that go by the proxy too."""
        return {"AWS_ENDPOINT_URL_S3": self.proxy.endpoint}

    def lane(self):
        head = self.bucket.json("environments/test/rollout.json")
        return self.bucket.json("environments/test/g/%s/lane/0.json" % head["generation"])

    def settle(self, label="v2"):
        """The faults are over: the version comes by itself, and the host is sound."""
        self.host.wait_served(label, 90)
        assert self.host.version() == label
        assert self.host.fsck()[0] == 0


def happened(fault, n=1):
    wait_for("the fault happened %d times" % n, lambda: fault.n_matched >= fault.nth + n - 1, 40)
