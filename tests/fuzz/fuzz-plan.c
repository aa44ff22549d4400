/*
 * Folders as an archive could leave them: the input is lines "PATH" or "PATH=CONTENT" ("|" in the
 * content is a new line) or "PATH@TARGET" (a link). What is planned is within its limits, is
 * written and read again the same, and names only plain paths.
 */

#include "bundle/bundle.h"

#include <errno.h>
#include <string.h>

#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINES_MAX 200

static void must(bool holds) {
        if (!holds)
                abort();
}

/* Paths that an archive could not have are left out. */
static bool is_plain(const char *path) {
        return path[0] != '\0' && path[0] != '/' && !strstr(path, "..") && !strstr(path, "//") &&
               strlen(path) < 200;
}

static void make_one(int dir_fd, char *line) {
        char *sign = strpbrk(line, "=@"), *slash;
        bool is_link = sign && *sign == '@';
        _cleanup_close_ int fd = -EBADF;

        if (sign)
                *sign++ = '\0';
        if (!is_plain(line))
                return;
        slash = strrchr(line, '/');
        if (slash)
                *slash = '\0';
        fd = slash ? file_mkdirs_at(dir_fd, line, 0755) : fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
        if (fd < 0)
                return;
        for (char *at = sign; at && *at != '\0'; at++)
                if (*at == '|')
                        *at = '\n';
        if (is_link) /* one that is there already stays */
                must(symlinkat(sign, fd, slash ? slash + 1 : line) == 0 || errno != EBADF);
        else
                (void) file_write_at(fd, slash ? slash + 1 : line, sign ? sign : "",
                                     sign ? strlen(sign) : 0, 0644, 0);
}

static void check_paths(char *const *list) {
        must(strv_count(list) <= LIMIT_HOOKS);
        for (char *const *path = list; path && *path; path++)
                must(str_has_prefix(*path, ".platform/") && !strstr(*path, "..") &&
                     str_is_utf8(*path, strlen(*path), true));
}

static void check_plan(const Plan *plan) {
        _cleanup_(buf_done) Buf first = BUF_INIT(LIMIT_PLAN_BYTES),
                                second = BUF_INIT(LIMIT_PLAN_BYTES);
        Plan again = { 0 };

        check_paths(plan->prebuild);
        check_paths(plan->predeploy);
        check_paths(plan->postdeploy);
        check_paths(plan->proxy_http);
        check_paths(plan->proxy_server);
        must(plan->kind != PLAN_PROCFILE || plan->processes.n > 0);
        must(json_encode(&plan_table, plan, &first) == 0);
        must(json_decode(buf_str(&first), first.size, &plan_table, JSON_STRICT, &again, NULL) == 0);
        must(json_encode(&plan_table, &again, &second) == 0);
        must(str_equal(buf_str(&first), buf_str(&second)));
        json_table_done(&plan_table, &again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = calloc(1, size + 1);
        _cleanup_(tree_done) Tree tree = tree_new();
        _cleanup_(error_freep) Error *e = NULL;
        char *rest = text, *line;
        Plan plan = { 0 };

        must(text);
        memcpy(text, data, size);
        for (int n = 0; n < LINES_MAX && (line = strsep(&rest, "\n")); n++)
                make_one(tree.fd, line);
        if (bundle_plan(tree.fd, &(TaskPlan){ 0 }, &plan, &e) < 0) {
                must(e && !plan.processes.items);
                return 0;
        }
        check_plan(&plan);
        json_table_done(&plan_table, &plan);
        return 0;
}
