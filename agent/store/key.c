#include "store/key.h"

#include <string.h>

#include "agent/limits.h"
#include "base/str.h"

static bool component_is_valid(const char *text, size_t size) {
        static const char *const reserved[] = { ".tmp-", ".lock" };

        if (size == 0 || (size == 1 && text[0] == '.') || (size == 2 && memcmp(text, "..", 2) == 0))
                return false;
        for (size_t i = 0; i < ELEMENTS(reserved); i++)
                if (size >= strlen(reserved[i]) &&
                    memcmp(text, reserved[i], strlen(reserved[i])) == 0)
                        return false;
        return true;
}

bool key_is_valid(const char *key) {
        size_t size = key ? strlen(key) : 0;

        if (size == 0 || size > LIMIT_KEY_NAME_BYTES || !str_is_utf8(key, size, true))
                return false;
        for (;;) {
                size_t n = strcspn(key, "/");

                if (!component_is_valid(key, n))
                        return false;
                if (key[n] == '\0')
                        return true;
                key += n + 1;
        }
}

char *key_store_id(void) {
        return str_format("store.json");
}

char *key_version(const char *application, const char *label) {
        return str_format("applications/%s/versions/%s/version.json", application, label);
}

char *key_bundle(const char *application, const char *label) {
        return str_format("applications/%s/versions/%s/bundle", application, label);
}

char *key_versions(const char *application) {
        return str_format("applications/%s/versions/", application);
}

char *key_environments(void) {
        return str_format("environments/");
}

char *key_desired(const char *environment) {
        return str_format("environments/%s/desired.json", environment);
}

char *key_head(const char *environment) {
        return str_format("environments/%s/rollout.json", environment);
}

char *key_lane(const char *environment, const char *generation, unsigned lane) {
        return str_format("environments/%s/g/%s/lane/%u.json", environment, generation, lane);
}

char *key_result(const char *environment, const char *generation, const char *host) {
        return str_format("environments/%s/g/%s/host/%s.json", environment, generation, host);
}

char *key_host(const char *environment, const char *host) {
        return str_format("environments/%s/hosts/%s.json", environment, host);
}
