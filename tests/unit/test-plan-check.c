#include "settings/plan.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int check(const char *text, char words[512]) {
        Error *err = NULL;
        Plan plan = { 0 };
        int r;

        assert_int_equal(json_decode(text, strlen(text), &plan_table, JSON_LENIENT, &plan, NULL),
                         0);
        r = plan_check(&plan, &err);
        (void) snprintf(words, 512, "%s", r < 0 ? error_text(err) : "");
        (void) error_free(err);
        json_table_done(&plan_table, &plan);
        return r;
}

static void test_good(void **state _unused_) {
        char words[512];

        assert_int_equal(
                check("{\"format\":1,\"kind\":\"procfile\",\"processes\":[{\"name\":\"web\","
                      "\"command\":\"x\"},"
                      "{\"name\":\"worker-1\",\"command\":\"y\"}],\"prebuild\":[\".platform/hooks/"
                      "prebuild/10-a\"],"
                      "\"proxy_http\":[\".platform/nginx/conf.d/a.conf\"],"
                      "\"proxy_server\":[\".platform/nginx/conf.d/elasticbeanstalk/a.conf\"]}",
                      words),
                0);
}

/* What a program that was taken over by a bundle could answer, so that root reads or writes
 * elsewhere. */
static void test_evil(void **state _unused_) {
        static const struct {
                const char *text, *word;
        } rows[] = {
                { "\"processes\":[{\"name\":\"../../etc/cron.d/x\",\"command\":\"x\"}]", "name" },
                { "\"processes\":[{\"name\":\"a b\",\"command\":\"x\"}]", "name" },
                { "\"processes\":[{\"name\":\"web\",\"command\":\"x\"},{\"name\":\"web\","
                  "\"command\":\"y\"}]",
                  "two processes" },
                { "\"build\":[{\"name\":\"a/b\",\"command\":\"x\"}]", "name" },
                { "\"proxy_http\":[\"../../../../etc/shadow\"]", "etc/shadow" },
                { "\"proxy_http\":[\".platform/nginx/conf.d/../../../../etc/shadow\"]",
                  "etc/shadow" },
                { "\"proxy_http\":[\".platform/nginx/conf.d//x.conf\"]", "x.conf" },
                { "\"proxy_http\":[\".platform/nginx/conf.d/./x.conf\"]", "x.conf" },
                { "\"proxy_http\":[\".platform/nginx/conf.d/x/\"]", "conf.d/x/" },
                { "\"proxy_http\":[\"/etc/shadow\"]", "/etc/shadow" },
                { "\"proxy_server\":[\".platform/nginx/conf.d/x.conf\"]", "x.conf" },
                { "\"prebuild\":[\".platform/hooks/predeploy/x\"]", "predeploy" },
                { "\"postdeploy\":[\".platform/hooks/postdeploy/a\\nb\"]", "postdeploy" },
                { "\"proxy_main\":\"/etc/passwd\"", "nginx.conf" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                char text[1024], words[512];

                (void) snprintf(text, sizeof(text), "{\"format\":1,\"kind\":\"procfile\",%s}",
                                rows[i].text);
                assert_int_equal(check(text, words), -EBADMSG);
                if (!strstr(words, rows[i].word))
                        fail_msg("'%s' is not in: %s", rows[i].word, words);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_good),
                                            cmocka_unit_test(test_evil) };

        return cmocka_run_group_tests_name("plan-check", tests, NULL, NULL);
}
