/* The chain of credentials and its refresh: who is asked, when, and what callers get meanwhile. */

#include "credentials-world.h"

#include <malloc.h>

/* ---- nothing that held a secret is freed as it is ---- */

#ifdef __SANITIZE_ADDRESS__
#define CAN_WATCH 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CAN_WATCH 0
#endif
#endif
#ifndef CAN_WATCH
#define CAN_WATCH 1
#endif

static volatile unsigned n_dirty; /* blocks that were freed with a secret in them */
static volatile bool watching;

#if CAN_WATCH
void __libc_free(void *memory);
void free(void *memory) {
        size_t size = memory ? malloc_usable_size(memory) : 0;

        if (watching && size > 0 && memmem(memory, size, "HIDDEN", 6))
                n_dirty++;
        /* What the tests themselves leave behind must not be found in the next owner's. */
        if (size > 0)
                explicit_bzero(memory, size);
        __libc_free(memory);
}
#endif

/* ---- the instance's role ---- */

static void test_role(_unused_ void **state) {
        static const ScriptAnswer script[] = { IMDS_TOKEN, ROLE_LIST,
                                               ROLE("0001", "2026-08-01T18:00:00Z") };
        _cleanup_(world_done) World w;
        _cleanup_(status_done) CredentialStatus s = { 0 };
        Answer a, b = { 0 }, c = { 0 };

        world_begin(&w, script, ELEMENTS(script), NULL);
        chain_begin(&w);
        s = status_of(&w);
        assert_null(s.source);
        assert_null(s.error);

        /* Three callers, one run. */
        assert_int_equal(credentials_get(w.chain, on_credentials, &b, NULL), 0);
        assert_int_equal(credentials_get(w.chain, on_credentials, &c, NULL), 0);
        a = get(&w);
        assert_int_equal(a.r, 0);
        assert_string_equal(a.key_id, "ASIAEXAMPLE0001");
        assert_string_equal(a.secret, "HIDDEN0001");
        assert_string_equal(a.token, "tokenHIDDEN0001");
        assert_true(a.ends_usec == w.realtime + SEC(6 * 3600));
        assert_int_equal(b.n_done, 1);
        assert_int_equal(c.n_done, 1);
        assert_int_equal(script_server_n_requests(w.server), 3);
        assert_int_equal(script_server_n_connections(w.server), 1);

        (void) get(&w);
        assert_int_equal(script_server_n_requests(w.server), 3);

        status_done(&s);
        s = status_of(&w);
        assert_string_equal(s.source, "instance role web-role");
        assert_string_equal(s.key_id, "****0001");
        assert_string_equal(s.ends, "2026-08-01T18:00:00Z");
        assert_string_equal(s.refreshed, NOW_TEXT);
        assert_null(s.error);
        assert_int_equal(strv_count(s.tried), 5);
        assert_string_equal(s.tried[0], "environment: AWS_ACCESS_KEY_ID is not set");
        assert_string_equal(s.tried[4], "instance role: has the role web-role");
}

static void test_role_failures(_unused_ void **state) {
        static const struct {
                ScriptAnswer list, role;
                int r;
                const char *words;
        } cases[] = {
                { { .path = ROLES, .status = 404 }, { .status = 404 }, -ENOKEY, "no role" },
                { { .path = ROLES, .body = "" }, { .status = 404 }, -ENOKEY, "no role" },
                { { .path = ROLES, .body = "../x" }, { .status = 404 }, -EBADMSG, "cannot be" },
                { { .path = ROLES, .body = ".." }, { .status = 404 }, -EBADMSG, "cannot be" },
                { { .path = ROLES, .body = "r" }, { .status = 404 }, -EAGAIN, "is gone" },
                { { .path = ROLES, .body = "r" },
                  { .body = "{\"Code\": \"AssumeRoleUnauthorizedAccess\", \"Message\": "
                            "\"HIDDEN\"}" },
                  -EAGAIN,
                  "trust policy" },
                { { .path = ROLES, .body = "r" },
                  { .body = "<html>HIDDEN" },
                  -EBADMSG,
                  "role r: not the JSON" },
                { { .path = ROLES, .status = 403 }, { .status = 404 }, -EACCES, "switched off" },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                const ScriptAnswer script[] = { IMDS_TOKEN, cases[i].list, cases[i].role };
                _cleanup_(world_done) World w;
                _cleanup_(status_done) CredentialStatus s = { 0 };
                Answer a;

                world_begin(&w, script, ELEMENTS(script), NULL);
                a = get(&w);
                if (a.r != cases[i].r || !strstr(a.error, cases[i].words))
                        fail_msg("%zu: %d %s", i, a.r, a.error);
                s = status_of(&w);
                assert_string_equal(s.error, a.error);
                assert_string_equal(s.failed, NOW_TEXT);
                assert_null(s.source);

                /* Right after a failure nobody asks again. */
                a = get(&w);
                assert_int_equal(a.r, cases[i].r);
                assert_true(script_server_n_of(w.server, "GET " ROLES " ") == 1);
        }
}

static void test_early_refresh(_unused_ void **state) {
        static const ScriptAnswer first[] = { IMDS_TOKEN, ROLE_LIST,
                                              ROLE("0001", "2026-08-01T13:00:00Z") };
        static const ScriptAnswer second[] = { IMDS_TOKEN, ROLE_LIST,
                                               ROLE("0002", "2026-08-01T14:00:00Z") };
        static const ScriptAnswer third[] = { IMDS_TOKEN, ROLE_LIST,
                                              ROLE("0003", "2026-08-01T15:00:00Z") };
        _cleanup_(world_done) World w;

        world_begin(&w, first, ELEMENTS(first), NULL);
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        script_server_set(w.server, second, ELEMENTS(second));
        pass(&w, MIN_OF(44));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        assert_null(w.chain->attempt);

        /* In the background: the old ones at once, the new ones later. */
        pass(&w, MIN_OF(5));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        settle(&w);
        assert_string_equal(get(&w).secret, "HIDDEN0002");
        assert_null(w.chain->attempt);

        /* Ten minutes before the end they are waited for. */
        script_server_set(w.server, third, ELEMENTS(third));
        pass(&w, MIN_OF(62));
        assert_string_equal(get(&w).secret, "HIDDEN0003");
}

/* What is valid is used through an outage of the service, what has ended is not. */
static void test_outage(_unused_ void **state) {
        static const ScriptAnswer well[] = { IMDS_TOKEN, ROLE_LIST,
                                             ROLE("0001", "2026-08-01T13:00:00Z") };
        static const ScriptAnswer again[] = { IMDS_TOKEN, ROLE_LIST,
                                              ROLE("0002", "2026-08-01T14:00:00Z") };
        static const ScriptAnswer ill[] = { { .status = 403 } };
        _cleanup_(world_done) World w;
        _cleanup_(status_done) CredentialStatus s = { 0 };
        Answer a;

        world_begin(&w, well, ELEMENTS(well), NULL);
        (void) get(&w);
        script_server_set(w.server, ill, ELEMENTS(ill));
        pass(&w, MIN_OF(49));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        settle(&w);
        pass(&w, MIN_OF(5));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        s = status_of(&w);
        assert_string_equal(s.source, "instance role web-role");
        assert_non_null(strstr(s.error, "403"));
        assert_string_equal(s.failed, "2026-08-01T12:54:00Z");

        pass(&w, MIN_OF(6));
        a = get(&w);
        assert_int_equal(a.r, -EACCES);
        assert_true(str_has_prefix(a.error, "the credentials from instance role web-role ended at "
                                            "2026-08-01T13:00:00Z, and there are no new ones: "));
        assert_non_null(strstr(a.error, "403"));

        script_server_set(w.server, again, ELEMENTS(again));
        pass(&w, SEC(31));
        assert_string_equal(get(&w).secret, "HIDDEN0002");
        /* The last failure stays to be seen. */
        status_done(&s);
        s = status_of(&w);
        assert_non_null(s.error);
        assert_string_equal(s.ends, "2026-08-01T14:00:00Z");
}

/* The service hands out what has ended: it has nothing better, and a server may still take them. */
static void test_static_stability(_unused_ void **state) {
        static const ScriptAnswer old[] = { IMDS_TOKEN, ROLE_LIST,
                                            ROLE("0001", "2026-08-01T11:00:00Z") };
        static const ScriptAnswer fresh[] = { IMDS_TOKEN, ROLE_LIST,
                                              ROLE("0002", "2026-08-01T18:00:00Z") };
        _cleanup_(world_done) World w;

        world_begin(&w, old, ELEMENTS(old), NULL);
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        pass(&w, MIN_OF(9));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        assert_int_equal(script_server_n_of(w.server, "GET " ROLES " "), 1);
        pass(&w, MIN_OF(11));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        assert_int_equal(script_server_n_of(w.server, "GET " ROLES " "), 2);
        script_server_set(w.server, fresh, ELEMENTS(fresh));
        pass(&w, MIN_OF(20));
        assert_string_equal(get(&w).secret, "HIDDEN0002");
}

static void test_refused(_unused_ void **state) {
        static const ScriptAnswer one[] = { IMDS_TOKEN, ROLE_LIST,
                                            ROLE("0001", "2026-08-01T18:00:00Z") };
        static const ScriptAnswer two[] = { IMDS_TOKEN, ROLE_LIST,
                                            ROLE("0002", "2026-08-01T18:00:00Z") };
        static const ScriptAnswer ill[] = { { .status = 403 } };
        _cleanup_(world_done) World w;

        world_begin(&w, one, ELEMENTS(one), NULL);
        chain_begin(&w);
        credentials_refused(w.chain); /* nothing there yet: nothing to refuse */
        (void) get(&w);
        script_server_set(w.server, two, ELEMENTS(two));
        credentials_refused(w.chain);
        assert_string_equal(get(&w).secret, "HIDDEN0002");
        assert_int_equal(script_server_n_of(w.server, "GET " ROLES " "), 2);

        credentials_refused(w.chain);
        pass(&w, SEC(9));
        (void) get(&w);
        assert_int_equal(script_server_n_of(w.server, "GET " ROLES " "), 2);
        script_server_set(w.server, ill, ELEMENTS(ill));
        pass(&w, SEC(1));
        /* None better: the old ones are all there is, and whoever asked hears the server again. */
        assert_string_equal(get(&w).secret, "HIDDEN0002");
        pass(&w, SEC(9));
        script_server_set(w.server, one, ELEMENTS(one));
        assert_string_equal(get(&w).secret, "HIDDEN0002");
        pass(&w, SEC(1));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
}

/* The own clock is 20 minutes late: credentials that seem to last have ended. */
static void test_skew(_unused_ void **state) {
        static const ScriptAnswer one[] = { IMDS_TOKEN, ROLE_LIST,
                                            ROLE("0001", "2026-08-01T12:25:00Z") };
        static const ScriptAnswer two[] = { IMDS_TOKEN, ROLE_LIST,
                                            ROLE("0002", "2026-08-01T18:00:00Z") };
        _cleanup_(world_done) World w;

        world_begin(&w, one, ELEMENTS(one), NULL);
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        script_server_set(w.server, two, ELEMENTS(two));
        assert_string_equal(get(&w).secret, "HIDDEN0001");
        credentials_set_skew(w.chain, (int64_t) MIN_OF(20));
        assert_string_equal(get(&w).secret, "HIDDEN0002");

        /* And 20 minutes early: not asked for too soon. */
        credentials_set_skew(w.chain, -(int64_t) MIN_OF(20));
        pass(&w, SEC(6 * 3600));
        assert_string_equal(get(&w).secret, "HIDDEN0002");
        assert_int_equal(script_server_n_of(w.server, "GET " ROLES " "), 2);
}

static void test_no_source(_unused_ void **state) {
        _cleanup_(world_done) World w;
        Answer a;

        world_begin(&w, NULL, 0, "http://127.0.0.1:1");
        a = get(&w);
        assert_int_equal(a.r, -ENOKEY);
        assert_non_null(strstr(a.error, "environment: AWS_ACCESS_KEY_ID is not set; web identity: "
                                        "AWS_WEB_IDENTITY_TOKEN_FILE is not set; shared files: "));
        assert_non_null(strstr(a.error, "instance role: no instance metadata service answers"));
        assert_int_equal(get(&w).r, -ENOKEY);
        pass(&w, SEC(2));
        assert_int_equal(get(&w).r, -ENOKEY);
}

/* ---- the environment ---- */

static void test_environment(_unused_ void **state) {
        static const ScriptAnswer script[] = { IMDS_TOKEN, ROLE_LIST,
                                               ROLE("0001", "2026-08-01T18:00:00Z") };
        _cleanup_(world_done) World w;
        _cleanup_(status_done) CredentialStatus s = { 0 };
        Answer a;

        world_begin(&w, script, ELEMENTS(script), NULL);
        set_env(&w, "OTHER", "HIDDEN", "");
        set_env(&w, "AWS_ACCESS_KEY_ID", "AKIAEXAMPLE", "9876");
        set_env(&w, "AWS_SECRET_ACCESS_KEY", "HIDDEN", "");
        a = get(&w);
        assert_string_equal(a.key_id, "AKIAEXAMPLE9876");
        assert_string_equal(a.secret, "HIDDEN");
        assert_string_equal(a.token, "none");
        assert_true(a.ends_usec == USEC_INFINITY);
        s = status_of(&w);
        assert_string_equal(s.source, "environment");
        assert_string_equal(s.key_id, "****9876");
        assert_null(s.ends);
        assert_int_equal(strv_count(w.chain->spec.environment), 2);

        set_env(&w, "AWS_SESSION_TOKEN", "tokenHIDDEN", "");
        chain_begin(&w);
        assert_string_equal(get(&w).token, "tokenHIDDEN");
        assert_int_equal(script_server_n_requests(w.server), 0);

        /* Half of it is a mistake, not a reason to be somebody else. */
        env_clear(&w);
        set_env(&w, "AWS_ACCESS_KEY_ID", "AKIA", "");
        chain_begin(&w);
        a = get(&w);
        assert_int_equal(a.r, -EINVAL);
        assert_string_equal(a.error, "credentials from environment: AWS_ACCESS_KEY_ID is set, and "
                                     "AWS_SECRET_ACCESS_KEY is not");
        assert_int_equal(script_server_n_requests(w.server), 0);

        env_clear(&w);
        set_env(&w, "AWS_ACCESS_KEY_ID", "AKIA", "");
        set_env(&w, "AWS_SECRET_ACCESS_KEY", "HIDDEN\nX: y", "");
        chain_begin(&w);
        assert_int_equal(get(&w).r, -EBADMSG);

        /* An empty variable is one that is not set. */
        env_clear(&w);
        set_env(&w, "AWS_ACCESS_KEY_ID", "", "");
        chain_begin(&w);
        assert_string_equal(get(&w).secret, "HIDDEN0001");
}

/* ---- callers come and go ---- */

static void test_cancelled(_unused_ void **state) {
        static const ScriptAnswer script[] = { IMDS_TOKEN, ROLE_LIST,
                                               ROLE("0001", "2026-08-01T18:00:00Z") };
        Answer a = { 0 }, b = { 0 }, c = { 0 };
        _cleanup_(world_done) World w;
        CredentialWait *wait = NULL;

        world_begin(&w, script, ELEMENTS(script), NULL);
        chain_begin(&w);
        assert_int_equal(credentials_get(w.chain, on_credentials, &a, &wait), 0);
        assert_int_equal(credentials_get(w.chain, on_credentials, &b, NULL), 0);
        assert_int_equal(credentials_get(w.chain, on_credentials, &c, &b.cancel), 0);
        assert_null(credentials_cancel(wait));
        loop_until(w.loop, &b.n_done, 1);
        assert_true(sd_event_run(w.loop, MSEC(2)) >= 0);
        assert_int_equal(a.n_done, 0);
        assert_int_equal(c.n_done, 0);
        assert_null(credentials_cancel(NULL));
}

static void test_freed_at_any_time(_unused_ void **state) {
        static const ScriptAnswer script[] = { IMDS_TOKEN, ROLE_LIST,
                                               ROLE("0001", "2026-08-01T18:00:00Z") };
        _cleanup_(world_done) World w;
        Answer a = { .free_chain = &w.chain }, b = { 0 };

        world_begin(&w, script, ELEMENTS(script), NULL);
        chain_begin(&w);
        assert_int_equal(credentials_get(w.chain, on_credentials, &a, NULL), 0);
        assert_int_equal(credentials_get(w.chain, on_credentials, &b, NULL), 0);
        loop_until(w.loop, &a.n_done, 1);
        assert_null(w.chain);
        assert_true(sd_event_run(w.loop, MSEC(2)) >= 0);
        assert_int_equal(b.n_done, 0);

        /* In the middle of each of its sources. */
        chain_begin(&w);
        assert_int_equal(credentials_get(w.chain, on_credentials, &b, NULL), 0);
        assert_true(sd_event_run(w.loop, MSEC(2)) >= 0);
        set_env(&w, "AWS_CONTAINER_CREDENTIALS_FULL_URI", script_server_url(w.server), "/x");
        chain_begin(&w);
        assert_int_equal(credentials_get(w.chain, on_credentials, &b, NULL), 0);
        assert_true(sd_event_run(w.loop, MSEC(2)) >= 0);
        set_process(&w, "#!/bin/sh\nexec sleep 100\n");
        assert_int_equal(credentials_get(w.chain, on_credentials, &b, NULL), 0);
        assert_true(sd_event_run(w.loop, MSEC(2)) >= 0);
        w.chain = credentials_free(w.chain);
        assert_int_equal(b.n_done, 0);
        assert_null(credentials_free(NULL));
}

/* Sources that read no JSON leave nothing behind, in any way to their end. */
static void test_wiped(_unused_ void **state) {
        _cleanup_(world_done) World w;
        Answer a;

        if (!CAN_WATCH)
                skip();
        world_begin(&w, NULL, 0, NULL);
        set_env(&w, "AWS_ACCESS_KEY_ID", "AKIA", "");
        set_env(&w, "AWS_SECRET_ACCESS_KEY", "HIDDEN", "");
        set_env(&w, "AWS_SESSION_TOKEN", "HIDDEN", "");
        watching = true;
        a = get(&w);
        w.chain = credentials_free(w.chain);
        watching = false;
        assert_int_equal(a.r, 0);
        assert_int_equal(n_dirty, 0);

        env_clear(&w);
        write_file(&w, "credentials",
                   "[other]\naws_secret_access_key = HIDDEN\n[default]\naws_access_key_id = A\n"
                   "aws_secret_access_key = HIDDEN\naws_secret_access_key = HIDDEN2\n",
                   0600);
        set_env(&w, "AWS_SHARED_CREDENTIALS_FILE", w.folder.path, "/credentials");
        watching = true;
        a = get(&w);
        w.chain = credentials_free(w.chain);
        watching = false;
        assert_string_equal(a.secret, "HIDDEN2");
        assert_int_equal(n_dirty, 0);

        /* The watch itself sees something. */
        watching = true;
        {
                void *volatile block = strdup("HIDDEN"); /* else there would be none */

                free(block);
        }
        watching = false;
        assert_int_equal(n_dirty, 1);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_role),
                cmocka_unit_test(test_role_failures),
                cmocka_unit_test(test_early_refresh),
                cmocka_unit_test(test_outage),
                cmocka_unit_test(test_static_stability),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_skew),
                cmocka_unit_test(test_no_source),
                cmocka_unit_test(test_environment),
                cmocka_unit_test(test_cancelled),
                cmocka_unit_test(test_freed_at_any_time),
                cmocka_unit_test(test_wiped),
        };

        return cmocka_run_group_tests_name("credentials", tests, loop_block_signals, NULL);
}
