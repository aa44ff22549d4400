#include "loop/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"

#define MAX_FIELDS 8

/* Room for one field of the journal, and for the whole line on stderr. */
#define FIELD_BYTES 256
#define LINE_BYTES  (LOG_MESSAGE_BYTES + MAX_FIELDS * FIELD_BYTES)

/* clang-format off */
static const struct {
        const char *name;
        int priority;
} levels[] = {
        { "debug",   LOG_DEBUG   },
        { "info",    LOG_INFO    },
        { "notice",  LOG_NOTICE  },
        { "warning", LOG_WARNING },
        { "err",     LOG_ERR     },
};
/* clang-format on */

bool log_is_on(int priority) {
        const char *level = getenv("TENDRIL_LOG_LEVEL");

        for (size_t i = 0; level && i < ELEMENTS(levels); i++)
                if (str_equal(level, levels[i].name))
                        return priority <= levels[i].priority;
        return priority <= LOG_INFO;
}

/* systemd.exec(5): "device:inode" of the file that the service manager connected. */
static bool stderr_is_journal(void) {
        const char *stream = getenv("JOURNAL_STREAM");
        char own[64];
        struct stat st;

        if (!stream || fstat(STDERR_FILENO, &st) < 0)
                return false;
        (void) snprintf(own, sizeof(own), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino);
        return str_equal(stream, own);
}

/* The fields of one line with their names in the journal; values that are NULL are left out. */
typedef struct Field {
        const char *name;
        const char *value;
} Field;

static size_t collect_fields(const LogFields *fields, Field ret[MAX_FIELDS]) {
        const LogFields none = { 0 };
        const LogFields *f = fields ?: &none;
        const Field all[] = {
                { "DEPLOY_ID", f->deploy_id },   { "STAGE", f->stage },
                { "VERSION", f->version },       { "HOOK", f->hook },
                { "MESSAGE_ID", f->message_id },
        };
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTS(all); i++)
                if (all[i].value)
                        ret[n++] = all[i];
        return n;
}

static int send_to_journal(int priority, const Field *fields, size_t n_fields, const char *text) {
        char room[MAX_FIELDS + 2][FIELD_BYTES], message[LOG_MESSAGE_BYTES + sizeof("MESSAGE=")];
        struct iovec iov[MAX_FIELDS + 3];
        int n = 0;

        (void) snprintf(message, sizeof(message), "MESSAGE=%s", text);
        iov[n++] = (struct iovec){ message, strlen(message) };
        (void) snprintf(room[0], FIELD_BYTES, "PRIORITY=%d", priority);
        iov[n++] = (struct iovec){ room[0], strlen(room[0]) };
        (void) snprintf(room[1], FIELD_BYTES, "SYSLOG_IDENTIFIER=%s",
                        program_invocation_short_name);
        iov[n++] = (struct iovec){ room[1], strlen(room[1]) };

        for (size_t i = 0; i < n_fields; i++) {
                char *at = room[i + 2];

                (void) snprintf(at, FIELD_BYTES, "%s=%s", fields[i].name, fields[i].value);
                iov[n++] = (struct iovec){ at, strlen(at) };
        }

        return sd_journal_sendv(iov, n);
}

/* What a person wants to see of the fields: all but the deploy's id and the message's. */
static void send_to_stderr(int priority, const Field *fields, size_t n_fields, const char *text) {
        _cleanup_(buf_done) Buf line = BUF_INIT(LINE_BYTES);
        _cleanup_free_ char *printable = NULL;
        const char *word = priority <= LOG_ERR       ? "error: "
                           : priority == LOG_WARNING ? "warning: "
                                                     : "";
        const char *between = " (";

        (void) buf_printf(&line, "%s: %s%s", program_invocation_short_name, word, text);
        for (size_t i = 0; i < n_fields; i++) {
                if (str_equal(fields[i].name, "DEPLOY_ID") ||
                    str_equal(fields[i].name, "MESSAGE_ID"))
                        continue;
                (void) buf_printf(&line, "%s%s", between, fields[i].value);
                between = ", ";
        }
        if (between[0] == ',')
                (void) buf_append_str(&line, ")");

        /* In one write, so that lines of several processes do not mix. */
        printable = str_printable(buf_str(&line), line.size);
        buf_clear(&line);
        (void) buf_printf(&line, "%s\n", printable ?: text);
        (void) file_write_all(STDERR_FILENO, buf_str(&line), line.size);
}

void log_fields(int priority, const LogFields *fields, const char *format, ...) {
        char text[LOG_MESSAGE_BYTES];
        _cleanup_free_ char *printable = NULL;
        Field collected[MAX_FIELDS];
        int saved_errno = errno;
        size_t n;
        va_list ap;

        if (!log_is_on(priority))
                return;

        va_start(ap, format);
        (void) vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);

        printable = str_printable(text, strlen(text));
        n = collect_fields(fields, collected);
        if (!stderr_is_journal() || send_to_journal(priority, collected, n, printable ?: text) < 0)
                send_to_stderr(priority, collected, n, printable ?: text);
        errno = saved_errno;
}
