#include "own.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "applog.h"
#include "base/file.h"
#include "base/str.h"
#include "loop/cgroup.h"
#include "session.h"

static const JsonField service_record_fields[] = {
        /* clang-format off */
        { "slot",       JSON_KIND_STRING, JSON_REQUIRED, offsetof(ServiceRecord, slot),       0, 1,         NULL, NULL },
        { "name",       JSON_KIND_STRING, JSON_REQUIRED, offsetof(ServiceRecord, name),       1, 100,       NULL, NULL },
        { "pid",        JSON_KIND_U64,    JSON_REQUIRED, offsetof(ServiceRecord, pid),        1, INT32_MAX, NULL, NULL },
        { "start_time", JSON_KIND_U64,    JSON_REQUIRED, offsetof(ServiceRecord, start_time), 0, 0,         NULL, NULL },
        { "boot_id",    JSON_KIND_STRING, JSON_REQUIRED, offsetof(ServiceRecord, boot_id),    1, 64,        NULL, NULL },
        { 0 },
        /* clang-format on */
};
const JsonTable service_record_table = { service_record_fields, sizeof(ServiceRecord) };

/* -------- all that belongs to a service -------- */

/* Without a cgroup: its session, unless that is another's by now. */
size_t service_pids(const Service *s, pid_t *ret, size_t max) {
        int n = 0;

        if (service_has_cgroup(s))
                n = cgroup_pids(s->cgroup_fd, ret, max);
        else if (s->session > 1) {
                n = (int) session_pids(s->session, ret, max);
                if (s->pid == 0 && session_is_led(s->session))
                        n = 0;
        }
        return n < 0 ? 0 : (size_t) n;
}

bool service_is_empty(const Service *s) {
        pid_t pid;

        return s->pid == 0 && service_pids(s, &pid, 1) == 0;
}

void service_signal_first(const Service *s, int signal) {
        if (s->pidfd >= 0)
                (void) syscall(SYS_pidfd_send_signal, s->pidfd, signal, NULL, 0);
}

void service_signal_all(const Service *s, int signal) {
        pid_t pid;

        if (service_has_cgroup(s) && signal == SIGKILL)
                (void) cgroup_kill(s->cgroup_fd);
        else if (service_has_cgroup(s))
                (void) cgroup_signal(s->cgroup_fd, signal);
        else if (service_pids(s, &pid, 1) > 0)
                (void) session_signal(s->session, signal);
        if (!service_has_cgroup(s) || signal == SIGKILL)
                service_signal_first(s, signal);
}

/* -------- asked of it -------- */

void service_status(const Service *s, ServiceStatus *ret) {
        *ret = (ServiceStatus){
                .slot = s->slot,
                .name = s->name,
                .state = s->state,
                .pid = s->pid,
                .n_restarts = s->n_restarts,
                .since_usec = s->since_usec,
                .adopted = s->adopted,
                .last_exit = s->last_exit,
        };
}

Service *services_lookup(const Services *services, Slot slot, const char *name) {
        for (Service *s = services->first; s; s = s->next)
                if (!service_is_hidden(s) && s->slot == slot && str_equal(s->name, name))
                        return s;
        return NULL;
}

size_t services_count(const Services *services, Slot slot) {
        size_t n = 0;

        for (const Service *s = services->first; s; s = s->next)
                n += !service_is_hidden(s) && s->slot == slot;
        return n;
}

bool services_get(const Services *services, size_t i, ServiceStatus *ret) {
        for (const Service *s = services->first; s; s = s->next)
                if (!service_is_hidden(s) && i-- == 0) {
                        service_status(s, ret);
                        return true;
                }
        return false;
}

bool services_find(const Services *services, Slot slot, const char *name, ServiceStatus *ret) {
        const Service *s = services_lookup(services, slot, name);

        if (!s)
                return false;
        if (ret)
                service_status(s, ret);
        return true;
}

size_t services_pids(const Services *services, Slot slot, const char *name, pid_t *ret,
                     size_t max) {
        size_t n = 0;

        for (const Service *s = services->first; s; s = s->next)
                if (!service_is_hidden(s) && s->slot == slot && (!name || str_equal(s->name, name)))
                        n += service_pids(s, n < max ? ret + n : NULL, n < max ? max - n : 0);
        return n;
}

static int add_record(const Service *s, const char *boot_id, JsonArray *ret) {
        ServiceRecord *record = json_array_add(ret, &service_record_table, SERVICES_MAX);

        if (!record)
                return -ENOMEM;
        record->slot = strdup(slot_name(s->slot));
        record->name = strdup(s->name);
        record->boot_id = strdup(boot_id);
        record->pid = (uint64_t) s->pid;
        record->start_time = s->start_time;
        return record->slot && record->name && record->boot_id ? 0 : -ENOMEM;
}

int services_records(const Services *services, JsonArray *ret) {
        char boot_id[37];
        int r;

        r = process_boot_id(boot_id);
        for (const Service *s = services->first; r >= 0 && s; s = s->next)
                if (!service_is_hidden(s) && s->pid > 0)
                        r = add_record(s, boot_id, ret);
        return r < 0 ? r : 0;
}

static uint64_t service_peak(const Service *s) {
        _cleanup_(buf_done) Buf text = BUF_INIT(64);
        _cleanup_free_ pid_t *pids = calloc(PIDS_MAX, sizeof(*pids));
        unsigned long long bytes;

        if (service_has_cgroup(s) && file_read_at(s->cgroup_fd, "memory.peak", &text) >= 0 &&
            sscanf(buf_str(&text), "%llu", &bytes) == 1)
                return bytes;
        return pids ? session_peak(pids, MIN(service_pids(s, pids, PIDS_MAX), (size_t) PIDS_MAX))
                    : 0;
}

uint64_t services_peak(const Services *services, Slot slot) {
        uint64_t sum = 0;

        for (const Service *s = services->first; s; s = s->next)
                if (!service_is_hidden(s) && s->slot == slot)
                        sum += service_peak(s);
        return sum;
}

void services_rotate(Services *services) {
        for (const Service *s = services->first; s; s = s->next)
                if (!service_is_hidden(s))
                        (void) applog_rotate(services->log_fd, s->name, services->log_bytes);
}
