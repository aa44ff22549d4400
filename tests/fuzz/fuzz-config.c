/*
 * tendril.yaml from its text. Whatever is accepted keeps what no table says (ports that differ, a
 * status that can be matched, keys with text), is shown value by value, and is the same when it is
 * read once more. Every refusal has words that begin with the name of the file.
 */

#include "host/config.h"

#include <stdlib.h>
#include <string.h>

#include "agent/limits.h"
#include "base/buf.h"
#include "base/str.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds) {
        if (!holds)
                abort();
}

static int dump(void *userdata, const char *path, const char *value, const char *source) {
        must(*path && *source);
        must(str_is_utf8(value, strlen(value), true));
        return buf_printf(userdata, "%s=%s\n", path, value);
}

static void check_promises(const Config *config) {
        const ConfigKey *keys = config->trusted_keys.items;
        const ConfigApp *app = &config->app;
        size_t i;

        must(app->slot_port_a != app->slot_port_b && app->port != app->slot_port_a &&
             app->port != app->slot_port_b && app->port >= 1 && app->port <= 65535);
        must(config->poll_usec >= MSEC(100) && config->gate.consecutive >= 1);
        must(config_status_valid(config->gate.status) && config->gate.path[0] == '/');
        must(str_is_label(config->instance));
        for (i = 0; i < config->trusted_keys.n; i++)
                must(keys[i].id && keys[i].pem && strlen(keys[i].pem) <= LIMIT_KEY_BYTES);
        for (i = 0; i < app->environment.n; i++)
                must(config_name_is_valid(app->environment.pairs[i].name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(config_freep) Config *config = NULL, *again = NULL;
        _cleanup_(buf_done) Buf first = BUF_INIT(1 << 22), second = BUF_INIT(1 << 22);
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (size > LIMIT_CONFIG_BYTES)
                return 0;

        r = config_parse((const char *) data, size, "f", &config, &err);
        if (r < 0) {
                must(!config && error_code(err) == r);
                must(str_has_prefix(error_text(err), "f:"));
                return 0;
        }

        must(!err);
        check_promises(config);
        must(config_parse((const char *) data, size, "f", &again, NULL) == 0);
        r = config_visit(config, dump, &first);
        must(r == config_visit(again, dump, &second));
        must(strcmp(buf_str(&first), buf_str(&second)) == 0);
        return 0;
}
