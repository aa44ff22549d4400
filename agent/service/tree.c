#include "service/tree.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/str.h"
#include "loop/log.h"

#define ARGS_MAX 16

/* Lines of the program's output: notes, and the sentence in which it fails. */
#define LINES_MAX 64

struct TreeTask {
        Child *child;
        char *verb;
        char **lines;
        TreeDone done;
        void *userdata;
};

TreeTask *tree_cancel(TreeTask *task) {
        if (!task)
                return NULL;
        task->child = child_free(task->child);
        task->lines = strv_free(task->lines);
        free(task->verb);
        free(task);
        return NULL;
}
DEFINE_CLEANUP(TreeTask, tree_cancel);

static void tree_on_line(Child *child, const char *line, void *userdata) {
        TreeTask *task = userdata;
        _cleanup_free_ char *shown = str_printable(line, strlen(line));

        (void) child;
        /* Beyond the maximum a bundle would only repeat itself. */
        if (shown)
                (void) strv_add(&task->lines, LINES_MAX, shown);
}

/* The last line is the sentence; it begins with the verb. */
static int failure(const TreeTask *task, const ChildExit *how, Error **reterr) {
        size_t n = strv_count(task->lines);
        char text[96];

        child_exit_text(how, text);
        if (how->timed_out)
                return error_set(reterr, -ETIMEDOUT, "%s: %s", task->verb, text);
        if (how->code == 1 && n > 0)
                return error_set(reterr, -EIO, "%s", task->lines[n - 1]);
        return error_set(reterr, -EIO, "%s: tendril-tree ended with %s%s%s", task->verb, text,
                         n > 0 ? ": " : "", n > 0 ? task->lines[n - 1] : "");
}

static void tree_on_exit(Child *child, const ChildExit *how, void *userdata) {
        _cleanup_(tree_cancelp) TreeTask *task = userdata;
        _cleanup_(error_freep) Error *err = NULL;
        bool answers = str_equal(task->verb, "mount") || str_equal(task->verb, "probe");
        TreeDone done = task->done;
        int r = 0;

        (void) child;
        if (!how->timed_out && how->code == TREE_EXIT_LINK && answers)
                r = TREE_WAS_LINK;
        else if (how->timed_out || how->code != 0)
                r = failure(task, how, &err);
        else
                for (char *const *line = task->lines; line && *line; line++)
                        log_notice("%s: %s", task->verb, *line);
        userdata = task->userdata;
        task = tree_cancel(task);
        done(userdata, r, err);
}

static int make_argv(const char *verb, char *const *args, char ***ret) {
        int r;

        r = strv_add(ret, ARGS_MAX, "tendril-tree");
        if (r >= 0)
                r = strv_add(ret, ARGS_MAX, verb);
        for (; r >= 0 && args && *args; args++)
                r = strv_add(ret, ARGS_MAX, *args);
        return r;
}

int tree_run(sd_event *loop, int program_fd, const char *verb, char *const *args, int dir_fd,
             usec_t timeout_usec, TreeDone done, void *userdata, TreeTask **ret, Error **reterr) {
        _cleanup_(tree_cancelp) TreeTask *task = calloc(1, sizeof(*task));
        _cleanup_(strv_freep) char **argv = NULL;
        int r;

        assert(loop && program_fd > 0 && verb && done && ret);

        if (!task)
                return -ENOMEM;
        task->done = done;
        task->userdata = userdata;
        task->verb = strdup(verb);
        r = task->verb ? make_argv(verb, args, &argv) : -ENOMEM;
        if (r < 0)
                return error_set(reterr, r, "%s: %s", verb, strerror(-r));
        r = child_spawn(loop,
                        &(ChildSpec){ .name = "tendril-tree",
                                      .program_fd = program_fd,
                                      .argv = argv,
                                      .pass_fds = &dir_fd,
                                      .n_pass_fds = dir_fd >= 0 ? 1 : 0,
                                      .flags = CHILD_PDEATHSIG,
                                      .timeout_usec = timeout_usec,
                                      .on_line = tree_on_line,
                                      .on_exit = tree_on_exit,
                                      .userdata = task },
                        &task->child, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "%s", verb);
        *ret = TAKE_PTR(task);
        return 0;
}
