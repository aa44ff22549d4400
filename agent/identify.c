#include "identify.h"

#include <errno.h>
#include <string.h>

#include "loop/log.h"
#include "net/server.h"

#define ANSWER_USEC SEC(20)
#define AGAIN_USEC  SEC(15)

struct Identify {
        sd_event *loop;
        Link *link;
        LinkCall *call;
        sd_event_source *timer;
        bool is_known;
        bool has_failed; /* once at least */
        NetIdentity identity;
        Error *err;
        void (*on_known)(void *userdata);
        void *userdata;
};

static void ask(Identify *i);

static int on_again(sd_event_source *source _unused_, uint64_t usec _unused_, void *userdata) {
        ask(userdata);
        return 0;
}

static void failed(Identify *i, int r, const Error *err) {
        if (!i->has_failed && r != -EOPNOTSUPP)
                log_warning("which instance this is: %s; asking again", error_text(err));
        i->has_failed = true;
        i->err = error_free(i->err);
        (void) error_set(&i->err, r, "%s", error_text(err));
        i->timer = sd_event_source_disable_unref(i->timer);
        if (r == -EOPNOTSUPP)
                return; /* AWS_EC2_METADATA_DISABLED: it will not be otherwise */
        (void) sd_event_add_time_relative(i->loop, &i->timer, CLOCK_BOOTTIME, AGAIN_USEC, SEC(1),
                                          on_again, i);
}

static void on_answer(void *userdata, int r, CallReply *reply, Error *err) {
        Identify *i = userdata;
        _cleanup_(error_freep) Error *own = NULL;

        i->call = NULL;
        if (r >= 0) {
                r = json_decode_value(reply->answer, &net_identity_table, JSON_LENIENT,
                                      &i->identity, &own);
                err = own;
        }
        if (r >= 0 && !i->identity.instance) {
                r = error_set(&own, -EBADMSG, "the metadata service names no instance");
                err = own;
        }
        if (r < 0) {
                json_table_done(&net_identity_table, &i->identity);
                i->identity = (NetIdentity){ 0 };
                failed(i, r, err);
                return;
        }
        i->is_known = true;
        i->err = error_free(i->err);
        if (i->on_known)
                i->on_known(i->userdata);
}

static void ask(Identify *i) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = link_call(i->link, NET_IDENTITY, NULL, NULL, NULL, 0, ANSWER_USEC, on_answer, i,
                      &i->call);
        if (r < 0) {
                (void) error_set(&err, r, "ask tendril-net: %s", strerror(-r));
                failed(i, r, err);
        }
}

int identify_new(sd_event *loop, Link *link, void (*on_known)(void *userdata), void *userdata,
                 Identify **ret) {
        Identify *i = calloc(1, sizeof(Identify));

        if (!i)
                return -ENOMEM;
        i->loop = loop;
        i->link = link;
        i->on_known = on_known;
        i->userdata = userdata;
        ask(i);
        *ret = i;
        return 0;
}

int identify_wait(Identify *i, usec_t timeout_usec) {
        usec_t end = clock_read(NULL, CLOCK_MONOTONIC) + timeout_usec, now;

        while (!i->is_known && !i->has_failed) {
                int r;

                now = clock_read(NULL, CLOCK_MONOTONIC);
                if (now >= end)
                        return -ETIMEDOUT;
                r = sd_event_run(i->loop, end - now);
                if (r < 0)
                        return r;
        }
        return 0;
}

const NetIdentity *identify_known(const Identify *i) {
        return i && i->is_known ? &i->identity : NULL;
}

const char *identify_error(const Identify *i) {
        return i->err ? error_text(i->err) : "the metadata service has not answered yet";
}

Identify *identify_free(Identify *i) {
        if (!i)
                return NULL;
        i->call = link_cancel(i->call);
        i->timer = sd_event_source_disable_unref(i->timer);
        (void) error_free(i->err);
        json_table_done(&net_identity_table, &i->identity);
        free(i);
        return NULL;
}
