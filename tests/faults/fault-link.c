/* Countdown over a link whose process ends before it answers, which is all that a program of the
 * system can do: every call ends once, and nothing is left. */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <systemd/sd-event.h>

#include "base/json.h"
#include "countdown.h"
#include "loop/cgroup.h"
#include "loop/link.h"

#define INSTANCE "fault-link"
#define TURNS    2000

typedef struct Words {
        char *text;
} Words;

static const JsonField words_fields[] = {
        JSON_ROW("text", JSON_KIND_STRING, 0, Words, text),
        JSON_END,
};
static const JsonTable words_table = { words_fields, sizeof(Words) };

typedef struct World {
        sd_event *loop;
        Link *link;
        int program_fd;
        unsigned n_done, n_ended; /* of calls; those that did not end as they should */
        int r;
        Error *err;
} World;

static World *world(void) {
        static World w;

        return &w;
}

static void begin(void) {
        World *w = world();

        *w = (World){ .program_fd = open("/bin/true", O_PATH | O_CLOEXEC) };
        if (sd_event_new(&w->loop) < 0)
                countdown_bad("the test itself: no loop");
}

static void end(_unused_ int r) {
        World *w = world();

        w->link = link_free(w->link);
        w->loop = sd_event_unref(w->loop);
        w->err = error_free(w->err);
        closep(&w->program_fd);
        (void) cgroup_remove(INSTANCE, NULL);
}

static void on_done(_unused_ void *userdata, int r, _unused_ CallReply *reply, Error *err) {
        World *w = world();

        w->n_done++;
        if (r == -ECONNRESET)
                return;
        w->r = r;
        w->err = error_free(w->err);
        countdown_pause();
        if (err)
                (void) error_set(&w->err, r, "%s", error_text(err));
        countdown_resume();
}

static int make_link(const char *greeting) {
        static char text[] = "hello";
        static const Words words = { .text = text };
        World *w = world();
        const LinkSpec spec = { .name = "true",
                                .program_fd = w->program_fd,
                                .instance = INSTANCE,
                                .greeting = greeting,
                                .greeting_table = greeting ? &words_table : NULL,
                                .greeting_parameters = &words };

        return link_new(w->loop, &spec, &w->link);
}

static int call(void) {
        char text[] = "parameters";
        const Words words = { .text = text };
        World *w = world();

        return link_call(w->link, "echo", &words_table, &words, &w->program_fd, 1, SEC(20), on_done,
                         NULL, NULL);
}

/* Two calls, and perhaps what ends them; until both have ended. */
static int run(const char *greeting, void (*meanwhile)(void), Error **reterr) {
        World *w = world();
        unsigned n = 0;
        int r;

        r = make_link(greeting);
        for (unsigned i = 0; i < 2 && r >= 0; i++) {
                r = call();
                n += r >= 0;
        }
        if (r < 0)
                (void) error_set(reterr, r, "call");
        if (meanwhile && r >= 0)
                meanwhile();
        for (unsigned i = 0; i < TURNS && w->n_done < n; i++)
                if (sd_event_run(w->loop, SEC(1)) < 0)
                        break;
        if (w->n_done != n)
                countdown_bad("%u of %u calls have ended", w->n_done, n);
        if (r >= 0 && w->r < 0) {
                r = w->r;
                *reterr = TAKE_PTR(w->err);
        }
        return r < 0 ? r : 0;
}

static int run_plain(Error **reterr) {
        return run(NULL, NULL, reterr);
}

static int run_greeted(Error **reterr) {
        return run("hello", NULL, reterr);
}

static void regreet(void) {
        link_regreet(world()->link, NULL, NULL, NULL);
}

static int run_regreet(Error **reterr) {
        return run("hello", regreet, reterr);
}

static void restart(void) {
        World *w = world();

        for (unsigned i = 0; i < 3; i++)
                (void) sd_event_run(w->loop, 0);
        link_restart(w->link);
}

static int run_restart(Error **reterr) {
        return run(NULL, restart, reterr);
}

/* clang-format off */
const Case cases[] = {
        { "link",          begin, run_plain,   end, 0 },
        { "link-greeted",  begin, run_greeted, end, 0 },
        { "link-regreet",  begin, run_regreet, end, 0 },
        { "link-restart",  begin, run_restart, end, 0 },
        { 0 },
};
/* clang-format on */
