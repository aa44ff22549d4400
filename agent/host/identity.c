#include "host/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"

#define ENTRIES_MAX        64
#define IDENTITY_BYTES     4096
#define IDENTITY_FORMAT_NO 1

typedef struct IdentityDocument {
        uint64_t format;
        char *instance;
} IdentityDocument;

/* clang-format off */
static const JsonField document_fields[] = {
        { .name = "format", .kind = JSON_KIND_U64, .flags = JSON_REQUIRED, .offset = offsetof(IdentityDocument, format) },
        { .name = "instance", .kind = JSON_KIND_LABEL, .flags = JSON_REQUIRED, .offset = offsetof(IdentityDocument, instance) },
        {},
};
static const JsonTable document_table = { document_fields, sizeof(IdentityDocument) };
/* clang-format on */

int identity_host(const Config *config, const char *instance, char **ret, Error **reterr) {
        _cleanup_free_ char *printable = NULL;
        struct utsname system;
        const char *id = config->host ?: instance;
        char *copy;

        if (!id) {
                if (uname(&system) < 0)
                        return error_set(reterr, -errno, "read this host's name: %s",
                                         strerror(errno));
                id = system.nodename;
        }
        if (!str_is_label(id)) {
                printable = str_printable(id, strlen(id));
                return error_set(reterr, -EINVAL,
                                 "this host's name, \"%s\", cannot be its id (1 to 100 of A-Z a-z "
                                 "0-9 . _ -, beginning with a letter or a digit); set `host` in "
                                 "tendril.yaml",
                                 printable ?: "?");
        }

        copy = strdup(id);
        if (!copy)
                return error_set(reterr, -ENOMEM, "this host's id: out of memory");
        *ret = copy;
        return 0;
}

bool identity_is_asked(const Config *config) {
        return config->identity.source != IDENTITY_NAME &&
               str_has_prefix(config->store.url ?: "", "s3://");
}

int identity_read(int state_fd, char **ret) {
        _cleanup_(buf_done) Buf text = BUF_INIT(IDENTITY_BYTES);
        IdentityDocument document = { 0 };
        int r;

        *ret = NULL;
        r = file_read_at(state_fd, IDENTITY_FILE, &text);
        if (r >= 0)
                r = json_decode(buf_str(&text), text.size, &document_table, JSON_LENIENT, &document,
                                NULL);
        if (r >= 0)
                *ret = TAKE_PTR(document.instance);
        json_table_done(&document_table, &document);
        return r == -ENOMEM ? r : 0;
}

static int write_down(int state_fd, const char *instance, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(IDENTITY_BYTES);
        IdentityDocument document = { .format = IDENTITY_FORMAT_NO };
        int r;

        document.instance = strdup(instance);
        r = document.instance ? json_encode(&document_table, &document, &text) : -ENOMEM;
        if (r >= 0)
                r = file_write_at(state_fd, IDENTITY_FILE, text.data, text.size, 0600,
                                  FILE_REPLACE | FILE_SYNC);
        free(document.instance);
        return r < 0 ? error_set(reterr, r, "write " IDENTITY_FILE ": %s", strerror(-r)) : 0;
}

/* What is found by digest, and verified before it is used, may stay. */
static bool stays(const char *name) {
        static const char *const names[] = { "versions", "bundles", IDENTITY_FILE, IDENTITY_ASIDE };

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (str_equal(name, names[i]))
                        return true;
        return false;
}

static int make_aside(int state_fd, const char *owner, Error **reterr) {
        _cleanup_free_ char *random = str_random_hex(4), *path = NULL;
        int fd;

        path = random ? str_format(IDENTITY_ASIDE "/%s-%s", owner, random) : NULL;
        fd = path ? file_mkdirs_at(state_fd, path, 0700) : -ENOMEM;
        return fd < 0 ? error_set(reterr, fd, "make " IDENTITY_ASIDE ": %s", strerror(-fd)) : fd;
}

static int move_all(int state_fd, int aside_fd, Error **reterr) {
        _cleanup_(strv_freep) char **names = NULL;
        int r;

        r = file_list_at(state_fd, ENTRIES_MAX, &names);
        if (r < 0)
                return error_set(reterr, r, "list the state: %s", strerror(-r));
        for (char *const *n = names; n && *n; n++) {
                if (stays(*n))
                        continue;
                if (renameat(state_fd, *n, aside_fd, *n) < 0)
                        return error_set(reterr, -errno, "move %s to " IDENTITY_ASIDE ": %s", *n,
                                         strerror(errno));
        }
        if (fsync(aside_fd) < 0 || fsync(state_fd) < 0)
                return error_set(reterr, -errno, "sync the state: %s", strerror(errno));
        return 0;
}

int identity_settle(int state_fd, const char *instance, char **ret_other, Error **reterr) {
        _cleanup_free_ char *owner = NULL;
        _cleanup_close_ int aside_fd = -EBADF;
        int r;

        r = identity_read(state_fd, &owner);
        if (r < 0)
                return error_set(reterr, r, "read " IDENTITY_FILE ": %s", strerror(-r));
        if (str_equal(owner, instance))
                return 0;
        if (!owner)
                return write_down(state_fd, instance, reterr);
        /* The name last: after a power cut between the two all of it is moved again. */
        aside_fd = make_aside(state_fd, owner, reterr);
        r = aside_fd < 0 ? aside_fd : move_all(state_fd, aside_fd, reterr);
        if (r >= 0)
                r = write_down(state_fd, instance, reterr);
        if (r < 0)
                return r;
        *ret_other = TAKE_PTR(owner);
        return IDENTITY_SET_ASIDE;
}
