/* Procfiles: what is read is within its limits, has no name twice, and written again it is read the
 * same. */

#include "bundle/bundle.h"

#include <stdlib.h>
#include <string.h>

#include "agent/limits.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
        if (!holds)
                abort();
}

static void processes_done(JsonArray *array) {
        PlanProcess *processes = array->items;

        for (size_t i = 0; i < array->n; i++)
                json_table_done(&plan_process_table, &processes[i]);
        free(array->items);
        *array = (JsonArray){ 0 };
}

static void check(const JsonArray *array, Buf *text) {
        const PlanProcess *processes = array->items;

        must(array->n <= LIMIT_PROCESSES);
        for (size_t i = 0; i < array->n; i++) {
                must(!str_is_empty(processes[i].name) && !str_is_empty(processes[i].command));
                must(strlen(processes[i].command) <= LIMIT_COMMAND_BYTES);
                for (size_t k = 0; k < i; k++)
                        must(!str_equal(processes[i].name, processes[k].name));
                must(buf_printf(text, "%s:%s\n", processes[i].name, processes[i].command) == 0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(buf_done) Buf first = BUF_INIT(1 << 20), second = BUF_INIT(1 << 20);
        _cleanup_(processes_done) JsonArray array = { 0 }, again = { 0 };
        _cleanup_(error_freep) Error *e = NULL;

        if (procfile_parse((const char *) data, size, "Procfile", &array, &e) < 0) {
                must(str_has_prefix(error_text(e), "Procfile:"));
                return 0;
        }
        check(&array, &first);
        if (first.size > LIMIT_PROCFILE_BYTES)
                return 0;
        must(procfile_parse(buf_str(&first), first.size, "Procfile", &again, NULL) == 0);
        check(&again, &second);
        must(str_equal(buf_str(&first), buf_str(&second)));
        return 0;
}
