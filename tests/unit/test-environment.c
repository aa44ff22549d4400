#include "settings/environment.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/str.h"
#include "store/document.h"

#define ENV  "aws:elasticbeanstalk:application:environment"
#define APP  "aws:elasticbeanstalk:application"
#define PROC "aws:elasticbeanstalk:environment:process:default"
#define CMD  "aws:elasticbeanstalk:command"

typedef struct Setting {
        const char *ns, *option, *value;
} Setting;

static JsonArray make_settings(const Setting *rows, size_t n) {
        JsonArray settings = { 0 };
        SettingDocument *setting;
        size_t i;

        for (i = 0; i < n; i++) {
                setting = json_array_add(&settings, &setting_document_table, LIMIT_SETTINGS);
                assert_non_null(setting);
                setting->ns = strdup(rows[i].ns);
                setting->option = strdup(rows[i].option);
                setting->value = strdup(rows[i].value);
        }
        return settings;
}

static void settings_done(JsonArray *settings) {
        SettingDocument *setting = settings->items;
        size_t i;

        for (i = 0; i < settings->n; i++)
                json_table_done(&setting_document_table, setting + i);
        free(settings->items);
        *settings = (JsonArray){ 0 };
}

#define SETTINGS(name, ...)                                                                        \
        const Setting name##_rows[] = { __VA_ARGS__ };                                             \
        _cleanup_(settings_done) JsonArray name = make_settings(name##_rows, ELEMENTS(name##_rows))

static Config *make_config(const char *text) {
        _cleanup_(error_freep) Error *err = NULL;
        Config *config = NULL;

        if (config_parse(text, strlen(text), "test", &config, &err) < 0)
                fail_msg("%s", error_text(err));
        return config;
}

/* ---- properties ---- */

static void assigned_properties_win(void **state) {
        _cleanup_(config_freep) Config *config =
                make_config("application: {environment: {A: host, B: host, C: host}}");
        _cleanup_(json_map_done) JsonMap map = { 0 };
        SETTINGS(settings, { ENV, "B", "first" }, { APP, "Application Healthcheck URL", "/" },
                 { ENV, "B", "second" }, { ENV, "C", "" }, { ENV, "_d9", "x=y\nz" });

        (void) state;
        assert_int_equal(environment_properties(config, &settings, &map, NULL), 0);
        assert_int_equal(map.n, 4);
        assert_string_equal(json_map_get(&map, "A"), "host");
        assert_string_equal(json_map_get(&map, "B"), "second");
        assert_string_equal(json_map_get(&map, "C"), "");
        assert_string_equal(json_map_get(&map, "_d9"), "x=y\nz");
}

static void names_that_no_shell_takes(void **state) {
        static const char *const bad[] = {
                "9A", "A-B", "A B", "A=B", "A.B", "\xc3\xa4", "a\033[m"
        };
        _cleanup_(config_freep) Config *config = make_config("");
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                JsonMap map = { 0 };
                SETTINGS(settings, { ENV, "GOOD", "1" }, { ENV, bad[i], "1" });

                assert_int_equal(environment_properties(config, &settings, &map, &err), -EINVAL);
                assert_null(map.pairs);
                assert_non_null(strstr(error_text(err), "setting " ENV " \""));
                assert_null(strchr(error_text(err), '\033'));
        }
}

static void too_many_properties(void **state) {
        _cleanup_(config_freep) Config *config = make_config("");
        _cleanup_(settings_done) JsonArray settings = { 0 };
        _cleanup_(error_freep) Error *err = NULL;
        JsonMap map = { 0 };
        SettingDocument *setting;
        int i;

        (void) state;
        for (i = 0; i <= LIMIT_SETTINGS; i++) {
                setting = json_array_add(&settings, &setting_document_table, LIMIT_SETTINGS + 1);
                assert_non_null(setting);
                setting->ns = strdup(ENV);
                setting->option = str_format("N%d", i);
                setting->value = strdup("");
        }
        assert_int_equal(environment_properties(config, &settings, &map, &err), -E2BIG);
        assert_string_equal(error_text(err), "more than 2048 environment properties");
        assert_null(map.pairs);
}

/* ---- options ---- */

static void without_settings_the_configuration_counts(void **state) {
        _cleanup_(config_freep) Config *config =
                make_config("gate: {path: /up, status: 200-204, consecutive: 4, interval: 2s, "
                            "check_timeout: 3s, timeout: 100s}\n"
                            "application: {overlap: all}\nhooks: {timeout: 77s}\n");
        _cleanup_(effective_done) Effective effective = { 0 };
        JsonArray none = { 0 };

        (void) state;
        assert_int_equal(effective_make(config, &none, &effective, NULL), 0);
        assert_string_equal(effective.gate_path, "/up");
        assert_string_equal(effective.gate_status, "200-204");
        assert_int_equal(effective.gate_consecutive, 4);
        assert_int_equal(effective.gate_interval_usec, SEC(2));
        assert_int_equal(effective.gate_check_usec, SEC(3));
        assert_int_equal(effective.gate_timeout_usec, SEC(100));
        assert_int_equal(effective.overlap, OVERLAP_ALL);
        assert_int_equal(effective.command_usec, SEC(77));
        assert_int_equal(effective.insisted_port, 0);
        assert_null(effective.warnings);
}

static void settings_win(void **state) {
        _cleanup_(config_freep) Config *config = make_config("");
        _cleanup_(effective_done) Effective effective = { 0 };
        SETTINGS(settings, { PROC, "HealthCheckPath", "/old" },
                 { PROC, "HealthCheckPath", "/new?x=1" },
                 { APP, "Application Healthcheck URL", "/app" },
                 { PROC, "MatcherHTTPCode", "200,302" }, { SETTINGS_NS_DEPLOY, "Overlap", "none" },
                 { SETTINGS_NS_DEPLOY, "GateTimeout", "2m" },
                 { SETTINGS_NS_DEPLOY, "GateConsecutive", "7" }, { CMD, "Timeout", "1200" },
                 { ENV, "PORT", "8080" });

        (void) state;
        assert_int_equal(effective_make(config, &settings, &effective, NULL), 0);
        assert_string_equal(effective.gate_path, "/new?x=1");
        assert_string_equal(effective.gate_status, "200,302");
        assert_int_equal(effective.gate_consecutive, 7);
        assert_int_equal(effective.gate_timeout_usec, SEC(120));
        assert_int_equal(effective.overlap, OVERLAP_NONE);
        assert_int_equal(effective.command_usec, SEC(1200));
        assert_int_equal(effective.insisted_port, 8080);
        assert_null(effective.warnings);
}

static void forms_of_the_application_url(void **state) {
        static const struct {
                const char *value;
                const char *path; /* NULL: refused */
        } rows[] = {
                { "/health", "/health" },
                { "HTTP:80/health", "/health" },
                { "https:443/health", "/health" },
                { "TCP:80", "/configured" },
                { "", "/configured" },
                { "health", NULL },
                { "HTTP:/health", NULL },
                { "HTTP:123456/health", NULL },
                { "HTTP:80health", NULL },
                { "GOPHER:70/x", NULL },
                { "/a b", NULL },
                { "/a\r\nHost: x", NULL },
        };
        _cleanup_(config_freep) Config *config = make_config("gate: {path: /configured}");
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(effective_done) Effective effective = { 0 };
                SETTINGS(settings, { APP, "Application Healthcheck URL", rows[i].value });

                assert_int_equal(effective_make(config, &settings, &effective, NULL),
                                 rows[i].path ? 0 : -EINVAL);
                if (rows[i].path)
                        assert_string_equal(effective.gate_path, rows[i].path);
                else
                        assert_null(effective.gate_path);
        }
}

static void wrong_values_are_named(void **state) {
        static const struct {
                Setting setting;
                const char *sentence;
        } rows[] = {
                { { PROC, "HealthCheckPath", "up" },
                  "setting " PROC " HealthCheckPath: \"up\" is not allowed; allowed: a path that "
                  "begins with \"/\"" },
                { { PROC, "MatcherHTTPCode", "2xx" },
                  "setting " PROC " MatcherHTTPCode: \"2xx\" is not allowed; allowed: HTTP status "
                  "codes (\"200\", \"200,302\", \"200-399\")" },
                { { CMD, "Timeout", "0" },
                  "setting " CMD
                  " Timeout: \"0\" is not allowed; allowed: seconds from 1 to 3600" },
                { { CMD, "Timeout", "3601" },
                  "setting " CMD
                  " Timeout: \"3601\" is not allowed; allowed: seconds from 1 to 3600" },
                { { SETTINGS_NS_DEPLOY, "Overlap", "Web" },
                  "setting tendril:deploy Overlap: \"Web\" is not allowed; allowed: web, all, "
                  "none" },
                { { SETTINGS_NS_DEPLOY, "GateTimeout", "soon" },
                  "setting tendril:deploy GateTimeout: \"soon\" is not allowed; allowed: 1s to "
                  "1d" },
                { { SETTINGS_NS_DEPLOY, "GateTimeout", "10ms" },
                  "setting tendril:deploy GateTimeout: \"10ms\" is not allowed; allowed: 1s to "
                  "1d" },
                { { SETTINGS_NS_DEPLOY, "GateConsecutive", "0" },
                  "setting tendril:deploy GateConsecutive: \"0\" is not allowed; allowed: 1 to "
                  "100" },
                { { SETTINGS_NS_DEPLOY, "GateConsecutive", "-1" },
                  "setting tendril:deploy GateConsecutive: \"-1\" is not allowed; allowed: 1 to "
                  "100" },
                { { ENV, "PORT", "web" },
                  "setting " ENV " PORT: \"web\" is not allowed; allowed: a port from 1 to 65535" },
                { { ENV, "PORT", "65536" },
                  "setting " ENV
                  " PORT: \"65536\" is not allowed; allowed: a port from 1 to 65535" },
        };
        _cleanup_(config_freep) Config *config = make_config("");
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_(error_freep) Error *err = NULL;
                Effective effective = { 0 };
                SETTINGS(settings, { PROC, "HealthCheckPath", "/x" },
                         { SETTINGS_NS_DEPLOY, "Typo", "" },
                         { APP, "Application Healthcheck URL", "/y" },
                         { rows[i].setting.ns, rows[i].setting.option, rows[i].setting.value });

                assert_int_equal(effective_make(config, &settings, &effective, &err), -EINVAL);
                assert_string_equal(error_text(err), rows[i].sentence);
                assert_null(effective.gate_path);
                assert_null(effective.warnings);
        }
}

static void a_port_of_the_host_is_named_too(void **state) {
        _cleanup_(config_freep) Config *config =
                make_config("application: {environment: {PORT: many}}");
        _cleanup_(error_freep) Error *err = NULL;
        Effective effective = { 0 };
        JsonArray none = { 0 };
        SETTINGS(settings, { ENV, "PORT", "" });

        (void) state;
        assert_int_equal(effective_make(config, &none, &effective, &err), -EINVAL);
        assert_string_equal(error_text(err),
                            "setting application.environment PORT: \"many\" is not "
                            "allowed; allowed: a port from 1 to 65535");
        /* An empty one of the environment takes it back. */
        assert_int_equal(effective_make(config, &settings, &effective, NULL), 0);
        assert_int_equal(effective.insisted_port, 0);
        effective_done(&effective);
}

static void unknown_options_are_told_and_others_are_not(void **state) {
        _cleanup_(config_freep) Config *config = make_config("");
        _cleanup_(effective_done) Effective effective = { 0 };
        SETTINGS(settings, { PROC, "HealthCheckpath", "/x" }, { PROC, "HealthCheckInterval", "15" },
                 { CMD, "DeploymentPolicy", "Rolling" }, { "aws:elb:policies", "Whatever", "x" },
                 { "mine", "own", "x" }, { SETTINGS_NS_DEPLOY, "Overlapp\033[2J", "web" });

        (void) state;
        assert_int_equal(effective_make(config, &settings, &effective, NULL), 0);
        assert_int_equal(strv_count(effective.warnings), 2);
        assert_string_equal(effective.warnings[0],
                            "setting " PROC
                            " \"HealthCheckpath\" is not known here and not acted on");
        assert_string_equal(
                effective.warnings[1],
                "setting tendril:deploy \"Overlapp?[2J\" is not known here and not acted "
                "on");
        assert_string_equal(effective.gate_path, "/");
}

static void warnings_are_bounded(void **state) {
        _cleanup_(config_freep) Config *config = make_config("");
        _cleanup_(settings_done) JsonArray settings = { 0 };
        _cleanup_(effective_done) Effective effective = { 0 };
        SettingDocument *setting;
        int i;

        (void) state;
        for (i = 0; i < 200; i++) {
                setting = json_array_add(&settings, &setting_document_table, 200);
                assert_non_null(setting);
                setting->ns = strdup(CMD);
                setting->option = str_format("Unknown%d", i);
                setting->value = strdup("");
        }
        assert_int_equal(effective_make(config, &settings, &effective, NULL), 0);
        assert_int_equal(strv_count(effective.warnings), 64);
}

/* ---- the environment of a process ---- */

static bool has(char *const *env, const char *variable) {
        return strv_contains(env, variable);
}

static void defaults_properties_and_extra(void **state) {
        char leader[] = "EB_IS_COMMAND_LEADER=true", hook[] = "TENDRIL_HOOK=x",
             a[] = "A=of the deploy";
        char *const extra[] = { leader, hook, a, NULL };
        _cleanup_(json_map_done) JsonMap properties = { 0 };
        _cleanup_(strv_freep) char **env = NULL;
        EnvironmentSpec spec = {
                .home = "/home/x", .port = 61001, .properties = &properties, .extra = extra
        };

        (void) state;
        assert_int_equal(json_map_set(&properties, 9, "A", "1"), 0);
        assert_int_equal(json_map_set(&properties, 9, "LANG", "de_DE.UTF-8"), 0);
        assert_int_equal(json_map_set(&properties, 9, "TENDRIL_HOOK", "forged"), 0);
        assert_int_equal(json_map_set(&properties, 9, "EMPTY", ""), 0);

        env = environment_build(&spec);
        assert_non_null(env);
        assert_true(has(env, "HOME=/home/x"));
        assert_true(has(env, "PATH=" ENVIRONMENT_PATH));
        assert_true(has(env, "PORT=61001"));
        assert_true(has(env, "LANG=de_DE.UTF-8"));
        assert_true(has(env, "EMPTY="));
        assert_true(has(env, "EB_IS_COMMAND_LEADER=true"));
        assert_true(has(env, "TENDRIL_HOOK=x"));
        assert_true(has(env, "A=of the deploy"));
        assert_int_equal(strv_count(env), 8);
}

static void a_user_set_port_stays(void **state) {
        _cleanup_(json_map_done) JsonMap properties = { 0 };
        _cleanup_(strv_freep) char **env = NULL, **bare = NULL;
        EnvironmentSpec spec = { .port = 61001, .path = "/bin", .properties = &properties };
        EnvironmentSpec nothing = { 0 };

        (void) state;
        assert_int_equal(json_map_set(&properties, 9, "PORT", "8080"), 0);
        env = environment_build(&spec);
        assert_non_null(env);
        assert_true(has(env, "PORT=8080"));
        assert_true(has(env, "PATH=/bin"));
        assert_int_equal(strv_count(env), 3);

        bare = environment_build(&nothing);
        assert_int_equal(strv_count(bare), 2);
}

static void secrets_longest_first(void **state) {
        _cleanup_(json_map_done) JsonMap properties = { 0 };
        _cleanup_(strv_freep) char **secrets = NULL, **none = NULL;

        (void) state;
        assert_int_equal(json_map_set(&properties, 9, "DB_PASSWORD", "hunter"), 0);
        assert_int_equal(json_map_set(&properties, 9, "api_token", "hunter22"), 0);
        assert_int_equal(json_map_set(&properties, 9, "OLD_SECRET", "hunter"), 0);
        assert_int_equal(json_map_set(&properties, 9, "USE_KEY", "yes"), 0);
        assert_int_equal(json_map_set(&properties, 9, "EMPTY_KEY", ""), 0);
        assert_int_equal(json_map_set(&properties, 9, "DATABASE_URL", "postgres://x"), 0);

        secrets = environment_secrets(&properties);
        assert_non_null(secrets);
        assert_int_equal(strv_count(secrets), 2);
        assert_string_equal(secrets[0], "hunter22");
        assert_string_equal(secrets[1], "hunter");

        none = environment_secrets(NULL);
        assert_non_null(none);
        assert_null(none[0]);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(assigned_properties_win),
                cmocka_unit_test(names_that_no_shell_takes),
                cmocka_unit_test(too_many_properties),
                cmocka_unit_test(without_settings_the_configuration_counts),
                cmocka_unit_test(settings_win),
                cmocka_unit_test(forms_of_the_application_url),
                cmocka_unit_test(wrong_values_are_named),
                cmocka_unit_test(a_port_of_the_host_is_named_too),
                cmocka_unit_test(unknown_options_are_told_and_others_are_not),
                cmocka_unit_test(warnings_are_bounded),
                cmocka_unit_test(defaults_properties_and_extra),
                cmocka_unit_test(a_user_set_port_stays),
                cmocka_unit_test(secrets_longest_first),
        };

        return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
