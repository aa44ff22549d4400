/* Helpers are this very program, started again by descriptor under another name. */

#include "loop/link.h"

#include <fcntl.h>
#include <sys/mman.h>

#include "agent/limits.h"
#include "base/str.h"
#include "loop.h"
#include "loop/cgroup.h"

#define HELPER_NAME "tendril-link"
#define INSTANCE    "test-link"

typedef struct Words {
        char *text;
        uint64_t number;
} Words;

static const JsonField words_fields[] = {
        JSON_ROW("text", JSON_KIND_STRING, 0, Words, text),
        JSON_ROW("number", JSON_KIND_U64, 0, Words, number),
        JSON_END,
};
static const JsonTable words_table = { words_fields, sizeof(Words) };

/* ---- the helper: a method is what it does, a greeting's text too ---- */

static void answer(const CallRequest *request, uint64_t number) {
        Words words = { .number = number };

        if (call_answer(3, request->id, &words_table, &words, NULL, 0) < 0)
                _exit(4);
}

static void crash(const char *why) {
        (void) dprintf(2, "first line\nit was %s\n", why);
        _exit(3);
}

/* How many bytes the file that came with the call has. */
static uint64_t file_size(const CallRequest *request) {
        return request->n_fds > 0 ? (uint64_t) lseek(request->fds[0], 0, SEEK_END) : 0;
}

static void serve_one(const CallRequest *request, uint64_t *n_greeted) {
        const char *what = request->method;
        Words words = { 0 };

        (void) json_decode_value(request->parameters, &words_table, JSON_LENIENT, &words, NULL);
        if (str_equal(what, "hello")) {
                *n_greeted = *n_greeted + 1;
                what = words.text ?: "";
        }
        if (str_equal(what, "crash"))
                crash("too much");
        else if (str_equal(what, "hang")) {
                for (;;)
                        (void) pause();
        } else if (str_equal(what, "refuse"))
                (void) call_fail(3, request->id, -EACCES, "not you");
        else if (str_equal(what, "reset"))
                (void) call_fail(3, request->id, -ECONNRESET, "the server closed");
        else if (str_equal(what, "rubbish"))
                (void) !write(3, "[]", 2);
        else if (str_equal(what, "pid"))
                answer(request, (uint64_t) getpid());
        else if (str_equal(what, "greeted"))
                answer(request, *n_greeted);
        else if (str_equal(what, "size"))
                answer(request, file_size(request));
        else if (!str_equal(what, "silence"))
                answer(request, words.number);
        json_table_done(&words_table, &words);
}

static int helper_main(void) {
        CallRequest request;
        uint64_t n_greeted = 0;
        int r;

        while ((r = call_receive(3, &request)) >= 0) {
                serve_one(&request, &n_greeted);
                call_request_done(&request);
        }
        return r == -ENODATA ? 0 : 5;
}

/* ---- the tests ---- */

typedef struct Fixture {
        sd_event *loop;
        Link *link;
        int program_fd;
        Words greeting;
} Fixture;

typedef struct Outcome {
        Fixture *f;
        LinkCall *call;
        int n_done, r;
        uint64_t number;
        char words[1024];
        bool free_link, again;
} Outcome;

static void ask(Fixture *f, const char *method, uint64_t number, Outcome *o);

static void on_done(void *userdata, int r, CallReply *reply, Error *err) {
        Outcome *o = userdata;
        Words words = { 0 };

        o->n_done++;
        o->call = NULL;
        o->r = r;
        (void) snprintf(o->words, sizeof(o->words), "%s", r < 0 ? error_text(err) : "");
        if (r >= 0 &&
            json_decode_value(reply->answer, &words_table, JSON_LENIENT, &words, NULL) >= 0)
                o->number = words.number;
        json_table_done(&words_table, &words);
        if (o->free_link)
                o->f->link = link_free(o->f->link);
        else if (o->again) {
                o->again = false;
                ask(o->f, "echo", 7, o);
        }
}

static void ask_within(Fixture *f, const char *method, uint64_t number, usec_t timeout,
                       Outcome *o) {
        Words words = { .text = strdup("parameters"), .number = number };

        o->f = f;
        assert_int_equal(link_call(f->link, method, &words_table, &words, NULL, 0, timeout, on_done,
                                   o, &o->call),
                         0);
        /* They were copied. */
        json_table_done(&words_table, &words);
}

static void ask(Fixture *f, const char *method, uint64_t number, Outcome *o) {
        ask_within(f, method, number, SEC(20), o);
}

/* One call, waited for; its outcome. */
static Outcome asked(Fixture *f, const char *method, uint64_t number) {
        Outcome o = { 0 };

        ask(f, method, number, &o);
        assert_int_equal(o.n_done, 0);
        loop_until(f->loop, &o.n_done, 1);
        return o;
}

static void setup_link(Fixture *f, const char *greeting, usec_t idle) {
        LinkSpec spec = { .name = HELPER_NAME,
                          .instance = INSTANCE,
                          .flags = CHILD_PDEATHSIG,
                          .idle_usec = idle };

        *f = (Fixture){ .loop = loop_new() };
        f->program_fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
        f->greeting.text = greeting ? strdup(greeting) : NULL;
        spec.program_fd = f->program_fd;
        if (greeting) {
                spec.greeting = "hello";
                spec.greeting_table = &words_table;
                spec.greeting_parameters = &f->greeting;
        }
        assert_int_equal(link_new(f->loop, &spec, &f->link), 0);
}

static void teardown_link(Fixture *f) {
        f->link = link_free(f->link);
        json_table_done(&words_table, &f->greeting);
        closep(&f->program_fd);
        f->loop = sd_event_unref(f->loop);
}

/* Lets pass what is ready, and no time. */
static void settle(Fixture *f) {
        for (int i = 0; i < 50; i++)
                (void) sd_event_run(f->loop, 0);
}

static void test_greeted_first(void **state) {
        Outcome many[20] = { 0 };
        Fixture f;

        (void) state;
        setup_link(&f, "", 0);
        for (unsigned i = 0; i < ELEMENTS(many); i++)
                ask(&f, "echo", i + 1, &many[i]);
        for (unsigned i = 0; i < ELEMENTS(many); i++) {
                loop_until(f.loop, &many[i].n_done, 1);
                assert_int_equal(many[i].r, 0);
                assert_int_equal(many[i].number, i + 1);
        }
        /* Once, for the life of the process. */
        assert_int_equal(asked(&f, "greeted", 0).number, 1);
        assert_int_equal(asked(&f, "greeted", 0).number, 1);
        teardown_link(&f);

        setup_link(&f, NULL, 0);
        assert_int_equal(asked(&f, "greeted", 0).number, 0);
        teardown_link(&f);
}

/* Descriptors are duplicated, also while there is no process yet. */
static void test_descriptors(void **state) {
        Fixture f;

        (void) state;
        setup_link(&f, "", 0);
        for (int i = 0; i < 2; i++) {
                Outcome o = { .f = &f };
                int fd = memfd_create("x", MFD_CLOEXEC);

                assert_int_equal(ftruncate(fd, 4711), 0);
                assert_int_equal(
                        link_call(f.link, "size", NULL, NULL, &fd, 1, SEC(20), on_done, &o, NULL),
                        0);
                (void) close(fd);
                loop_until(f.loop, &o.n_done, 1);
                assert_int_equal(o.number, 4711);
        }
        teardown_link(&f);
}

static void test_errors_are_the_helpers(void **state) {
        Fixture f;
        Outcome o;
        uint64_t pid;

        (void) state;
        setup_link(&f, "", 0);
        pid = asked(&f, "pid", 0).number;
        o = asked(&f, "refuse", 0);
        assert_int_equal(o.r, -EACCES);
        assert_string_equal(o.words, "refuse: not you");
        /* Its own word for a lost connection is not its death. */
        o = asked(&f, "reset", 0);
        assert_int_equal(o.r, -ECONNRESET);
        assert_string_equal(o.words, "reset: the server closed");
        assert_int_equal(asked(&f, "pid", 0).number, pid);
        teardown_link(&f);
}

static void test_death_under_a_call(void **state) {
        Fixture f;
        Outcome o, silent = { 0 };
        uint64_t pid;

        (void) state;
        setup_link(&f, "", 0);
        pid = asked(&f, "pid", 0).number;
        ask(&f, "silence", 0, &silent);
        o = asked(&f, "crash", 0);
        assert_int_equal(o.r, -ECONNRESET);
        assert_string_equal(o.words, "crash: tendril-link ended before it answered (exit 3): first "
                                     "line it was too much");
        loop_until(f.loop, &silent.n_done, 1);
        assert_int_equal(silent.r, -ECONNRESET);
        assert_true(str_has_prefix(silent.words, "silence: tendril-link ended"));
        assert_true(pid_goes((pid_t) pid));
        /* The next call has another one, greeted again. */
        o = asked(&f, "pid", 0);
        assert_int_equal(o.r, 0);
        assert_int_not_equal(o.number, pid);
        assert_int_equal(asked(&f, "greeted", 0).number, 1);
        teardown_link(&f);
}

/* It dies while nobody asks. */
static void test_death_between_calls(void **state) {
        Fixture f;
        Outcome o;
        pid_t pid;

        (void) state;
        setup_link(&f, "", 0);
        pid = (pid_t) asked(&f, "pid", 0).number;
        assert_int_equal(kill(pid, SIGKILL), 0);
        /* The call comes before the loop has seen it, and waits for another one. */
        o = asked(&f, "pid", 0);
        if (o.r == 0)
                assert_int_not_equal(o.number, pid);
        else
                assert_int_equal(o.r, -ECONNRESET);
        assert_int_equal(asked(&f, "echo", 3).number, 3);
        teardown_link(&f);
}

static void test_rubbish(void **state) {
        Fixture f;
        Outcome o;

        (void) state;
        setup_link(&f, "", 0);
        o = asked(&f, "rubbish", 0);
        assert_int_equal(o.r, -EBADMSG);
        assert_true(str_has_prefix(o.words, "rubbish: "));
        assert_int_equal(asked(&f, "echo", 3).number, 3);
        teardown_link(&f);
}

static void test_greeting_refused(void **state) {
        Outcome two[2] = { 0 };
        Fixture f;

        (void) state;
        setup_link(&f, "refuse", 0);
        ask(&f, "echo", 1, &two[0]);
        ask(&f, "echo", 2, &two[1]);
        for (int i = 0; i < 2; i++) {
                loop_until(f.loop, &two[i].n_done, 1);
                assert_int_equal(two[i].r, -EACCES);
                assert_string_equal(two[i].words, "echo: hello: not you");
        }
        teardown_link(&f);
}

static void test_death_in_greeting(void **state) {
        Outcome o;
        Fixture f;
        usec_t begin;

        (void) state;
        setup_link(&f, "crash", 0);
        o = asked(&f, "echo", 0);
        assert_int_equal(o.r, -ECONNRESET);
        assert_string_equal(o.words, "echo: tendril-link ended before it answered (exit 3): first "
                                     "line it was too much");
        /* Its own lost connection ends it too. */
        free(f.greeting.text);
        f.greeting.text = strdup("reset");
        begin = clock_read(NULL, CLOCK_MONOTONIC);
        o = asked(&f, "echo", 0);
        assert_int_equal(o.r, -ECONNRESET);
        /* Not at once again. */
        assert_true(clock_read(NULL, CLOCK_MONOTONIC) - begin >= MSEC(100));
        teardown_link(&f);
}

/* Who waits in vain hears why. */
static void test_waiting_ends(void **state) {
        Outcome o = { 0 };
        Fixture f;

        (void) state;
        setup_link(&f, "refuse", 0);
        assert_int_equal(asked(&f, "echo", 0).r, -EACCES);
        assert_int_equal(asked(&f, "echo", 0).r, -EACCES);
        ask_within(&f, "echo", 0, MSEC(20), &o);
        loop_until(f.loop, &o.n_done, 1);
        assert_int_equal(o.r, -ETIMEDOUT);
        assert_string_equal(o.words, "echo: no answer within 20 ms; hello: not you");

        /* And so does who is not answered. */
        link_regreet(f.link, NULL, NULL, NULL);
        assert_int_equal(asked(&f, "echo", 5).number, 5);
        o = (Outcome){ 0 };
        ask_within(&f, "silence", 0, MSEC(20), &o);
        loop_until(f.loop, &o.n_done, 1);
        assert_int_equal(o.r, -ETIMEDOUT);
        assert_string_equal(o.words, "silence: no answer within 20 ms");
        assert_int_equal(asked(&f, "echo", 5).number, 5);
        teardown_link(&f);
}

static void test_no_program(void **state) {
        LinkSpec spec = { .name = HELPER_NAME, .instance = INSTANCE };
        Outcome o;
        Fixture f = { .loop = loop_new() };

        (void) state;
        f.program_fd = spec.program_fd = open("/dev/null", O_PATH | O_CLOEXEC);
        assert_int_equal(link_new(f.loop, &spec, &f.link), 0);
        o = asked(&f, "echo", 0);
        assert_true(o.r < 0);
        assert_non_null(strstr(o.words, HELPER_NAME));
        teardown_link(&f);
}

static void test_idle(void **state) {
        Outcome silent = { 0 };
        Fixture f;
        pid_t pid, other;

        (void) state;
        setup_link(&f, "", MSEC(20));
        pid = (pid_t) asked(&f, "pid", 0).number;
        for (int i = 0; i < 5000 && !pid_is_gone(pid); i++)
                (void) sd_event_run(f.loop, MSEC(5));
        assert_true(pid_is_gone(pid));

        /* With a call under way it is not idle. */
        other = (pid_t) asked(&f, "pid", 0).number;
        assert_int_not_equal(other, pid);
        ask(&f, "silence", 0, &silent);
        for (int i = 0; i < 60; i++)
                (void) sd_event_run(f.loop, MSEC(5));
        assert_false(pid_is_gone(other));
        silent.call = link_cancel(silent.call);
        for (int i = 0; i < 5000 && !pid_is_gone(other); i++)
                (void) sd_event_run(f.loop, MSEC(5));
        assert_true(pid_is_gone(other));

        /* Another time; and what ends is not waited for. */
        link_set_idle(f.link, MSEC(1));
        for (int i = 0; i < 20; i++) {
                assert_int_equal(asked(&f, "echo", 9).number, 9);
                (void) sd_event_run(f.loop, MSEC(1));
        }
        link_set_idle(f.link, 0);
        pid = (pid_t) asked(&f, "pid", 0).number;
        settle(&f);
        assert_int_equal(asked(&f, "pid", 0).number, pid);
        teardown_link(&f);
        assert_true(pid_goes(pid));
}

static void test_restart(void **state) {
        Outcome silent = { 0 };
        Fixture f;
        pid_t pid;

        (void) state;
        setup_link(&f, "", 0);
        link_restart(f.link);
        pid = (pid_t) asked(&f, "pid", 0).number;
        ask(&f, "silence", 0, &silent);
        settle(&f);
        link_restart(f.link);
        assert_true(pid_goes(pid));
        assert_int_equal(silent.n_done, 0);
        loop_until(f.loop, &silent.n_done, 1);
        assert_int_equal(silent.r, -ECONNRESET);
        assert_string_equal(silent.words, "silence: tendril-link was ended on purpose");
        assert_int_equal(asked(&f, "echo", 4).number, 4);

        /* What was not sent yet goes to the next one. */
        link_restart(f.link);
        silent = (Outcome){ 0 };
        ask(&f, "echo", 8, &silent);
        link_restart(f.link);
        loop_until(f.loop, &silent.n_done, 1);
        assert_int_equal(silent.number, 8);
        teardown_link(&f);
}

static void test_regreet(void **state) {
        Outcome sent = { 0 }, waiting = { 0 };
        Fixture f;
        pid_t pid;

        (void) state;
        setup_link(&f, NULL, 0);
        pid = (pid_t) asked(&f, "pid", 0).number;
        ask(&f, "silence", 0, &sent);
        f.greeting.text = strdup("");
        link_regreet(f.link, "hello", &words_table, &f.greeting);
        assert_true(pid_goes(pid));
        loop_until(f.loop, &sent.n_done, 1);
        assert_int_equal(sent.r, -ECONNRESET);
        assert_int_equal(asked(&f, "greeted", 0).number, 1);

        /* Meant for the old settings, though not sent. */
        link_restart(f.link);
        ask(&f, "echo", 0, &waiting);
        link_regreet(f.link, NULL, NULL, NULL);
        loop_until(f.loop, &waiting.n_done, 1);
        assert_int_equal(waiting.r, -ECONNRESET);
        assert_non_null(strstr(waiting.words, "settings have changed"));
        assert_int_equal(asked(&f, "greeted", 0).number, 0);
        teardown_link(&f);
}

static void test_cancel(void **state) {
        Outcome early = { 0 }, late = { 0 };
        Fixture f;

        (void) state;
        setup_link(&f, "", 0);
        ask(&f, "echo", 1, &early);
        early.call = link_cancel(early.call);
        assert_null(link_cancel(NULL));
        assert_int_equal(asked(&f, "echo", 2).number, 2);
        ask(&f, "echo", 3, &late);
        late.call = link_cancel(late.call);
        assert_int_equal(asked(&f, "echo", 4).number, 4);
        /* One that ended, and was not told yet. */
        ask(&f, "silence", 0, &late);
        settle(&f);
        link_restart(f.link);
        late.call = link_cancel(late.call);
        assert_int_equal(asked(&f, "echo", 5).number, 5);
        assert_int_equal(early.n_done + late.n_done, 0);
        teardown_link(&f);
}

static void test_limits(void **state) {
        Outcome o = { 0 };
        Fixture f;
        int fds[CALL_MAX_FDS + 1] = { 0 };

        (void) state;
        setup_link(&f, NULL, 0);
        assert_int_equal(
                link_call(f.link, "echo", NULL, NULL, fds, ELEMENTS(fds), 0, on_done, &o, NULL),
                -EINVAL);
        for (int i = 0; i < LIMIT_CALLS; i++)
                assert_int_equal(
                        link_call(f.link, "silence", NULL, NULL, NULL, 0, 0, on_done, &o, NULL), 0);
        assert_int_equal(link_call(f.link, "silence", NULL, NULL, NULL, 0, 0, on_done, &o, NULL),
                         -ENOBUFS);
        link_restart(f.link);
        settle(&f);
        teardown_link(&f);
        assert_int_equal(o.n_done, 0);
}

/* done() frees the link: from an answer, from a death, from a failed greeting, from a restart. */
static void test_free_when_done(void **state) {
        static const char *const methods[] = { "echo", "crash", "rubbish" };
        Fixture f;

        (void) state;
        for (unsigned i = 0; i < ELEMENTS(methods); i++) {
                Outcome first = { .free_link = true }, second = { 0 };

                setup_link(&f, "", 0);
                ask(&f, methods[i], 0, &first);
                ask(&f, "silence", 0, &second);
                loop_until(f.loop, &first.n_done, 1);
                settle(&f);
                assert_int_equal(second.n_done, 0);
                teardown_link(&f);
        }
        for (unsigned i = 0; i < 2; i++) {
                Outcome first = { .free_link = true }, second = { 0 };

                setup_link(&f, i == 0 ? "crash" : "refuse", 0);
                ask(&f, "echo", 0, &first);
                ask(&f, "echo", 0, &second);
                loop_until(f.loop, &first.n_done, 1);
                settle(&f);
                assert_int_equal(second.n_done, 0);
                teardown_link(&f);
        }
}

/* done() asks again, where others have just ended too. */
static void test_ask_when_done(void **state) {
        Outcome many[3] = { 0 };
        Fixture f;

        (void) state;
        setup_link(&f, "", 0);
        assert_int_equal(asked(&f, "echo", 1).number, 1);
        for (unsigned i = 0; i < ELEMENTS(many); i++) {
                many[i].again = true;
                ask(&f, "silence", 0, &many[i]);
        }
        settle(&f);
        link_restart(f.link);
        for (unsigned i = 0; i < ELEMENTS(many); i++) {
                loop_until(f.loop, &many[i].n_done, 2);
                assert_int_equal(many[i].r, 0);
                assert_int_equal(many[i].number, 7);
        }
        teardown_link(&f);
}

static int remove_groups(void **state) {
        (void) state;
        return cgroup_remove(INSTANCE, NULL);
}

int main(int argc, char **argv) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_greeted_first),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_errors_are_the_helpers),
                cmocka_unit_test(test_death_under_a_call),
                cmocka_unit_test(test_death_between_calls),
                cmocka_unit_test(test_rubbish),
                cmocka_unit_test(test_greeting_refused),
                cmocka_unit_test(test_death_in_greeting),
                cmocka_unit_test(test_waiting_ends),
                cmocka_unit_test(test_no_program),
                cmocka_unit_test(test_idle),
                cmocka_unit_test(test_restart),
                cmocka_unit_test(test_regreet),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_free_when_done),
                cmocka_unit_test(test_ask_when_done),
        };

        if (argc == 1 && str_equal(argv[0], HELPER_NAME))
                return helper_main();
        return cmocka_run_group_tests_name("link", tests, loop_block_signals, remove_groups);
}
