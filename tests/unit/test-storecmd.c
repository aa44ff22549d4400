#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/contract.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/macro.h"
#include "control/storecmd.h"

#define TEXT_BYTES 16384

static void test_split(void **state) {
        static const char *const bad[] = { "",         "shop", "/",       "shop/", "/1.0",
                                           "shop/1/2", "../1", "shop/..", "a b/1" };
        char *application = NULL, *label = NULL;

        (void) state;
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(storecmd_split_version(bad[i], &application, &label), -EINVAL);
        assert_int_equal(storecmd_split_version("shop/1.0", &application, &label), 0);
        assert_string_equal(application, "shop");
        assert_string_equal(label, "1.0");
        free(application);
        free(label);
}

/* Runs a verb with stdout and stderr into one text. */
static int run(const StoreCommand *command, char *const *words, char ret[TEXT_BYTES]) {
        char *argv[8] = { NULL };
        int argc = 0, out = dup(STDOUT_FILENO), err = dup(STDERR_FILENO), code;
        FILE *text = tmpfile();
        size_t n;

        argv[argc] = strdup(command->name);
        for (argc++; *words; words++)
                argv[argc++] = *words;
        fflush(stdout);
        dup2(fileno(text), STDOUT_FILENO);
        dup2(fileno(text), STDERR_FILENO);
        code = command->run(argc, argv);
        fflush(stdout);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        close(out);
        close(err);
        n = (size_t) pread(fileno(text), ret, TEXT_BYTES - 1, 0);
        ret[n] = '\0';
        fclose(text);
        free(argv[0]);
        return code;
}

static void test_every_verb_helps(void **state) {
        (void) state;
        for (const StoreCommand *c = store_commands; c->name; c++) {
                char text[TEXT_BYTES];

                assert_int_equal(run(c, (char *[]){ (char[]){ "--help" }, NULL }, text),
                                 EXIT_CODE_OK);
                assert_non_null(strstr(text, c->name));
                assert_true(strlen(text) > 200);
                assert_non_null(c->usage);
                assert_non_null(c->help);
        }
}

static void test_unknown_options(void **state) {
        (void) state;
        for (const StoreCommand *c = store_commands; c->name; c++) {
                char text[TEXT_BYTES];

                assert_int_equal(run(c, (char *[]){ (char[]){ "--nonsense" }, NULL }, text),
                                 EXIT_CODE_USAGE);
                assert_non_null(strstr(text, "--nonsense"));
        }
}

static const StoreCommand *find(const char *name) {
        for (const StoreCommand *c = store_commands; c->name; c++)
                if (strcmp(c->name, name) == 0)
                        return c;
        fail();
        return NULL;
}

typedef struct UsageRow {
        const char *verb;
        char *words[6];
        const char *say;
} UsageRow;

#define W(text)                                                                                    \
        (char[]) {                                                                                 \
                text                                                                               \
        }

/* What is wrong with a line is seen before anything is tried. */
static void test_usage(void **state) {
        const UsageRow table[] = {
                { "init", { NULL }, "--store" },
                { "init", { W("--store=s3:/x"), NULL }, "file:///path" },
                { "init", { W("--store=s3://x/y"), NULL }, "no bucket's name" },
                { "init", { W("--store=file:///nowhere"), W("--dry-run"), NULL }, "in S3" },
                { "init", { W("--store=file:///nowhere"), W("--env=e"), NULL }, "in S3" },
                { "init",
                  { W("--store=s3://bucket/p"), W("--dry-run"), W("--account=1"), NULL },
                  "12 digits" },
                { "init",
                  { W("--store=s3://bucket/p"), W("--dry-run"), W("--env=a/b"), NULL },
                  "not an environment" },
                { "init",
                  { W("--store=s3://bucket/p"), W("--dry-run"), W("--kms-key=alias/x"), NULL },
                  "is not a key" },
                { "publish", { W("x.zip"), W("--version=1"), NULL }, "--app is missing" },
                { "publish", { W("x.zip"), W("--app=a/b"), W("--version=1"), NULL }, "a label is" },
                { "publish", { W("x.zip"), W("--app=a"), W("--version=-1"), NULL }, "a label is" },
                { "publish",
                  { W("x.zip"), W("--app=a"), W("--version=1"), W("--key=f"), NULL },
                  "belong together" },
                { "assign", { W("--version=1"), NULL }, "--env is missing" },
                { "assign", { W("--env=.."), NULL }, "a label is" },
                { "versions", { W("--app=a"), W("--prune"), NULL }, "--keep" },
                { "versions", { W("--app=a"), W("--keep=3"), NULL }, "--prune" },
                { "versions", { W("--app=a"), W("--trusted-key=x"), NULL }, "ID=FILE" },
                { "sign", { W("--key=f"), W("--key-id=k"), NULL }, "say one of" },
                { "sign", { W("f"), W("--type=version"), NULL }, "--key" },
                { "sign",
                  { W("f"), W("--type=x"), W("--key=f"), W("--key-id=k"), NULL },
                  "--type" },
                { "sign",
                  { W("--store-version=x"), W("--key=f"), W("--key-id=k"), NULL },
                  "APPLICATION/VERSION" },
        };

        (void) state;
        assert_int_equal(unsetenv(STORECMD_ENV_STORE), 0);
        for (size_t i = 0; i < ELEMENTS(table); i++) {
                char text[TEXT_BYTES];

                assert_int_equal(run(find(table[i].verb), table[i].words, text), EXIT_CODE_USAGE);
                if (!strstr(text, table[i].say))
                        fail_msg("%s: \"%s\" does not say \"%s\"", table[i].verb, text,
                                 table[i].say);
        }
}

static void assert_has(const char *text, const char *words) {
        if (!strstr(text, words))
                fail_msg("no \"%s\" in: %s", words, text);
}

/* Nothing is asked of the store: there is none. */
static void test_policies(void **state) {
        static const char *const files[] = { "agent-role.json", "publisher-role.json",
                                             "bucket-policy.json", "lifecycle.json" };
        char dir[] = "/tmp/test-storecmd-XXXXXX", option[64], path[128], text[TEXT_BYTES];
        char *words[] = { W("--store=s3://bucket/p"), W("--dry-run"), W("--env=prod"), option,
                          NULL };

        (void) state;
        assert_non_null(mkdtemp(dir));
        (void) snprintf(option, sizeof(option), "--policies=%s", dir);
        assert_int_equal(run(find("init"), words, text), EXIT_CODE_OK);
        /* Again, elsewhere: what is there is replaced. */
        assert_int_equal(setenv("AWS_REGION", "cn-north-1", true), 0);
        assert_int_equal(run(find("init"), words, text), EXIT_CODE_OK);
        assert_int_equal(unsetenv("AWS_REGION"), 0);
        for (size_t i = 0; i < ELEMENTS(files); i++) {
                _cleanup_(buf_done) Buf policy = BUF_INIT(TEXT_BYTES);

                (void) snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
                assert_has(text, path);
                assert_int_equal(file_read_at(AT_FDCWD, path, &policy), 0);
                assert_has(buf_str(&policy),
                           i == 3 ? "\"p/environments/prod/g/\"" : "\"arn:aws-cn:s3:::bucket/p/");
                assert_int_equal(unlink(path), 0);
        }
        assert_int_equal(rmdir(dir), 0);

        words[3] = W("--json");
        assert_int_equal(run(find("init"), words, text), EXIT_CODE_OK);
        assert_has(text, "{\"store\":\"s3://bucket/p\",\"id\":null,\"created\":false,");
        assert_has(text, "{\"name\":\"agent-role\",\"file\":\"agent-role.json\",\"document\":{");
}

static void test_no_store(void **state) {
        char text[TEXT_BYTES];

        (void) state;
        assert_int_equal(setenv(STORECMD_ENV_STORE, "file:///nonexistent/store", true), 0);
        assert_int_equal(run(find("versions"), (char *[]){ W("--app=a"), NULL }, text),
                         EXIT_CODE_UNREACHABLE);
        assert_non_null(strstr(text, "tendril init"));
        assert_int_equal(unsetenv(STORECMD_ENV_STORE), 0);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_split),           cmocka_unit_test(test_every_verb_helps),
                cmocka_unit_test(test_unknown_options), cmocka_unit_test(test_usage),
                cmocka_unit_test(test_policies),        cmocka_unit_test(test_no_store),
        };

        return cmocka_run_group_tests_name("storecmd", tests, NULL, NULL);
}
