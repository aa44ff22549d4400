#include "deploy/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"

#define EVENTS_MAX 200

const char *const deploy_kind_names[] = { "assigned", "rollback", "bundle",
                                          "settings", "restart",  NULL };
const char *const deploy_outcome_names[] = { "running",     "done",  "failed",
                                             "rolled-back", "retry", NULL };

/* clang-format off */
static const JsonField stage_fields[] = {
        JSON_ROW("name", JSON_KIND_STRING, JSON_REQUIRED, StageRecord, name),
        JSON_ROW("took_ms", JSON_KIND_U64, 0, StageRecord, took_ms),
        JSON_END,
};
static const JsonTable stage_table = { stage_fields, sizeof(StageRecord) };

static const JsonField event_fields[] = {
        JSON_ROW("time", JSON_KIND_STRING, JSON_REQUIRED, EventRecord, time),
        JSON_ROW_MAX("text", JSON_KIND_STRING, JSON_REQUIRED, EventRecord, text, 4 * LIMIT_STRING_BYTES),
        JSON_END,
};
static const JsonTable event_table = { event_fields, sizeof(EventRecord) };

static const JsonField record_fields[] = {
        JSON_ROW("format", JSON_KIND_U64, JSON_REQUIRED, DeployRecord, format),
        JSON_ROW("id", JSON_KIND_LABEL, JSON_REQUIRED, DeployRecord, id),
        { .name = "kind", .kind = JSON_KIND_ENUM, .flags = 0, .offset = offsetof(DeployRecord, kind), .names = deploy_kind_names },
        JSON_ROW("application", JSON_KIND_STRING, 0, DeployRecord, application),
        JSON_ROW("label", JSON_KIND_STRING, 0, DeployRecord, label),
        JSON_ROW("sha256", JSON_KIND_STRING, 0, DeployRecord, sha256),
        JSON_ROW("revision", JSON_KIND_U64, 0, DeployRecord, revision),
        JSON_ROW("previous", JSON_KIND_STRING, 0, DeployRecord, previous),
        JSON_ROW("started", JSON_KIND_STRING, 0, DeployRecord, started),
        JSON_ROW("ended", JSON_KIND_STRING, 0, DeployRecord, ended),
        JSON_ROW("took_ms", JSON_KIND_U64, 0, DeployRecord, took_ms),
        { .name = "outcome", .kind = JSON_KIND_ENUM, .flags = 0, .offset = offsetof(DeployRecord, outcome), .names = deploy_outcome_names },
        JSON_ROW("stage", JSON_KIND_STRING, 0, DeployRecord, stage),
        JSON_ROW_MAX("error", JSON_KIND_STRING, 0, DeployRecord, error, 4 * LIMIT_STRING_BYTES),
        JSON_ROW("overlap", JSON_KIND_STRING, 0, DeployRecord, overlap),
        JSON_ROW("overlap_why", JSON_KIND_STRING, 0, DeployRecord, overlap_why),
        JSON_ROW("gap_ms", JSON_KIND_U64, 0, DeployRecord, gap_ms),
        JSON_ROW_TABLE("stages", JSON_KIND_ARRAY, 0, DeployRecord, stages, 64, &stage_table),
        JSON_ROW_TABLE("hooks", JSON_KIND_ARRAY, 0, DeployRecord, hooks, LIMIT_HOOKS, &hook_record_table),
        JSON_ROW_TABLE("events", JSON_KIND_ARRAY, 0, DeployRecord, events, EVENTS_MAX, &event_table),
        JSON_END,
};
const JsonTable deploy_record_table = { record_fields, sizeof(DeployRecord) };
/* clang-format on */

static int id_compare(const void *a, const void *b) {
        return -strcmp(*(char *const *) a, *(char *const *) b);
}

/* Names in a folder that end so, without the ending. Ids begin with the time, so newest first is
 * their order turned round. */
static int list_ids(int dir_fd, const char *suffix, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL, **ids = NULL;
        int r;

        r = file_list_at(dir_fd, 8 * LIMIT_RECORDS, &names);
        for (char **n = names; n && *n && r >= 0; n++) {
                if (**n == '.' || !str_has_suffix(*n, suffix))
                        continue;
                (*n)[strlen(*n) - strlen(suffix)] = 0;
                if (str_is_label(*n))
                        r = strv_add(&ids, 8 * LIMIT_RECORDS, *n);
        }
        if (r < 0)
                return r;
        if (ids)
                qsort(ids, strv_count(ids), sizeof(char *), id_compare);
        *ret = TAKE_PTR(ids);
        return 0;
}

int record_list(int dir_fd, char ***ret) {
        return list_ids(dir_fd, ".json", ret);
}

static void remove_oldest(int dir_fd, const char *suffix) {
        _cleanup_(strv_freep) char **ids = NULL;

        if (list_ids(dir_fd, suffix, &ids) < 0)
                return;
        for (size_t i = LIMIT_RECORDS; i < strv_count(ids); i++) {
                _cleanup_free_ char *name = str_format("%s%s", ids[i], suffix);

                if (name)
                        (void) file_remove_at(dir_fd, name, false);
        }
}

int record_write(int dir_fd, const DeployRecord *record, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_RECORD_BYTES);
        _cleanup_free_ char *name = str_format("%s.json", record->id);
        bool fresh;
        int r;

        if (!name)
                return error_set(reterr, -ENOMEM, "write record: out of memory");
        r = json_encode(&deploy_record_table, record, &text);
        if (r < 0)
                return error_wrap(reterr, r, "write record %s", record->id);
        fresh = !file_exists_at(dir_fd, name);
        r = file_write_at(dir_fd, name, text.data, text.size, 0600, FILE_REPLACE | FILE_SYNC);
        if (r < 0)
                return error_wrap(reterr, r, "write record %s", record->id);
        if (fresh)
                remove_oldest(dir_fd, ".json");
        return 0;
}

int record_read(int dir_fd, const char *id, DeployRecord *ret, Error **reterr) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_RECORD_BYTES);
        _cleanup_free_ char *name = NULL;
        int r;

        if (!str_is_label(id))
                return error_set(reterr, -EINVAL,
                                 "'%s' is no id of a deploy; `tendril history` lists them", id);
        name = str_format("%s.json", id);
        if (!name)
                return error_set(reterr, -ENOMEM, "read record: out of memory");
        r = file_read_at(dir_fd, name, &text);
        if (r == -ENOENT)
                return error_set(reterr, r,
                                 "there is no deploy %s here; `tendril history` lists them", id);
        if (r < 0)
                return error_wrap(reterr, r, "read record %s", id);
        r = json_decode(buf_str(&text), text.size, &deploy_record_table, JSON_LENIENT, ret, reterr);
        if (r < 0)
                return error_wrap(reterr, r, "record %s", id);
        return 0;
}

void record_event(DeployRecord *record, usec_t realtime, const char *format, ...) {
        char time[TIME_RFC3339_SIZE];
        EventRecord *event;
        char *text = NULL;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        if (n < 0)
                return;
        time_format(realtime, time);
        event = json_array_add(&record->events, &event_table, EVENTS_MAX);
        if (!event) {
                free(text);
                return;
        }
        event->text = text;
        event->time = strdup(time);
        if (!event->time)
                record->events.n--, free(text);
}

int record_log_open(const char *log_dir, const char *id) {
        _cleanup_close_ int dir_fd = -EBADF;
        _cleanup_free_ char *path = NULL, *name = NULL;
        int fd;

        path = str_format("%s/deploys", log_dir);
        name = str_format("%s.log", id);
        if (!path || !name)
                return -ENOMEM;
        dir_fd = file_mkdirs_at(AT_FDCWD, path, 0700);
        if (dir_fd < 0)
                return dir_fd;
        fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        remove_oldest(dir_fd, ".log");
        return fd;
}

/* The line that crosses the maximum is the last one; a log is longer than its maximum by that line
 * at most. */
void record_log_line(int fd, usec_t realtime, const char *source, const char *line) {
        _cleanup_free_ char *text = NULL;
        char time[TIME_RFC3339_SIZE];
        struct stat st;
        bool last;

        if (fd < 0 || fstat(fd, &st) < 0 || st.st_size > LIMIT_DEPLOY_LOG_BYTES)
                return;
        last = (size_t) st.st_size + strlen(line) + 128 > LIMIT_DEPLOY_LOG_BYTES;
        time_format(realtime, time);
        text = str_format("%s %s: %s\n%s", time, source, line,
                          last ? "(this log is full; what followed is not kept)\n" : "");
        if (text)
                (void) file_write_all(fd, text, strlen(text));
}
