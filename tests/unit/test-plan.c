#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "bundle/bundle.h"
#include "folder.h"

static void put_file(const Folder *folder, const char *path, const char *text) {
        _cleanup_free_ char *parent = strdup(path);
        _cleanup_close_ int fd = -EBADF;
        char *slash = strrchr(parent, '/');

        if (slash)
                *slash = '\0';
        fd = slash ? file_mkdirs_at(folder->fd, parent, 0755)
                   : fcntl(folder->fd, F_DUPFD_CLOEXEC, 3);
        assert_true(fd >= 0);
        assert_int_equal(file_write_at(fd, slash ? slash + 1 : parent, text, strlen(text), 0644, 0),
                         0);
}

static void plan_of(const Folder *folder, const char *jar_command, Plan *ret) {
        _cleanup_(error_freep) Error *error = NULL;
        _cleanup_free_ char *command = jar_command ? strdup(jar_command) : NULL;
        TaskPlan how = { .default_command = command };
        int r;

        r = bundle_plan(folder->fd, &how, ret, &error);
        if (r != 0)
                fail_msg("%d: %s", r, error_text(error));
        assert_int_equal(ret->format, 1);
}

static void plan_done(Plan *plan) {
        json_table_done(&plan_table, plan);
}

static void check_list(char *const *list, const char *expected) {
        _cleanup_(buf_done) Buf found = BUF_INIT(65536);

        for (char *const *item = list; item && *item; item++)
                assert_int_equal(buf_printf(&found, "%s%s", item == list ? "" : " ", *item), 0);
        assert_string_equal(buf_str(&found), expected);
}

static void check_process(const JsonArray *array, size_t i, const char *name, const char *command) {
        const PlanProcess *processes = array->items;

        assert_true(i < array->n);
        assert_string_equal(processes[i].name, name);
        assert_string_equal(processes[i].command, command);
}

static void check_warning(const Plan *plan, const char *words) {
        for (char *const *warning = plan->warnings; warning && *warning; warning++)
                if (strstr(*warning, words))
                        return;
        fail_msg("no warning says \"%s\"", words);
}

static void test_procfile(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(plan_done) Plan plan = { 0 };

        (void) state;
        put_file(&folder, "Procfile", "web: ./run\nworker: ./work\n");
        put_file(&folder, "Buildfile", "deps: make deps\nbuild: make\n");
        plan_of(&folder, NULL, &plan);
        assert_int_equal(plan.kind, PLAN_PROCFILE);
        assert_int_equal(plan.processes.n, 2);
        check_process(&plan.processes, 0, "web", "./run");
        check_process(&plan.processes, 1, "worker", "./work");
        check_process(&plan.build, 0, "deps", "make deps");
        check_process(&plan.build, 1, "build", "make");
        assert_null(plan.warnings);
        assert_null(plan.prebuild);
}

static void test_web_not_first(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(plan_done) Plan plan = { 0 };

        (void) state;
        put_file(&folder, "Procfile", "a: 1\nb: 2\nweb: 3\nc: 4\n");
        plan_of(&folder, NULL, &plan);
        check_process(&plan.processes, 0, "web", "3");
        check_process(&plan.processes, 1, "a", "1");
        check_process(&plan.processes, 2, "b", "2");
        check_process(&plan.processes, 3, "c", "4");
        check_warning(&plan, "not the first entry");
}

static void test_no_web(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(plan_done) Plan plan = { 0 };

        (void) state;
        put_file(&folder, "Procfile", "api: 1\nb: 2\n");
        plan_of(&folder, NULL, &plan);
        check_process(&plan.processes, 0, "api", "1");
        check_warning(&plan, "\"api\", is the proxied one");
}

static void test_hooks(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(plan_done) Plan plan = { 0 };

        (void) state;
        put_file(&folder, "Procfile", "web: x\n");
        put_file(&folder, ".platform/hooks/prebuild/10_b.sh", "");
        put_file(&folder, ".platform/hooks/prebuild/2_a.sh", "");
        put_file(&folder, ".platform/hooks/prebuild/10_B.sh", "");
        put_file(&folder, ".platform/hooks/prebuild/.hidden", "");
        put_file(&folder, ".platform/hooks/prebuild/10_b.sh~", "");
        put_file(&folder, ".platform/hooks/prebuild/folder/inside", "");
        assert_int_equal(symlinkat("2_a.sh", folder.fd, ".platform/hooks/prebuild/link"), 0);
        put_file(&folder, ".platform/hooks/predeploy/x", "");
        put_file(&folder, ".platform/hooks/postdeploy/y", "");
        put_file(&folder, ".platform/hooks/other/z", "");
        put_file(&folder, ".platform/nginx/nginx.conf", "");
        put_file(&folder, ".platform/nginx/conf.d/b.conf", "");
        put_file(&folder, ".platform/nginx/conf.d/a.conf", "");
        put_file(&folder, ".platform/nginx/conf.d/README", "");
        put_file(&folder, ".platform/nginx/conf.d/elasticbeanstalk/00_application.conf", "");
        plan_of(&folder, NULL, &plan);
        check_list(plan.prebuild,
                   ".platform/hooks/prebuild/10_B.sh .platform/hooks/prebuild/10_b.sh "
                   ".platform/hooks/prebuild/2_a.sh");
        check_list(plan.predeploy, ".platform/hooks/predeploy/x");
        check_list(plan.postdeploy, ".platform/hooks/postdeploy/y");
        check_list(plan.proxy_http, ".platform/nginx/conf.d/a.conf .platform/nginx/conf.d/b.conf");
        check_list(plan.proxy_server,
                   ".platform/nginx/conf.d/elasticbeanstalk/00_application.conf");
        assert_string_equal(plan.proxy_main, ".platform/nginx/nginx.conf");
        check_warning(&plan, "prebuild/.hidden is skipped: it is hidden");
        check_warning(&plan, "10_b.sh~ is skipped: it is a backup");
        check_warning(&plan, "prebuild/link is skipped: it is not a regular file");
        check_warning(&plan, "prebuild/folder is skipped");
        assert_int_equal(strv_count(plan.warnings), 4);
}

static void test_unused(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(plan_done) Plan plan = { 0 };

        (void) state;
        put_file(&folder, "Procfile", "web: x\n");
        put_file(&folder, ".ebextensions/nginx/conf.d/x.conf", "");
        put_file(&folder, "cron.yaml", "version: 1\n");
        put_file(&folder, "env.yaml", "x: 1\n");
        put_file(&folder, ".platform/httpd/conf.d/x.conf", "");
        put_file(&folder, ".platform/confighooks/predeploy/x", "");
        plan_of(&folder, NULL, &plan);
        check_list(plan.folders, ".ebextensions cron.yaml env.yaml");
        check_warning(&plan, ".ebextensions/nginx");
        check_warning(&plan, ".platform/httpd");
        check_warning(&plan, ".platform/confighooks");
}

static void check_kind(const char *file, const char *file2, const char *jar_command, PlanKind kind,
                       const char *command) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(plan_done) Plan plan = { 0 };

        if (file)
                put_file(&folder, file, "x");
        if (file2)
                put_file(&folder, file2, "x");
        plan_of(&folder, jar_command, &plan);
        assert_int_equal(plan.kind, kind);
        assert_int_equal(plan.processes.n, command ? 1 : 0);
        if (command)
                check_process(&plan.processes, 0, "web", command);
        if (kind == PLAN_STATIC)
                check_warning(&plan, "nothing to run");
}

static void test_kinds(void **state) {
        (void) state;

        check_kind("application.jar", NULL, NULL, PLAN_JAR, "java -jar application.jar");
        check_kind("application.jar", NULL, "java -Xmx1g -jar application.jar", PLAN_JAR,
                   "java -Xmx1g -jar application.jar");
        check_kind("server-1.0.jar", "README", NULL, PLAN_JAR, "java -jar server-1.0.jar");
        check_kind("a.jar", "b.jar", NULL, PLAN_STATIC, NULL);
        check_kind("a;reboot.jar", NULL, NULL, PLAN_STATIC, NULL);
        check_kind("-version.jar", NULL, NULL, PLAN_STATIC, NULL);
        check_kind("WEB-INF/web.xml", NULL, NULL, PLAN_WAR, NULL);
        check_kind("index.html", NULL, NULL, PLAN_STATIC, NULL);
        check_kind(NULL, NULL, NULL, PLAN_STATIC, NULL);
}

static void check_refused(const Folder *folder, const char *words) {
        _cleanup_(error_freep) Error *error = NULL;
        Plan plan = { 0 };

        assert_int_equal(bundle_plan(folder->fd, &(TaskPlan){ 0 }, &plan, &error), -EBADMSG);
        if (!strstr(error_text(error), words))
                fail_msg("\"%s\" is not in: %s", words, error_text(error));
        assert_null(plan.processes.items);
}

static void test_refused(void **state) {
        _cleanup_(folder_done) Folder empty = folder_new(), wrong = folder_new(),
                                      build = folder_new(), link = folder_new(),
                                      large = folder_new(), file = folder_new(),
                                      linked = folder_new();
        _cleanup_free_ char *text = calloc(1, LIMIT_PROCFILE_BYTES + 2);

        (void) state;
        put_file(&empty, "Procfile", "# nothing\n");
        check_refused(&empty, "Procfile: no entry");
        put_file(&wrong, "Procfile", "web: x\nwhat is this\n");
        check_refused(&wrong, "Procfile:2:");
        put_file(&build, "Procfile", "web: x\n");
        put_file(&build, "Buildfile", "\nx\n");
        check_refused(&build, "Buildfile:2:");
        assert_int_equal(symlinkat("/etc/passwd", link.fd, "Procfile"), 0);
        check_refused(&link, "Procfile: not a regular file");
        memset(text, '#', LIMIT_PROCFILE_BYTES + 1);
        put_file(&large, "Procfile", text);
        check_refused(&large, "longer than");
        put_file(&file, "Procfile", "web: x\n");
        put_file(&file, ".platform/hooks", "not a folder");
        check_refused(&file, "\"hooks\" is not a folder");
        put_file(&linked, "Procfile", "web: x\n");
        assert_int_equal(symlinkat("/etc", linked.fd, ".platform"), 0);
        check_refused(&linked, "\".platform\" is not a folder");
}

/* What main will read is what was written. */
static void test_table(void **state) {
        _cleanup_(folder_done) Folder folder = folder_new();
        _cleanup_(plan_done) Plan plan = { 0 }, again = { 0 };
        _cleanup_(buf_done) Buf first = BUF_INIT(LIMIT_PLAN_BYTES),
                                second = BUF_INIT(LIMIT_PLAN_BYTES);

        (void) state;
        put_file(&folder, "Procfile", "api: 1\nb: 2 \"3\" \\\n");
        put_file(&folder, ".platform/hooks/predeploy/x", "");
        put_file(&folder, "cron.yaml", "");
        plan_of(&folder, NULL, &plan);
        assert_int_equal(json_encode(&plan_table, &plan, &first), 0);
        assert_int_equal(
                json_decode(buf_str(&first), first.size, &plan_table, JSON_STRICT, &again, NULL),
                0);
        assert_int_equal(json_encode(&plan_table, &again, &second), 0);
        assert_string_equal(buf_str(&first), buf_str(&second));
        assert_non_null(strstr(buf_str(&first), "\"kind\":\"procfile\""));
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_procfile), cmocka_unit_test(test_web_not_first),
                cmocka_unit_test(test_no_web),   cmocka_unit_test(test_hooks),
                cmocka_unit_test(test_unused),   cmocka_unit_test(test_kinds),
                cmocka_unit_test(test_refused),  cmocka_unit_test(test_table),
        };

        return cmocka_run_group_tests_name("plan", tests, NULL, NULL);
}
