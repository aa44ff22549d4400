#pragma once

/*
 * What an implementation of the store provides. Only the files of agent/store/ and the test suite's
 * planted stores include this.
 *
 * Each function starts one call and returns 0 or a negative errno (then done() will not come). It
 * must end the call from the loop by exactly one store_call_end(), also when it is being freed,
 * unless cancel() was called for it.
 */

#include "store/store.h"

typedef struct StoreRequest {
        const char *key;  /* valid as long as the call */
        const char *etag; /* condition, or NULL */
        const char *start_after;
        StoreCondition condition;
        const void *body; /* put from memory; valid as long as the call */
        size_t body_size;
        int fd;     /* put from a file, fetch; owned by the call, -EBADF otherwise */
        int map_fd; /* fetch; likewise */
        StoreProgress progress;
        void *userdata;
} StoreRequest;

typedef struct StoreBackend {
        int (*get)(void *self, StoreCall *call, const StoreRequest *request);
        int (*put)(void *self, StoreCall *call, const StoreRequest *request);
        int (*list)(void *self, StoreCall *call, const StoreRequest *request);
        int (*delete)(void *self, StoreCall *call, const StoreRequest *request);
        int (*fetch)(void *self, StoreCall *call, const StoreRequest *request);
        void (*cancel)(void *self, StoreCall *call);
        void (*disown)(void *self); /* NULL: there is nobody else */
        void *(*free)(void *self);
        bool is_local;
} StoreBackend;

/* Wraps an implementation. self is consumed on success. */
int store_new(const StoreBackend *backend, void *self, const char *url, Store **ret);

/* Where an implementation keeps what belongs to one call. */
void store_call_set_data(StoreCall *call, void *data);
void *store_call_data(StoreCall *call);

/* Ends a call: done() is called and the call is gone. reply may be NULL. err is consumed. */
void store_call_end(StoreCall *call, int r, const StoreReply *reply, Error *err);
