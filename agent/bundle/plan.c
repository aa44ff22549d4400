#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "bundle/bundle.h"

#define JAR_NAME    "application.jar"
#define JAR_COMMAND "java -jar " JAR_NAME

/* Fewer than the table allows: the last one says that there were more. */
#define WARNINGS_MAX 63
#define FOLDERS_MAX  16
/* Names of one folder that are looked at. */
#define NAMES_MAX 4096

static int _printf_(2, 3) warn(Plan *plan, const char *format, ...) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_STRING_BYTES);
        va_list ap;
        int r;

        if (strv_count(plan->warnings) > WARNINGS_MAX)
                return 0;
        if (strv_count(plan->warnings) == WARNINGS_MAX)
                return strv_add(&plan->warnings, WARNINGS_MAX + 1,
                                "there are more warnings than are kept");
        va_start(ap, format);
        r = buf_vprintf(&text, format, ap);
        va_end(ap);
        /* A warning about a name that is too long to be told is not worth failing for. */
        if (r == -EFBIG)
                return 0;
        return r < 0 ? r : strv_add(&plan->warnings, WARNINGS_MAX + 1, buf_str(&text));
}

/* The type of what stands there; 0: nothing. */
static mode_t type_at(int dir_fd, const char *name) {
        struct stat st;

        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        return st.st_mode & S_IFMT;
}

static int compare_names(const void *a, const void *b) {
        return strcmp(*(char *const *) a, *(char *const *) b);
}

static DIR *dir_close(DIR *dir) {
        (void) closedir(dir);
        return NULL;
}
DEFINE_CLEANUP(DIR, dir_close);

/* All names of a folder in the order of their bytes, not in the order that the disk has them. fd is
 * consumed. */
static int list_names(int fd, const char *path, char ***ret, Error **reterr) {
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_(dir_closep) DIR *dir = NULL;
        const struct dirent *entry;
        int r;

        dir = fdopendir(fd);
        if (!dir) {
                r = -errno;
                closep(&fd);
                return error_set(reterr, r, "%s: %s", path, strerror(-r));
        }
        rewinddir(dir);
        for (;;) {
                errno = 0;
                /* cppcheck-suppress readdirCalled ; the folder is this function's own */
                entry = readdir(dir);
                if (!entry)
                        break;
                if (str_equal(entry->d_name, ".") || str_equal(entry->d_name, ".."))
                        continue;
                r = strv_add(&names, NAMES_MAX, entry->d_name);
                if (r == -E2BIG)
                        return error_set(reterr, -EBADMSG, "%s: more than %d names", path,
                                         NAMES_MAX);
                if (r < 0)
                        return r;
        }
        if (errno != 0)
                return error_set(reterr, -errno, "%s: %s", path, strerror(errno));

        if (names)
                qsort(names, strv_count(names), sizeof(*names), compare_names);
        *ret = TAKE_PTR(names);
        return 0;
}

/* A folder some levels down, none of which is a link. -ENOENT: not there. */
static int open_folder(int dir_fd, const char *path, Error **reterr) {
        _cleanup_free_ char *copy = strdup(path);
        _cleanup_close_ int fd = -EBADF;
        char *rest = copy, *component;

        if (!copy)
                return -ENOMEM;
        while ((component = strsep(&rest, "/"))) {
                int next = file_open_dir_at(fd >= 0 ? fd : dir_fd, component);

                if (next == -ENOENT)
                        return next;
                if (next < 0)
                        return error_set(
                                reterr, next == -ELOOP || next == -ENOTDIR ? -EBADMSG : next,
                                "%s: \"%s\" is not a folder: %s", path, component, strerror(-next));
                closep(&fd);
                fd = next;
        }
        return TAKE_FD(fd);
}

/* NULL: take it; else what is wrong, for a warning. */
static const char *file_fault(int fd, const char *name) {
        if (!str_is_utf8(name, strlen(name), true))
                return "its name is not clean UTF-8";
        if (name[0] == '.')
                return "it is hidden";
        if (str_has_suffix(name, "~"))
                return "it is a backup of an editor";
        if (type_at(fd, name) != S_IFREG)
                return "it is not a regular file";
        return NULL;
}

/* Files of one folder, as paths, into a list. suffix (or NULL): only such names are meant, others
 * are nobody's business. */
static int collect(int dir_fd, const char *folder, const char *suffix, Plan *plan, char ***list,
                   Error **reterr) {
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = open_folder(dir_fd, folder, reterr);
        if (fd < 0)
                return fd == -ENOENT ? 0 : fd;
        r = list_names(fcntl(fd, F_DUPFD_CLOEXEC, 3), folder, &names, reterr);
        if (r < 0)
                return r;

        for (char **name = names; name && *name; name++) {
                _cleanup_free_ char *path = NULL, *shown = NULL;
                const char *fault;

                if (suffix && !str_has_suffix(*name, suffix))
                        continue;
                fault = file_fault(fd, *name);
                if (fault) {
                        shown = str_printable(*name, strlen(*name));
                        r = warn(plan, "%s/%s is skipped: %s", folder, shown ? shown : "?", fault);
                        if (r < 0)
                                return r;
                        continue;
                }
                path = str_format("%s/%s", folder, *name);
                if (!path)
                        return -ENOMEM;
                r = strv_add(list, LIMIT_HOOKS, path);
                if (r == -E2BIG)
                        return error_set(reterr, -EBADMSG, "%s: more than %d files", folder,
                                         LIMIT_HOOKS);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Procfile or Buildfile. 0 where there is none, 1 where there is. */
static int read_processes(int dir_fd, const char *name, JsonArray *ret, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_PROCFILE_BYTES);
        int r;

        r = file_read_at(dir_fd, name, &text);
        if (r == -ENOENT)
                return 0;
        if (r == -EFBIG)
                return error_set(reterr, -EBADMSG, "%s: longer than %d bytes", name,
                                 LIMIT_PROCFILE_BYTES);
        if (r == -ELOOP || r == -EINVAL)
                return error_set(reterr, -EBADMSG, "%s: not a regular file", name);
        if (r < 0)
                return error_set(reterr, r, "%s: %s", name, strerror(-r));
        r = procfile_parse(buf_str(&text), text.size, name, ret, reterr);
        return r < 0 ? r : 1;
}

static int add_process(Plan *plan, const char *name, const char *command) {
        PlanProcess *process =
                json_array_add(&plan->processes, &plan_process_table, LIMIT_PROCESSES);

        if (!process)
                return -ENOMEM;
        process->name = strdup(name);
        process->command = strdup(command);
        return process->name && process->command ? 0 : -ENOMEM;
}

/* The proxied process comes first: "web", or else the first one that there is. */
static int put_web_first(Plan *plan) {
        PlanProcess *processes = plan->processes.items;

        for (size_t i = 0; i < plan->processes.n; i++) {
                PlanProcess web = processes[i];

                if (!str_equal(web.name, "web"))
                        continue;
                if (i == 0)
                        return 0;
                memmove(processes + 1, processes, i * sizeof(*processes));
                processes[0] = web;
                return warn(plan, "Procfile: \"web\" is not the first entry; it is the proxied one "
                                  "nevertheless");
        }
        return warn(
                plan,
                "Procfile: no entry is named \"web\"; the first one, \"%s\", is the proxied one",
                processes[0].name);
}

/* Fit for a command line without quotes. */
static bool is_plain_name(const char *name) {
        return name[0] != '-' &&
               name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                 "0123456789._+-")] == '\0';
}

/* The one jar at the root (beside "application.jar"); NULL: none, or more than one. */
static const char *only_jar(int dir_fd, char *const *names) {
        const char *jar = NULL;

        for (char *const *name = names; name && *name; name++) {
                if (!str_has_suffix(*name, ".jar") || type_at(dir_fd, *name) != S_IFREG)
                        continue;
                if (jar)
                        return NULL;
                jar = *name;
        }
        return jar;
}

static int plan_jar(Plan *plan, const char *command) {
        plan->kind = PLAN_JAR;
        return add_process(plan, "web", command);
}

/* Without a Procfile: what the files at the root look like. */
static int detect(int dir_fd, const TaskPlan *how, Plan *plan, Error **reterr) {
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_free_ char *command = NULL;
        const char *jar;
        int r;

        if (type_at(dir_fd, JAR_NAME) == S_IFREG)
                return plan_jar(plan, how->default_command ? how->default_command : JAR_COMMAND);
        if (type_at(dir_fd, "WEB-INF") == S_IFDIR) {
                plan->kind = PLAN_WAR;
                return 0;
        }

        r = list_names(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), ".", &names,
                       reterr);
        if (r < 0)
                return r;
        jar = only_jar(dir_fd, names);
        if (jar && is_plain_name(jar)) {
                command = str_format("java -jar %s", jar);
                return command ? plan_jar(plan, command) : -ENOMEM;
        }
        plan->kind = PLAN_STATIC;
        return warn(plan, "there is nothing to run: no Procfile, no single jar, no WEB-INF; files "
                          "are only served");
}

/* What stands there and is not acted on, by this program or by main. */
static int look_around(int dir_fd, Plan *plan) {
        static const char *const names[] = { ".ebextensions", "cron.yaml", "env.yaml" };
        static const struct {
                const char *path, *words;
        } unused[] = {
                { ".ebextensions/nginx",
                  "configuration of the proxy belongs into .platform/nginx" },
                { ".ebextensions/httpd",
                  "the proxy is nginx; its configuration belongs into .platform/nginx" },
                { ".platform/httpd",
                  "the proxy is nginx; its configuration belongs into .platform/nginx" },
                { ".platform/confighooks", "changes of the configuration alone run no hooks" },
        };
        int r;

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                if (type_at(dir_fd, names[i]) == 0)
                        continue;
                r = strv_add(&plan->folders, FOLDERS_MAX, names[i]);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < ELEMENTS(unused); i++) {
                if (type_at(dir_fd, unused[i].path) == 0)
                        continue;
                r = warn(plan, "%s is not used: %s", unused[i].path, unused[i].words);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int collect_all(int dir_fd, Plan *plan, Error **reterr) {
        const struct {
                const char *folder, *suffix;
                char ***list;
        } rows[] = {
                { ".platform/hooks/prebuild", NULL, &plan->prebuild },
                { ".platform/hooks/predeploy", NULL, &plan->predeploy },
                { ".platform/hooks/postdeploy", NULL, &plan->postdeploy },
                { ".platform/nginx/conf.d", ".conf", &plan->proxy_http },
                { ".platform/nginx/conf.d/elasticbeanstalk", ".conf", &plan->proxy_server },
        };
        int r;

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                r = collect(dir_fd, rows[i].folder, rows[i].suffix, plan, rows[i].list, reterr);
                if (r < 0)
                        return r;
        }
        if (type_at(dir_fd, ".platform/nginx/nginx.conf") == S_IFREG) {
                plan->proxy_main = strdup(".platform/nginx/nginx.conf");
                if (!plan->proxy_main)
                        return -ENOMEM;
        }
        return look_around(dir_fd, plan);
}

static void plan_done(Plan *plan) {
        json_table_done(&plan_table, plan);
}

int bundle_plan(int dir_fd, const TaskPlan *how, Plan *ret, Error **reterr) {
        _cleanup_(plan_done) Plan plan = { .format = FORMAT_DOCUMENT };
        int r;

        assert(how && ret);

        r = read_processes(dir_fd, "Procfile", &plan.processes, reterr);
        if (r < 0)
                return r;
        if (r > 0 && plan.processes.n == 0)
                return error_set(reterr, -EBADMSG, "Procfile: no entry in it");
        plan.kind = PLAN_PROCFILE;
        r = r > 0 ? put_web_first(&plan) : detect(dir_fd, how, &plan, reterr);
        if (r < 0)
                return r;

        r = read_processes(dir_fd, "Buildfile", &plan.build, reterr);
        if (r < 0)
                return r;
        r = collect_all(dir_fd, &plan, reterr);
        if (r < 0)
                return r;

        *ret = plan;
        plan = (Plan){ 0 };
        return 0;
}
