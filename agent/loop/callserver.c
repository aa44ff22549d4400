#include "loop/call.h"

#include <errno.h>
#include <stdbool.h>

#include "packet.h"

struct CallServer {
        sd_event *loop;
        int fd;
        sd_event_source *source;
        void (*on_request)(void *userdata, CallRequest *request);
        void *userdata;

        unsigned n_busy; /* callbacks under way: the memory lives until they return */
        bool freed;
};

/* 0: one was handed over; else there is none, or will be none any more. */
static int serve_one(CallServer *s) {
        _cleanup_(packet_done) Packet packet = { 0 };
        CallRequest request = { 0 };
        int r;

        r = packet_receive(s->fd, MSG_DONTWAIT, &packet, NULL);
        if (r >= 0)
                r = packet_take_request(&packet, &request);
        if (r == -EAGAIN)
                return r;
        if (r < 0) {
                s->source = sd_event_source_disable_unref(s->source);
                (void) sd_event_exit(s->loop, r == -ENODATA ? 0 : r);
                return r;
        }

        s->on_request(s->userdata, &request);
        call_request_done(&request);
        return 0;
}

static int on_io(_unused_ sd_event_source *source, _unused_ int fd, _unused_ uint32_t events,
                 void *userdata) {
        CallServer *s = userdata;

        s->n_busy++;
        while (!s->freed && s->source && serve_one(s) >= 0)
                ;
        s->n_busy--;
        if (s->freed && s->n_busy == 0)
                free(s);
        return 0;
}

int call_server_new(sd_event *loop, int fd,
                    void (*on_request)(void *userdata, CallRequest *request), void *userdata,
                    CallServer **ret) {
        _cleanup_close_ int own_fd = fd;
        _cleanup_(call_server_freep) CallServer *s = NULL;
        int r;

        s = calloc(1, sizeof(CallServer));
        if (!s)
                return -ENOMEM;
        *s = (CallServer){ .loop = sd_event_ref(loop),
                           .fd = TAKE_FD(own_fd),
                           .on_request = on_request,
                           .userdata = userdata };

        r = sd_event_add_io(loop, &s->source, s->fd, EPOLLIN, on_io, s);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int call_server_fd(const CallServer *server) {
        return server->fd;
}

CallServer *call_server_free(CallServer *s) {
        if (!s)
                return NULL;

        s->source = sd_event_source_disable_unref(s->source);
        closep(&s->fd);
        s->fd = -EBADF;
        s->loop = sd_event_unref(s->loop);

        s->freed = true;
        if (s->n_busy == 0)
                free(s);
        return NULL;
}
