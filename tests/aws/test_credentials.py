"""Where credentials come from, and what becomes of all when they end, are refused, or nobody has any."""

import json
import os

import pytest

from world import noise_bundle

NONE = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


def token_of(request):
    return request.get("x-amz-security-token")


def on_role(scene_host, imds):
    """The agent has its credentials of IMDS alone."""
    scene_host.agent_environment.update({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": None, **imds.environment})


def test_an_expired_token_is_exchanged(scene, imds):
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, token="first")
    on_role(s.host, imds)
    s.served()
    assert all(token_of(x.request) == "first" for x in s.proxy.requests() if x.request.get("x-amz-date"))
    s.proxy.fault(times=None, when=lambda q: token_of(q) == "first", status=400, code="ExpiredToken")
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, token="second")
    s.host.assign("v2")
    s.settle()
    assert token_of(s.proxy.seen[-1].request) == "second"


def test_credentials_that_end_in_the_middle_of_an_upload(scene, imds):
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, token="first")

    def end(request):
        imds.give(s.bucket.server.key_id, s.bucket.server.secret, token="second")
        s.proxy.fault(times=None, when=lambda q: token_of(q) == "first", status=400, code="ExpiredToken")
        return 400, "ExpiredToken"

    s.proxy.fault(method="PUT", path="partNumber=2", delay=11, before=end)  # they are not asked for twice in 10 s
    zip_path = noise_bundle(os.path.join(s.host.dir, "big.zip"), 40_000_000)
    env = {**NONE, "AWS_EC2_METADATA_DISABLED": None, **imds.environment, **s.through()}
    s.host.tendril("publish", zip_path, "--app", "shop", "--version", "big", env=env)
    assert {token_of(x.request) for x in s.proxy.requests("PUT", "partNumber=") if x.status == 200} == {"first", "second"}
    with open(zip_path, "rb") as f:
        assert s.bucket.get("applications/shop/versions/big/bundle") == f.read()
    assert s.bucket.uploads() == []


def test_an_expired_token_and_no_other(scene, imds):
    """What cannot be mended is told: which code the store gave, and that what runs goes on."""
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, token="first")
    on_role(s.host, imds)
    s.served()
    s.proxy.fault(times=None, status=400, code="ExpiredToken")
    s.host.wait_silent("ExpiredToken", seconds=60)
    assert s.host.version() == "v1"
    assert len(imds.paths()) < 60, "IMDS is not asked at each refusal"


def test_imds_gone_while_credentials_are_valid(scene, imds):
    """Credentials that still are valid are used on through an outage of IMDS."""
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, seconds=12 * 60)
    on_role(s.host, imds)
    s.served()
    imds.down()
    s.host.assign("v2")
    s.settle()
    assert s.host.status()["store_ok"]


def test_imds_answers_with_expired_credentials(scene, imds):
    """As AWS's own SDKs do: they are used on, as the service that gives them knows best."""
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, seconds=-60)
    on_role(s.host, imds)
    s.served()
    s.host.assign("v2")
    s.settle()


@pytest.mark.parametrize("how, words", [("gone", ()), ("slow", ()), ("off", ("403",)), ("hop_limit", ("hop",)), ("no_role", ("role",)), ("failed_code", ())])
def test_no_credentials_in_words(scene, imds, how, words):
    """Without credentials nothing is asked of the store; explain says which sources were tried, and what each said."""
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, code="Failed" if how == "failed_code" else "Success")
    on_role(s.host, imds)
    if how == "gone":
        imds.down()
    elif how == "slow":
        imds.delay = 5
    elif how == "no_role":
        imds.role = None
    elif how != "failed_code":
        setattr(imds, how, True)
    s.host.start()
    text = s.host.wait_silent(*words, seconds=60)
    assert "credential" in text.lower(), text
    told = s.host.tendril("explain", "credentials").stdout
    assert "environment" in told and all(w in told.lower() for w in words), told
    assert not s.proxy.requests(path="environments/"), "nothing is asked unsigned"


def test_imds_forgets_its_tokens(scene, imds):
    """401: a new session token, once, and on."""
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, seconds=60, token="first")  # ends soon: asked for again all the time
    on_role(s.host, imds)
    s.served()
    imds.forget_tokens()
    imds.give(s.bucket.server.key_id, s.bucket.server.secret, token="second")
    s.proxy.fault(times=None, when=lambda q: token_of(q) == "first", status=400, code="ExpiredToken")
    s.host.assign("v2")
    s.settle()
    assert 401 in [a.status for a in imds.asked]
    assert imds.most_at_once <= 2


def test_slow_imds_is_waited_for(scene, imds):
    s = scene
    imds.give(s.bucket.server.key_id, s.bucket.server.secret)
    imds.delay = 0.4
    on_role(s.host, imds)
    s.served()


# ---- sources ----


def test_shared_file_and_profile(make_host, rgw_bucket):
    host = make_host(rgw_bucket)
    host.web("v1")
    path = os.path.join(host.dir, "credentials")
    with open(path, "w") as f:
        f.write("[default]\naws_access_key_id = WRONG\naws_secret_access_key = WRONG\n\n[ci]\naws_access_key_id = %s\naws_secret_access_key = %s\n"
                % (host.server.key_id, host.server.secret))
    assert "v1" in host.tendril("versions", "--app", "shop", env={**NONE, "AWS_SHARED_CREDENTIALS_FILE": path, "AWS_PROFILE": "ci"}).stdout
    r = host.tendril("versions", "--app", "shop", env={**NONE, "AWS_SHARED_CREDENTIALS_FILE": path}, check=False)
    assert r.returncode != 0 and "InvalidAccessKeyId" in r.stderr
    r = host.tendril("versions", "--app", "shop", env={**NONE, "AWS_SHARED_CREDENTIALS_FILE": path, "AWS_PROFILE": "nobody"}, check=False)
    assert r.returncode != 0 and "nobody" in r.stderr


def test_credential_process(make_host, rgw_bucket):
    host = make_host(rgw_bucket)
    host.web("v1")
    config, answer = os.path.join(host.dir, "config"), os.path.join(host.dir, "answer.json")
    with open(answer, "w") as f:
        json.dump({"Version": 1, "AccessKeyId": host.server.key_id, "SecretAccessKey": host.server.secret}, f)
    with open(config, "w") as f:
        f.write("[profile ci]\ncredential_process = /bin/cat %s\n" % answer)
    env = {**NONE, "AWS_CONFIG_FILE": config, "AWS_PROFILE": "ci"}
    assert "v1" in host.tendril("versions", "--app", "shop", env=env).stdout
    with open(answer, "w") as f:
        f.write("{")
    r = host.tendril("versions", "--app", "shop", env=env, check=False)
    assert r.returncode != 0 and "/bin/cat" in r.stderr


def test_container_endpoint(make_host, rgw_bucket, imds):
    """The endpoint of ECS and EKS, with its token from a file."""
    host = make_host(rgw_bucket)
    host.web("v1")
    imds.give(host.server.key_id, host.server.secret)
    imds.container = "Bearer of-the-task"
    token = os.path.join(host.dir, "token")
    with open(token, "w") as f:
        f.write("Bearer of-the-task")
    env = {**NONE, "AWS_CONTAINER_CREDENTIALS_FULL_URI": imds.endpoint + "/container/credentials", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": token}
    assert "v1" in host.tendril("versions", "--app", "shop", env=env).stdout
    with open(token, "w") as f:
        f.write("another")
    r = host.tendril("versions", "--app", "shop", env=env, check=False)
    assert r.returncode != 0 and "container" in r.stderr and "of-the-task" not in r.stderr


def test_a_source_that_fails_is_not_passed_over(make_host, rgw_bucket, imds):
    """Half of the variables, or a file that is not there: told, and no weaker source takes its place in silence."""
    host = make_host(rgw_bucket)
    imds.give(host.server.key_id, host.server.secret)
    env = {"AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": None, **imds.environment}
    r = host.tendril("versions", "--app", "shop", env=env, check=False)
    assert r.returncode != 0 and "AWS_SECRET_ACCESS_KEY" in r.stderr
    env = {**NONE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/no/such/file", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/x", "AWS_EC2_METADATA_DISABLED": None,
           **imds.environment}
    r = host.tendril("versions", "--app", "shop", env=env, check=False)
    assert r.returncode != 0 and "/no/such/file" in r.stderr


def test_explain_credentials_of_a_role(scene, imds):
    s = scene
    imds.give("AKIDOFTHEROLE1234", "SECRETOFTHEROLE", seconds=3600)
    on_role(s.host, imds)
    s.served()
    text = s.host.tendril("explain", "credentials").stdout
    assert "instance role tendril-role" in text and "****1234" in text
    assert imds.credentials["Expiration"] in text
    assert "SECRETOFTHEROLE" not in text and "AKIDOFTHEROLE" not in text and "token-of-the-role" not in text
