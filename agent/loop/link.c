#include "loop/link.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/limits.h"
#include "base/backoff.h"
#include "base/str.h"
#include "packet.h"

/* The first call that a process gets opens what it serves; it asks nobody else. */
#define GREETING_USEC SEC(10)

/* A process that dies over and over costs a start, and its callers a look, this often. */
#define BACKOFF_FIRST_USEC MSEC(250)
#define BACKOFF_MAX_USEC   SEC(15)

#define TIMER_ACCURACY_USEC MSEC(5)

/* Of its last lines, in a sentence. */
#define OUTPUT_BYTES 600

typedef enum LinkState {
        LINK_RESTS,  /* no process, and none is asked for */
        LINK_STARTS, /* no process; the timer starts one */
        LINK_GREETS,
        LINK_SERVES,
        LINK_CLOSES, /* its channel is closed, it ends by itself */
        LINK_FAILED, /* the same, after a greeting that got no answer: its end says why */
} LinkState;

typedef enum CallState {
        CALL_WAITS, /* for a process; it holds its own copy of everything */
        CALL_SENT,
        CALL_LOST,  /* the process is going; how it ended is not known yet */
        CALL_ENDED, /* done() comes from the loop */
} CallState;

struct LinkCall {
        Link *link;
        LinkCall *next;
        CallState state;
        char *method;
        const JsonTable *table;
        void *parameters;
        int fds[CALL_MAX_FDS];
        size_t n_fds;
        int id; /* of the peer's call, once it is sent */
        usec_t timeout_usec;
        sd_event_source *timer;
        int r; /* with err, once it has ended */
        Error *err;
        CallDone done;
        void *userdata;
};

struct Link {
        sd_event *loop;
        const char *name;
        int program_fd;
        HelperUser user;
        char *instance;
        unsigned flags;
        usec_t idle_usec;
        const char *greeting;
        const JsonTable *greeting_table;
        const void *greeting_parameters;

        LinkState state;
        Helper *helper;
        sd_event_source *start; /* to start a process, now or when its turn has come again */
        sd_event_source *idle;
        sd_event_source *flush; /* calls that have ended are to be told */
        Backoff backoff;
        usec_t not_before_usec;
        Error *why; /* why there is none: the last failure; NULL once one has answered */

        LinkCall *first; /* in the order in which they were made */
        size_t n_calls;

        unsigned n_busy; /* callbacks under way: the memory lives until they return */
        bool freed;
};

static void link_enter(Link *l) {
        l->n_busy++;
}

static void link_leave(Link *l) {
        l->n_busy--;
        if (l->freed && l->n_busy == 0)
                free(l);
}

/* ---- calls ---- */

static void call_add(Link *l, LinkCall *call) {
        LinkCall **at = &l->first;

        while (*at)
                at = &(*at)->next;
        *at = call;
        l->n_calls++;
}

static void call_remove(LinkCall *call) {
        Link *l = call->link;
        LinkCall **at = &l->first;

        while (*at && *at != call)
                at = &(*at)->next;
        if (*at)
                *at = call->next;
        l->n_calls--;
}

/* Its own copies, which it holds until it is sent. */
static void call_drop_copies(LinkCall *call) {
        packet_close_fds(call->fds, &call->n_fds);
        if (call->parameters)
                json_table_done(call->table, call->parameters);
        free(call->parameters);
        call->parameters = NULL;
}

static LinkCall *call_free(LinkCall *call) {
        if (!call)
                return NULL;

        call->timer = sd_event_source_disable_unref(call->timer);
        call_drop_copies(call);
        (void) error_free(call->err);
        free(call->method);
        free(call);
        return NULL;
}
DEFINE_CLEANUP(LinkCall, call_free);

static bool has_calls(const Link *l, CallState state) {
        for (const LinkCall *call = l->first; call; call = call->next)
                if (call->state == state)
                        return true;
        return false;
}

/* Taken out of the list before. The caller holds the link: done() may free it. */
static void call_tell(LinkCall *call, int r, CallReply *reply, Error *err) {
        CallDone done = call->done;
        void *userdata = call->userdata;
        CallReply none = { 0 };

        (void) call_free(call);
        done(userdata, r, reply ?: &none, err);
}

static void call_finish(LinkCall *call, int r, CallReply *reply, Error *err) {
        call_remove(call);
        call_tell(call, r, reply, err);
}

/* From here on only flush_ended() knows it. */
static void call_end(LinkCall *call, int r, const char *words) {
        call->state = CALL_ENDED;
        call->r = r;
        (void) error_set(&call->err, r, "%s: %s", call->method, words);
        call->timer = sd_event_source_disable_unref(call->timer);
        call_drop_copies(call);
}

static void end_calls(Link *l, CallState state, int r, const char *words) {
        for (LinkCall *call = l->first; call; call = call->next)
                if (call->state == state)
                        call_end(call, r, words);
}

static void arm_idle(Link *l) {
        bool idle = l->state == LINK_SERVES && l->n_calls == 0 && l->idle_usec > 0;

        if (idle)
                (void) sd_event_source_set_time_relative(l->idle, l->idle_usec);
        (void) sd_event_source_set_enabled(l->idle, idle ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

/* The first that has ended, taken out of the list; NULL: there is none. */
static LinkCall *take_ended(Link *l) {
        for (LinkCall **at = &l->first; *at; at = &(*at)->next)
                if ((*at)->state == CALL_ENDED) {
                        LinkCall *call = *at;

                        *at = call->next;
                        l->n_calls--;
                        return call;
                }
        return NULL;
}

/* What a done() changes in the list (others cancelled, new ones made) is seen: each look begins
 * anew. The caller holds the link. */
static void flush_ended(Link *l) {
        LinkCall *call = take_ended(l);

        while (call) {
                _cleanup_(error_freep) Error *err = TAKE_PTR(call->err);

                call_tell(call, call->r, NULL, err);
                call = l->freed ? NULL : take_ended(l);
        }
        if (!l->freed)
                arm_idle(l);
}

static int on_flush(_unused_ sd_event_source *s, void *userdata) {
        Link *l = userdata;

        link_enter(l);
        flush_ended(l);
        link_leave(l);
        return 0;
}

static int on_call_timeout(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        _cleanup_(error_freep) Error *err = NULL;
        LinkCall *call = userdata;
        Link *l = call->link;
        char span[32];

        link_enter(l);
        time_format_span(call->timeout_usec, span);
        (void) error_set(&err, -ETIMEDOUT, "%s: no answer within %s%s%s", call->method, span,
                         call->state == CALL_WAITS && l->why ? "; " : "",
                         call->state == CALL_WAITS && l->why ? error_text(l->why) : "");
        if (call->state == CALL_SENT)
                call_cancel(helper_peer(l->helper), call->id);
        call_finish(call, -ETIMEDOUT, NULL, err);
        if (!l->freed)
                arm_idle(l);
        link_leave(l);
        return 0;
}

/* ---- the process ---- */

static void on_nothing(_unused_ void *userdata, _unused_ int r, _unused_ CallReply *reply,
                       _unused_ Error *err) {
}

/* Asked where a call ended with -ECONNRESET, which may as well be the helper's own answer. A call
 * that is cancelled before the loop runs again is never sent. */
static bool peer_is_gone(const Link *l) {
        CallPeer *peer = helper_peer(l->helper);
        int id =
                peer ? call_send(peer, "-", NULL, NULL, NULL, 0, 0, on_nothing, NULL) : -ECONNRESET;

        if (id > 0)
                call_cancel(peer, id);
        return id == -ECONNRESET;
}

/* A process is asked for: at once, or when its turn has come again after failures. */
static void wake(Link *l) {
        usec_t now = clock_read(NULL, CLOCK_MONOTONIC);

        if (l->state == LINK_CLOSES) {
                l->helper = helper_free(l->helper);
                l->state = LINK_RESTS;
        }
        if (l->state != LINK_RESTS)
                return;
        l->state = LINK_STARTS;
        (void) sd_event_source_set_time(l->start, MAX(now, l->not_before_usec));
        (void) sd_event_source_set_enabled(l->start, SD_EVENT_ONESHOT);
}

/* There is no process any more, or could not be one: the next one has to wait. Those that waited
 * for its first answer end with the same words. */
static void link_failed(Link *l, bool before_service, int r, const char *words) {
        l->helper = helper_free(l->helper);
        l->state = LINK_RESTS;
        l->not_before_usec =
                clock_read(NULL, CLOCK_MONOTONIC) + backoff_next(&l->backoff, backoff_chance());
        l->why = error_free(l->why);
        (void) error_set(&l->why, r, "%s", words);

        end_calls(l, CALL_LOST, -ECONNRESET, words);
        if (before_service)
                end_calls(l, CALL_WAITS, r, words);
        if (has_calls(l, CALL_WAITS))
                wake(l);
        flush_ended(l);
}

/* The end of what it wrote, as one line; NULL: nothing (or no memory). */
static char *last_words(const Helper *helper) {
        const char *output = helper_output(helper);
        size_t size = strlen(output);
        char *text;

        if (size > OUTPUT_BYTES) {
                output += size - OUTPUT_BYTES;
                size = OUTPUT_BYTES;
        }
        while (size > 0 && output[size - 1] == '\n')
                size--;
        text = size > 0 ? strndup(output, size) : NULL;
        for (char *c = text; c && *c; c++)
                if (*c == '\n')
                        *c = ' ';
        return text;
}

static void on_end(Helper *helper, const ChildExit *how, void *userdata) {
        Link *l = userdata;
        LinkState state = l->state;
        _cleanup_free_ char *output = last_words(helper), *words = NULL;
        char text[96];

        link_enter(l);
        if (state == LINK_CLOSES) {
                l->helper = helper_free(l->helper);
                l->state = LINK_RESTS;
        } else {
                child_exit_text(how, text);
                words = str_format("%s ended before it answered (%s)%s%s", l->name, text,
                                   output ? ": " : "", output ?: "");
                link_failed(l, state != LINK_SERVES, -ECONNRESET, words ?: strerror(ECONNRESET));
        }
        link_leave(l);
}

static int on_idle(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        Link *l = userdata;

        if (l->state == LINK_SERVES && l->n_calls == 0) {
                l->state = LINK_CLOSES;
                helper_close(l->helper);
        }
        return 0;
}

/* ---- sending ---- */

static void on_reply(void *userdata, int r, CallReply *reply, Error *err) {
        LinkCall *call = userdata;
        Link *l = call->link;
        bool gone = r < 0 && peer_is_gone(l);

        link_enter(l);
        if (gone && r == -ECONNRESET)
                call->state = CALL_LOST;
        else {
                if (!gone) {
                        backoff_reset(&l->backoff);
                        l->why = error_free(l->why);
                }
                call_finish(call, r, reply, err);
                if (!l->freed)
                        arm_idle(l);
        }
        link_leave(l);
}

static int send_call(LinkCall *call, const void *parameters, const int *fds, size_t n_fds) {
        int r = call_send(helper_peer(call->link->helper), call->method, call->table, parameters,
                          fds, n_fds, 0, on_reply, call);

        if (r < 0)
                return r;
        call->id = r;
        call->state = CALL_SENT;
        return 0;
}

/* The process is ready: what waited goes, in its order. */
static void serve(Link *l) {
        l->state = LINK_SERVES;
        for (LinkCall *call = l->first; call; call = call->next) {
                int r = call->state == CALL_WAITS
                                ? send_call(call, call->parameters, call->fds, call->n_fds)
                                : 0;

                if (call->state == CALL_SENT)
                        call_drop_copies(call);
                else if (r < 0 && r != -ECONNRESET)
                        call_end(call, r, strerror(-r));
        }
        flush_ended(l);
}

static void on_greeted(void *userdata, int r, _unused_ CallReply *reply, Error *err) {
        Link *l = userdata;

        link_enter(l);
        if (r >= 0)
                serve(l);
        else if (r == -ECONNRESET) {
                l->state = LINK_FAILED;
                helper_close(l->helper);
        } else {
                _cleanup_free_ char *words = strdup(error_text(err));

                link_failed(l, true, r, words ?: strerror(-r));
        }
        link_leave(l);
}

static int start_helper(Link *l, Error **reterr) {
        const HelperSpec spec = {
                .name = l->name,
                .program_fd = l->program_fd,
                .user = l->user,
                .instance = l->instance,
                .flags = l->flags,
                .on_end = on_end,
                .userdata = l,
        };
        int r;

        r = helper_start(l->loop, &spec, &l->helper, reterr);
        if (r < 0 || !l->greeting)
                return r;
        r = call_send(helper_peer(l->helper), l->greeting, l->greeting_table,
                      l->greeting_parameters, NULL, 0, GREETING_USEC, on_greeted, l);
        return r < 0 ? error_set(reterr, r, "greet %s: %s", l->name, strerror(-r)) : 0;
}

static int on_start(_unused_ sd_event_source *s, _unused_ usec_t now, void *userdata) {
        _cleanup_(error_freep) Error *err = NULL;
        Link *l = userdata;
        int r;

        l->state = LINK_RESTS;
        /* Whoever asked for it may have gone. */
        if (!has_calls(l, CALL_WAITS))
                return 0;

        link_enter(l);
        r = start_helper(l, &err);
        if (r < 0)
                link_failed(l, true, r, err ? error_text(err) : strerror(-r));
        else if (l->greeting)
                l->state = LINK_GREETS;
        else
                serve(l);
        link_leave(l);
        return 0;
}

static int keep_copies(LinkCall *call, const void *parameters, const int *fds, size_t n_fds) {
        int r;

        for (size_t i = 0; i < n_fds; i++) {
                call->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);
                if (call->fds[i] < 0)
                        return -errno;
                call->n_fds++;
        }
        if (!call->table)
                return 0;
        call->parameters = calloc(1, call->table->size);
        if (!call->parameters)
                return -ENOMEM;
        r = json_table_copy(call->table, parameters, call->parameters);
        return r < 0 ? r : 0;
}

/* Sent at once where there is a process that is ready, else kept. */
static int begin_call(LinkCall *call, const void *parameters, const int *fds, size_t n_fds) {
        Link *l = call->link;
        int r = -ECONNRESET;

        if (l->state == LINK_SERVES)
                r = send_call(call, parameters, fds, n_fds);
        if (r != -ECONNRESET)
                return r;
        r = keep_copies(call, parameters, fds, n_fds);
        if (r >= 0)
                wake(l);
        return r;
}

int link_call(Link *l, const char *method, const JsonTable *table, const void *parameters,
              const int *fds, size_t n_fds, usec_t timeout_usec, CallDone done, void *userdata,
              LinkCall **ret) {
        _cleanup_(call_freep) LinkCall *call = NULL;
        int r;

        assert(done);
        if (n_fds > CALL_MAX_FDS)
                return -EINVAL;
        if (l->n_calls >= LIMIT_CALLS)
                return -ENOBUFS;

        call = calloc(1, sizeof(LinkCall));
        if (!call)
                return -ENOMEM;
        *call = (LinkCall){ .link = l,
                            .method = strdup(method),
                            .table = table,
                            .timeout_usec = timeout_usec,
                            .done = done,
                            .userdata = userdata };
        if (!call->method)
                return -ENOMEM;
        if (timeout_usec > 0 && timeout_usec < USEC_INFINITY) {
                r = sd_event_add_time_relative(l->loop, &call->timer, CLOCK_MONOTONIC, timeout_usec,
                                               TIMER_ACCURACY_USEC, on_call_timeout, call);
                if (r < 0)
                        return r;
        }
        r = begin_call(call, parameters, fds, n_fds);
        if (r < 0)
                return r;

        call_add(l, call);
        arm_idle(l);
        if (ret)
                *ret = call;
        (void) TAKE_PTR(call);
        return 0;
}

LinkCall *link_cancel(LinkCall *call) {
        Link *l;

        if (!call)
                return NULL;
        l = call->link;
        if (call->state == CALL_SENT)
                call_cancel(helper_peer(l->helper), call->id);
        call_remove(call);
        (void) call_free(call);
        arm_idle(l);
        return NULL;
}

/* ---- ended on purpose ---- */

static void end_helper(Link *l, const char *words) {
        l->helper = helper_free(l->helper);
        if (l->state != LINK_STARTS)
                l->state = LINK_RESTS;
        end_calls(l, CALL_SENT, -ECONNRESET, words);
        end_calls(l, CALL_LOST, -ECONNRESET, words);
        if (has_calls(l, CALL_ENDED))
                (void) sd_event_source_set_enabled(l->flush, SD_EVENT_ONESHOT);
        arm_idle(l);
}

void link_restart(Link *l) {
        _cleanup_free_ char *words = str_format("%s was ended on purpose", l->name);

        end_helper(l, words ?: strerror(ECONNRESET));
        if (has_calls(l, CALL_WAITS))
                wake(l);
}

void link_regreet(Link *l, const char *method, const JsonTable *table, const void *parameters) {
        _cleanup_free_ char *words = str_format("%s was ended: its settings have changed", l->name);

        l->greeting = method;
        l->greeting_table = table;
        l->greeting_parameters = parameters;

        /* Who waits was meant for the old settings. */
        end_calls(l, CALL_WAITS, -ECONNRESET, words ?: strerror(ECONNRESET));
        end_helper(l, words ?: strerror(ECONNRESET));
        (void) sd_event_source_set_enabled(l->start, SD_EVENT_OFF);
        l->state = LINK_RESTS;
        l->why = error_free(l->why);
        backoff_reset(&l->backoff);
        l->not_before_usec = 0;
}

void link_set_idle(Link *l, usec_t idle_usec) {
        l->idle_usec = idle_usec;
        arm_idle(l);
}

/* ---- life ---- */

static int add_sources(Link *l) {
        int r;

        r = sd_event_add_time(l->loop, &l->start, CLOCK_MONOTONIC, 0, TIMER_ACCURACY_USEC, on_start,
                              l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->start, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_time(l->loop, &l->idle, CLOCK_BOOTTIME, 0, 0, on_idle, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->idle, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_event_add_defer(l->loop, &l->flush, on_flush, l);
        if (r >= 0)
                r = sd_event_source_set_enabled(l->flush, SD_EVENT_OFF);
        return r < 0 ? r : 0;
}

int link_new(sd_event *loop, const LinkSpec *spec, Link **ret) {
        _cleanup_(link_freep) Link *l = NULL;
        int r;

        l = calloc(1, sizeof(Link));
        if (!l)
                return -ENOMEM;
        *l = (Link){ .loop = sd_event_ref(loop),
                     .name = spec->name,
                     .program_fd = spec->program_fd,
                     .user = spec->user,
                     .instance = strdup(spec->instance ?: ""),
                     .flags = spec->flags,
                     .idle_usec = spec->idle_usec,
                     .greeting = spec->greeting,
                     .greeting_table = spec->greeting_table,
                     .greeting_parameters = spec->greeting_parameters,
                     .backoff = { .base_usec = BACKOFF_FIRST_USEC, .max_usec = BACKOFF_MAX_USEC } };
        if (!l->instance)
                return -ENOMEM;
        r = add_sources(l);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(l);
        return 0;
}

Link *link_free(Link *l) {
        if (!l)
                return NULL;

        while (l->first) {
                LinkCall *call = l->first;

                l->first = call->next;
                (void) call_free(call);
        }
        l->helper = helper_free(l->helper);
        l->start = sd_event_source_disable_unref(l->start);
        l->idle = sd_event_source_disable_unref(l->idle);
        l->flush = sd_event_source_disable_unref(l->flush);
        l->loop = sd_event_unref(l->loop);
        (void) error_free(l->why);
        free(l->instance);

        l->freed = true;
        if (l->n_busy == 0)
                free(l);
        return NULL;
}
