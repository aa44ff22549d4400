"""The tests' own metadata service asks for tokens as the real one does, and fails as it is told."""

import http.client
import json

import pytest

from imds import Imds

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
ROLE = "/latest/meta-data/iam/security-credentials/"


@pytest.fixture
def imds():
    with Imds() as i:
        i.give("AKIDROLE", "SECRETROLE")
        yield i


def ask(imds, path, method="GET", timeout=5, **headers):
    c = http.client.HTTPConnection("127.0.0.1", imds.port, timeout=timeout)
    try:
        c.request(method, path, headers=headers)
        r = c.getresponse()
        return r.status, r.read().decode()
    finally:
        c.close()


def token(imds, ttl="60"):
    return ask(imds, "/latest/api/token", "PUT", **{TTL: ttl})


def test_version_2_only(imds):
    assert ask(imds, ROLE)[0] == 401
    assert ask(imds, ROLE, **{TOKEN: "made-up"})[0] == 401
    assert token(imds, "0")[0] == token(imds, "21601")[0] == token(imds, "x")[0] == 400
    status, t = token(imds)
    assert status == 200
    assert ask(imds, ROLE, **{TOKEN: t}) == (200, "tendril-role")
    assert json.loads(ask(imds, ROLE + "tendril-role", **{TOKEN: t})[1])["AccessKeyId"] == "AKIDROLE"
    assert json.loads(ask(imds, "/latest/dynamic/instance-identity/document", **{TOKEN: t})[1])["instanceId"] == "i-0123456789abcdef0"
    imds.forget_tokens()
    assert ask(imds, ROLE, **{TOKEN: t})[0] == 401


def test_tags_and_user_data(imds):
    t = token(imds)[1]
    path = "/latest/meta-data/tags/instance/tendril:environment"
    assert ask(imds, path, **{TOKEN: t})[0] == ask(imds, "/latest/user-data", **{TOKEN: t})[0] == 404
    imds.tags, imds.user_data = {"tendril:environment": "blue"}, b"#cloud-config\n"
    assert ask(imds, path, **{TOKEN: t})[1] == "blue"
    assert ask(imds, "/latest/user-data", **{TOKEN: t})[1] == "#cloud-config\n"


def test_off_gone_and_the_hop_limit(imds):
    imds.off = True
    assert token(imds)[0] == 403
    imds.off, imds.hop_limit = False, True
    with pytest.raises(TimeoutError):
        ask(imds, "/latest/api/token", "PUT", 0.2, **{TTL: "60"})
    assert ask(imds, ROLE)[0] == 401
    imds.hop_limit = False
    imds.down()
    with pytest.raises(OSError):
        token(imds)
    imds.up()
    assert token(imds)[0] == 200
    assert imds.asked[-1].status == 200
