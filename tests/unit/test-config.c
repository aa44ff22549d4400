#include "host/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"

#define CORPUS "tests/corpus/config"

static const char pem[] = "-----BEGIN PUBLIC KEY-----\n"
                          "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
                          "-----END PUBLIC KEY-----\n";

/* A root folder of its own for each test. */
typedef struct Root {
        char path[64];
        int fd;
        Paths paths;
} Root;

static void root_write(const Root *root, const char *name, const void *data, size_t size) {
        assert_int_equal(file_write_at(root->fd, name, data, size, 0600, FILE_REPLACE), 0);
}

static void root_text(const Root *root, const char *name, const char *text) {
        root_write(root, name, text, strlen(text));
}

static int setup(void **state) {
        static const char *const folders[] = { "etc/tendril/tendril.d", "keys" };
        Root *root = calloc(1, sizeof(Root));
        char large[LIMIT_KEY_BYTES + 1];
        size_t i;

        assert_non_null(root);
        (void) snprintf(root->path, sizeof(root->path), "/tmp/test-config-XXXXXX");
        assert_non_null(mkdtemp(root->path));
        root->fd = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(root->fd >= 0);
        for (i = 0; i < ELEMENTS(folders); i++) {
                _cleanup_close_ int fd = file_mkdirs_at(root->fd, folders[i], 0700);

                assert_true(fd >= 0);
        }
        assert_int_equal(paths_init(root->path, &root->paths, NULL), 0);

        memset(large, 'x', sizeof(large));
        root_text(root, "keys/good.pem", pem);
        root_text(root, "keys/private.pem", "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n");
        root_write(root, "keys/large.pem", large, sizeof(large));
        root_write(root, "keys/binary.pem", "a\0\xff", 3);
        *state = root;
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
        (void) st;
        (void) type;
        (void) ftw;
        return remove(path);
}

static int teardown(void **state) {
        Root *root = *state;

        (void) close(root->fd);
        (void) nftw(root->path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        paths_done(&root->paths);
        free(root);
        return 0;
}

/* Text with every `from` replaced; the caller frees. */
static char *replace(const char *text, size_t size, const char *from, const char *to) {
        Buf buf = BUF_INIT(1024 * 1024);
        const char *p = text, *end = text + size, *q;

        while ((q = memmem(p, (size_t) (end - p), from, strlen(from)))) {
                assert_int_equal(buf_append(&buf, p, (size_t) (q - p)), 0);
                assert_int_equal(buf_append_str(&buf, to), 0);
                p = q + strlen(from);
        }
        assert_int_equal(buf_append(&buf, p, (size_t) (end - p)), 0);
        return buf_steal(&buf);
}

static int dump(void *userdata, const char *path, const char *value, const char *source) {
        return buf_printf(userdata, "%s = %s (%s)\n", path, value, source);
}

/* What loading the root gives: a dump or a sentence, without the root in its paths. */
static char *load_text(const Root *root, char *const *env) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_(buf_done) Buf text = BUF_INIT(1024 * 1024);
        int r;

        r = config_load(&root->paths, env, &config, &err);
        if (r < 0) {
                assert_null(config);
                assert_int_equal(error_code(err), r);
                assert_int_equal(buf_printf(&text, "%s\n", error_text(err)), 0);
        } else {
                assert_null(err);
                assert_int_equal(config_visit(config, dump, &text), 0);
        }
        return replace(buf_str(&text), text.size, root->path, "");
}

#define assert_load(root, env, ...)                                                                \
        do {                                                                                       \
                _cleanup_free_ char *_text = load_text(root, env);                                 \
                assert_string_equal(_text, __VA_ARGS__);                                           \
        } while (0)

#define assert_line(root, env, line)                                                               \
        do {                                                                                       \
                _cleanup_free_ char *_text = load_text(root, env);                                 \
                if (!strstr(_text, line "\n"))                                                     \
                        fail_msg("not there: %s\n%s", line, _text);                                \
        } while (0)

/* ---- golden files ---- */

/* TENDRIL_WRITE_GOLDEN=1 writes what is missing or different: to be read before it is kept. */
static bool check_golden(int corpus_fd, const Root *root, const char *yaml_name) {
        _cleanup_(buf_done) Buf yaml = BUF_INIT(LIMIT_CONFIG_BYTES), wanted = BUF_INIT(65536);
        _cleanup_free_ char *stem = NULL, *name = NULL, *text = NULL, *is = NULL;

        stem = strndup(yaml_name, strlen(yaml_name) - strlen(".yaml"));
        name = str_format("%s.ok", stem);
        if (!file_exists_at(corpus_fd, name)) {
                free(name);
                name = str_format("%s.err", stem);
        }

        assert_int_equal(file_read_at(corpus_fd, yaml_name, &yaml), 0);
        text = replace(buf_str(&yaml), yaml.size, "@ROOT@", root->path);
        if (memchr(buf_str(&yaml), 0, yaml.size))
                root_write(root, "etc/tendril/tendril.yaml", yaml.data, yaml.size);
        else
                root_text(root, "etc/tendril/tendril.yaml", text);
        is = load_text(root, NULL);

        assert_int_equal(file_read_at(corpus_fd, name, &wanted), 0);
        if (strcmp(is, buf_str(&wanted)) == 0)
                return true;
        if (getenv("TENDRIL_WRITE_GOLDEN"))
                assert_int_equal(file_write_at(corpus_fd, name, is, strlen(is), 0644, FILE_REPLACE),
                                 0);
        print_error("%s:\n  is     %s  wanted %s\n", name, is, buf_str(&wanted));
        return false;
}

static void golden_files(void **state) {
        Root *root = *state;
        size_t n_ok = 0, n_bad = 0;
        struct dirent *entry;
        DIR *dir;

        dir = opendir(CORPUS);
        if (!dir) {
                print_message("SKIP: %s is not below the present folder\n", CORPUS);
                skip();
        }
        while ((entry = readdir(dir))) {
                if (!str_has_suffix(entry->d_name, ".yaml"))
                        continue;
                if (check_golden(dirfd(dir), root, entry->d_name))
                        n_ok++;
                else
                        n_bad++;
        }
        (void) closedir(dir);
        assert_int_equal(n_bad, 0);
        assert_true(n_ok >= 100);
}

/* ---- files over each other ---- */

static void no_files_at_all(void **state) {
        _cleanup_(config_freep) Config *config = NULL;
        Root *root = *state;

        assert_int_equal(unlinkat(root->fd, "etc/tendril/tendril.d", AT_REMOVEDIR), 0);
        assert_int_equal(unlinkat(root->fd, "etc/tendril", AT_REMOVEDIR), 0);
        assert_int_equal(config_load(&root->paths, NULL, &config, NULL), 0);
        assert_null(config->environment);
        assert_null(config->host);
        assert_null(config->store.url);
        assert_string_equal(config->instance, "main");
        assert_int_equal(config->poll_usec, SEC(5));
        assert_int_equal(config->app.port, 5000);
        assert_int_equal(config->app.overlap, OVERLAP_WEB);
        assert_int_equal(config->gate.timeout_usec, SEC(300));
        assert_int_equal(config->proxy.kind, PROXY_NGINX);
        assert_string_equal(config_source(config, "gate.timeout"), "default");
        assert_string_equal(config_source(config, "no.such.key"), "default");
}

static void dropins_in_order_of_their_bytes(void **state) {
        Root *root = *state;

        root_text(root, "etc/tendril/tendril.yaml",
                  "environment: a\npoll: 1s\ngate:\n  path: /a\n  status: 201-204\n");
        root_text(root, "etc/tendril/tendril.d/9.yaml", "poll: 3s\n");
        root_text(root, "etc/tendril/tendril.d/10.yaml", "poll: 2s\ngate: {path: /b}\n");
        root_text(root, "etc/tendril/tendril.d/A.yaml", "\nhost: big\n");
        root_text(root, "etc/tendril/tendril.d/a.yaml", "host: small\n");
        /* none of these counts */
        root_text(root, "etc/tendril/tendril.d/.hidden.yaml", "poll: 9s\n");
        root_text(root, "etc/tendril/tendril.d/z.yml", "poll: 9s\n");
        root_text(root, "etc/tendril/tendril.d/z.yaml~", "poll: 9s\n");
        root_text(root, "etc/tendril/tendril.d/yaml", "poll: 9s\n");

        assert_line(root, NULL, "environment = a (/etc/tendril/tendril.yaml:1)");
        assert_line(root, NULL, "poll = 3s (/etc/tendril/tendril.d/9.yaml:1)");
        assert_line(root, NULL, "gate.path = /b (/etc/tendril/tendril.d/10.yaml:2)");
        assert_line(root, NULL, "gate.status = 201-204 (/etc/tendril/tendril.yaml:5)");
        assert_line(root, NULL, "host = small (/etc/tendril/tendril.d/a.yaml:1)");
        assert_line(root, NULL, "gate.interval = 1s (default)");
}

static void maps_merge_and_lists_are_replaced(void **state) {
        Root *root = *state;

        root_text(root, "etc/tendril/tendril.yaml",
                  "application:\n  environment:\n    A: 1\n    B: 2\n"
                  "trusted_keys:\n"
                  "  - {id: one, purpose: assign, file: /nowhere}\n"
                  "  - {id: two, purpose: assign, file: /nowhere}\n");
        root_text(root, "etc/tendril/tendril.d/1.yaml",
                  "application:\n  environment:\n    B: two\n    C: 3\n"
                  "trusted_keys: []\n");

        assert_line(root, NULL, "application.environment.A = 1 (/etc/tendril/tendril.yaml:3)");
        assert_line(root, NULL,
                    "application.environment.B = two (/etc/tendril/tendril.d/1.yaml:3)");
        assert_line(root, NULL, "application.environment.C = 3 (/etc/tendril/tendril.d/1.yaml:4)");
        assert_line(root, NULL, "trusted_keys =  (/etc/tendril/tendril.d/1.yaml:5)");
}

static void a_key_without_a_value_says_nothing(void **state) {
        Root *root = *state;

        root_text(root, "etc/tendril/tendril.yaml", "poll: 7s\ngate:\n  path: /x\n");
        root_text(root, "etc/tendril/tendril.d/1.yaml", "poll:\ngate:\nhost: ~\n");
        assert_line(root, NULL, "poll = 7s (/etc/tendril/tendril.yaml:1)");
        assert_line(root, NULL, "gate.path = /x (/etc/tendril/tendril.yaml:3)");
        assert_line(root, NULL, "host =  (default)");
}

/* A value that is wrong is wrong, also where another file would replace it. */
static void each_file_must_be_right(void **state) {
        Root *root = *state;

        root_text(root, "etc/tendril/tendril.yaml", "poll: 7s\n\ngate: {path: 3}\n");
        root_text(root, "etc/tendril/tendril.d/1.yaml", "gate: {path: /x}\n");
        assert_load(root, NULL,
                    "/etc/tendril/tendril.yaml:3: gate.path: must be a string, not a number "
                    "(write it in quotes)\n");

        root_text(root, "etc/tendril/tendril.yaml", "poll: 7s\n");
        root_text(root, "etc/tendril/tendril.d/2.yaml", "\n\ngate: {pth: /x}\n");
        assert_load(root, NULL,
                    "/etc/tendril/tendril.d/2.yaml:3: gate.pth: unknown key; did you mean "
                    "\"path\"?; allowed: path, status, consecutive, interval, check_timeout, "
                    "timeout\n");
}

/* Checks over several files name the place of the value that somebody wrote. */
static void checks_name_the_file_of_the_value(void **state) {
        Root *root = *state;

        root_text(root, "etc/tendril/tendril.yaml", "application:\n  port: 7000\n");
        root_text(root, "etc/tendril/tendril.d/1.yaml", "application: {slot_b_port: 7000}\n");
        assert_load(root, NULL,
                    "/etc/tendril/tendril.d/1.yaml:1: application.slot_b_port: 7000 is "
                    "application.port too (/etc/tendril/tendril.yaml:2); each needs a port of its "
                    "own\n");
}

static void files_that_cannot_be_read(void **state) {
        Root *root = *state;
        char name[64];
        int i;

        assert_int_equal(mkdirat(root->fd, "etc/tendril/tendril.yaml", 0700), 0);
        assert_load(root, NULL, "/etc/tendril/tendril.yaml: Is a directory\n");
        assert_int_equal(unlinkat(root->fd, "etc/tendril/tendril.yaml", AT_REMOVEDIR), 0);

        /* A FIFO must not hold us. */
        assert_int_equal(mkfifoat(root->fd, "etc/tendril/tendril.yaml", 0600), 0);
        assert_load(root, NULL, "/etc/tendril/tendril.yaml: is not a regular file\n");
        assert_int_equal(unlinkat(root->fd, "etc/tendril/tendril.yaml", 0), 0);

        /* A link is followed: the folder is root's. */
        root_text(root, "keys/real.yaml", "poll: 8s\n");
        assert_int_equal(symlinkat("../../keys/real.yaml", root->fd, "etc/tendril/tendril.yaml"),
                         0);
        assert_line(root, NULL, "poll = 8s (/etc/tendril/tendril.yaml:1)");

        for (i = 0; i <= LIMIT_CONFIG_DROPINS; i++) {
                (void) snprintf(name, sizeof(name), "etc/tendril/tendril.d/%03d.yaml", i);
                root_text(root, name, "");
        }
        assert_load(root, NULL, "/etc/tendril/tendril.d: 65 files are more than 64; merge some\n");
}

static void a_file_that_is_too_large(void **state) {
        _cleanup_free_ char *text = calloc(1, LIMIT_CONFIG_BYTES + 1);
        Root *root = *state;

        assert_non_null(text);
        memset(text, '#', LIMIT_CONFIG_BYTES + 1);
        root_write(root, "etc/tendril/tendril.yaml", text, LIMIT_CONFIG_BYTES + 1);
        assert_load(root, NULL, "/etc/tendril/tendril.yaml: is too large\n");
        root_write(root, "etc/tendril/tendril.yaml", text, LIMIT_CONFIG_BYTES);
        assert_line(root, NULL, "poll = 5s (default)");
}

/* ---- environment ---- */

static void variables_win(void **state) {
        char url[] = "TENDRIL_STORE_URL=file:///env", timeout[] = "TENDRIL_GATE_TIMEOUT=90",
             port[] = "TENDRIL_APPLICATION_SLOT_A_PORT=7001", flag[] = "TENDRIL_STORE_UNSIGNED=yes",
             kind[] = "TENDRIL_PROXY_KIND=none", host[] = "TENDRIL_HOST=7",
             empty[] = "TENDRIL_INSTANCE=", unknown[] = "TENDRIL_DEPLOY_ID=x",
             prefix[] = "TENDRIL_GATE=x", list[] = "TENDRIL_TRUSTED_KEYS=x",
             bare[] = "TENDRIL_POLL";
        char *const env[] = { url,   timeout, port,   flag, kind, host,
                              empty, unknown, prefix, list, bare, NULL };
        Root *root = *state;

        root_text(root, "etc/tendril/tendril.yaml",
                  "store: {url: file:///file}\nhost: a\ninstance: second\n");
        assert_line(root, env, "store.url = file:///env (TENDRIL_STORE_URL)");
        assert_line(root, env, "gate.timeout = 90s (TENDRIL_GATE_TIMEOUT)");
        assert_line(root, env, "application.slot_a_port = 7001 (TENDRIL_APPLICATION_SLOT_A_PORT)");
        assert_line(root, env, "store.unsigned = true (TENDRIL_STORE_UNSIGNED)");
        assert_line(root, env, "proxy.kind = none (TENDRIL_PROXY_KIND)");
        assert_line(root, env, "host = 7 (TENDRIL_HOST)");
        assert_line(root, env, "instance = second (/etc/tendril/tendril.yaml:3)");
        assert_line(root, env, "gate.path = / (default)");
        assert_line(root, env, "poll = 5s (default)");
        assert_line(root, env, "trusted_keys =  (default)");
}

static void wrong_variables(void **state) {
        static const struct {
                const char *variable;
                const char *sentence;
        } rows[] = {
                { "TENDRIL_APPLICATION_PORT=x",
                  "TENDRIL_APPLICATION_PORT: application.port: must be a whole number, not a "
                  "string\n" },
                { "TENDRIL_APPLICATION_PORT=99999",
                  "TENDRIL_APPLICATION_PORT: application.port: 99999 is above 65535\n" },
                { "TENDRIL_STORE_UNSIGNED=maybe",
                  "TENDRIL_STORE_UNSIGNED: store.unsigned: must be true or false, not a string\n" },
                { "TENDRIL_POLL=1ms", "TENDRIL_POLL: poll: 1 ms is below 100 ms\n" },
                { "TENDRIL_HOST=\xff", "TENDRIL_HOST: not valid UTF-8\n" },
                { "TENDRIL_STORE_URL=http://x",
                  "TENDRIL_STORE_URL: store.url: \"http://x\" is not a store; allowed: "
                  "file:///FOLDER, s3://BUCKET/PREFIX\n" },
        };
        Root *root = *state;
        size_t i;

        for (i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_free_ char *variable = strdup(rows[i].variable);
                char *const env[] = { variable, NULL };

                assert_load(root, env, rows[i].sentence);
        }
}

/* ---- the rest ---- */

static void a_key_file_is_read_at_load(void **state) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_free_ char *text = NULL;
        Root *root = *state;
        ConfigKey *key;

        text = str_format("trusted_keys:\n  - {id: k, purpose: assign, file: %s/keys/good.pem}\n",
                          root->path);
        root_text(root, "etc/tendril/tendril.yaml", text);
        assert_int_equal(config_load(&root->paths, NULL, &config, NULL), 0);
        assert_int_equal(config->trusted_keys.n, 1);
        key = config->trusted_keys.items;
        assert_string_equal(key->pem, pem);
        assert_int_equal(key->purpose, 1);
}

static int stop_at_poll(void *userdata, const char *path, const char *value, const char *source) {
        unsigned *n = userdata;

        (void) value;
        (void) source;
        ++*n;
        return strcmp(path, "poll") == 0 ? -ECANCELED : 0;
}

static void visiting_stops_where_it_is_told(void **state) {
        _cleanup_(config_freep) Config *config = NULL;
        unsigned n = 0;

        (void) state;
        assert_int_equal(config_parse("", 0, "x", &config, NULL), 0);
        assert_int_equal(config_visit(config, stop_at_poll, &n), -ECANCELED);
        assert_int_equal(n, 18);
}

static void parsing_a_text(void **state) {
        _cleanup_(error_freep) Error *err = NULL;
        Config *config = NULL;

        (void) state;
        assert_int_equal(config_parse("pol: 5s", 7, "x.yaml", &config, &err), -EBADMSG);
        assert_null(config);
        assert_non_null(strstr(error_text(err), "x.yaml:1: pol: unknown key"));
        assert_int_equal(config_parse("pol: 5s", 7, "x.yaml", &config, NULL), -EBADMSG);
}

static void statuses(void **state) {
        static const char *const bad[] = { "",         "20",      "2000",   "200-", "-200",
                                           "200--300", "abc",     "200,",   ",200", "099",
                                           "600",      "300-200", " 200",   "200 ", "200,,201",
                                           "200-2999", "0x0",     "200;201" };
        size_t i;

        (void) state;
        for (i = 0; i < ELEMENTS(bad); i++) {
                if (config_status_valid(bad[i]))
                        fail_msg("\"%s\" is taken", bad[i]);
                (void) config_status_matches(bad[i], 200);
        }
        assert_true(config_status_valid("200"));
        assert_true(config_status_valid("200-399,404,500-599"));
        assert_true(config_status_matches("200-399,404", 200));
        assert_true(config_status_matches("200-399,404", 399));
        assert_true(config_status_matches("200-399,404", 404));
        assert_false(config_status_matches("200-399,404", 400));
        assert_false(config_status_matches("200-399,404", 199));
        assert_false(config_status_matches("200", 0));
        assert_false(config_status_matches("", 200));
}

static void names(void **state) {
        (void) state;
        assert_true(config_name_is_secret("DB_PASSWORD"));
        assert_true(config_name_is_secret("aws_secret"));
        assert_true(config_name_is_secret("ApiToken"));
        assert_true(config_name_is_secret("KEY"));
        assert_true(config_name_is_secret("GOOGLE_CREDENTIALS"));
        assert_false(config_name_is_secret("DATABASE_URL"));
        assert_false(config_name_is_secret(""));

        assert_true(config_name_is_valid("A"));
        assert_true(config_name_is_valid("_x9"));
        assert_false(config_name_is_valid(""));
        assert_false(config_name_is_valid("9x"));
        assert_false(config_name_is_valid("a-b"));
        assert_false(config_name_is_valid("a=b"));
        assert_false(config_name_is_valid("\xc3\xa9"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                TEST(golden_files),
                TEST(no_files_at_all),
                TEST(dropins_in_order_of_their_bytes),
                TEST(maps_merge_and_lists_are_replaced),
                TEST(a_key_without_a_value_says_nothing),
                TEST(each_file_must_be_right),
                TEST(checks_name_the_file_of_the_value),
                TEST(files_that_cannot_be_read),
                TEST(a_file_that_is_too_large),
                TEST(variables_win),
                TEST(wrong_variables),
                TEST(a_key_file_is_read_at_load),
                cmocka_unit_test(visiting_stops_where_it_is_told),
                cmocka_unit_test(parsing_a_text),
                cmocka_unit_test(statuses),
                cmocka_unit_test(names),
        };

        return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
