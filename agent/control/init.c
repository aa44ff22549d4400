#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "control/ctl.h"
#include "control/storecmd.h"
#include "session.h"
#include "store/key.h"

#define N_KEYS 2

typedef struct InitKey {
        char *id;
        char *purpose;
        char *private_file;
        char *public_file;
        char *pem;
} InitKey;

/* What was made, as it is told. */
typedef struct InitResult {
        char *store;
        char *id;
        bool created;
        JsonArray keys; /* InitKey */
} InitResult;

/* clang-format off */
static const JsonField key_fields[] = {
        { .name = "id", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, id) },
        { .name = "purpose", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, purpose) },
        { .name = "private_file", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, private_file) },
        { .name = "public_file", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, public_file) },
        { .name = "pem", .kind = JSON_KIND_STRING, .offset = offsetof(InitKey, pem) },
        {},
};
static const JsonTable key_table = { key_fields, sizeof(InitKey) };

static const JsonField result_fields[] = {
        { .name = "store", .kind = JSON_KIND_STRING, .offset = offsetof(InitResult, store) },
        { .name = "id", .kind = JSON_KIND_STRING, .offset = offsetof(InitResult, id) },
        { .name = "created", .kind = JSON_KIND_BOOL, .offset = offsetof(InitResult, created) },
        { .name = "keys", .kind = JSON_KIND_ARRAY, .offset = offsetof(InitResult, keys), .max = N_KEYS, .table = &key_table },
        {},
};
static const JsonTable result_table = { result_fields, sizeof(InitResult) };
/* clang-format on */

static void result_done(InitResult *result) {
        json_table_done(&result_table, result);
}

/* ---- the store ---- */

static int make_folder(const Session *s, const char *url) {
        const char *path = url + strlen("file://");
        int fd;

        if (!str_has_prefix(url, "file:///"))
                return session_fail(s, EXIT_CODE_USAGE, NULL,
                                    "--store %.200s: not of the form file:///path (three slashes, "
                                    "an absolute path)",
                                    url);
        /* Settings may hold passwords: who else may read is for its owner to say. */
        fd = file_mkdirs_at(AT_FDCWD, path, 0700);
        if (fd < 0)
                return session_broken(s, fd, NULL, "make the folder %s", path);
        (void) close(fd);
        return 0;
}

static int write_id(Session *s, InitResult *ret, Error **reterr) {
        _cleanup_free_ char *key = key_store_id(), *created = calloc(1, TIME_RFC3339_SIZE);
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        StoreDocument store = { .format = FORMAT_DOCUMENT, .created = created };
        int r;

        ret->id = str_random_hex(8);
        store.id = ret->id;
        if (!key || !created || !ret->id)
                return -ENOMEM;
        session_now(created);
        r = json_encode(&store_document_table, &store, &text);
        if (r < 0)
                return r;
        r = session_put(s, key, &text, NULL, STORE_IF_ABSENT, NULL, NULL, reterr);
        if (r == STORE_REFUSED)
                return error_set(reterr, -EAGAIN,
                                 "somebody else made it at the same moment; repeat to see its id");
        ret->created = r == 0;
        return r;
}

/* Is there a store already? Then ret has its id. */
static int look_for_store(Session *s, InitResult *ret) {
        _cleanup_(session_document_done) SessionDocument there = { 0 };
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_free_ char *key = key_store_id();
        int r;

        ret->store = strdup(store_url(s->store));
        if (!key || !ret->store)
                return session_broken(s, -ENOMEM, NULL, "make the store");
        r = session_get(s, key, &there, &err);
        if (r == 0)
                r = session_read_store_id(s, &ret->id, &err);
        return r < 0 ? session_broken(s, r, err, "make the store") : 0;
}

static int make_store(Session *s, InitResult *ret) {
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        r = session_self_test(s, &err);
        if (r == 0)
                r = write_id(s, ret, &err);
        return r < 0 ? session_broken(s, r, err, "make the store") : 0;
}

/* ---- keys ---- */

static int write_key(int dir_fd, const char *name, const char *pem, mode_t mode, Error **reterr) {
        int r = file_write_at(dir_fd, name, pem, strlen(pem), mode, FILE_SYNC);

        return r < 0 ? error_set(reterr, r, "write the key %s: %s", name, strerror(-r)) : 0;
}

static int make_key(Session *s, int dir_fd, const char *dir, const char *purpose, InitKey *ret,
                    Error **reterr) {
        _cleanup_free_ char *random = str_random_hex(4), *private_name = NULL, *public_name = NULL;
        TaskKeys pair = { 0 };
        SessionTask task = { .method = TASK_KEYGEN,
                             .answer_table = &task_keys_table,
                             .answer = &pair };
        int r;

        if (!random)
                return -ENOMEM;
        r = session_task(s, &task, reterr);
        if (r < 0)
                return r;
        ret->id = str_format("%s-%s", purpose, random);
        ret->purpose = strdup(purpose);
        private_name = str_format("%s-%s.key", purpose, random);
        public_name = str_format("%s-%s.pub", purpose, random);
        r = private_name && public_name
                    ? write_key(dir_fd, private_name, pair.private_pem, 0600, reterr)
                    : -ENOMEM;
        if (r == 0)
                r = write_key(dir_fd, public_name, pair.public_pem, 0644, reterr);
        if (r == 0) {
                ret->private_file = str_format("%s/%s", dir, private_name);
                ret->public_file = str_format("%s/%s", dir, public_name);
                ret->pem = TAKE_PTR(pair.public_pem);
        }
        explicit_bzero(pair.private_pem, strlen(pair.private_pem));
        json_table_done(&task_keys_table, &pair);
        return r;
}

static int make_keys(Session *s, const char *dir, InitResult *ret) {
        static const char *const purposes[N_KEYS] = { "publish", "assign" };
        _cleanup_(error_freep) Error *err = NULL;
        _cleanup_close_ int dir_fd = file_mkdirs_at(AT_FDCWD, dir, 0700);

        if (dir_fd < 0)
                return session_broken(s, dir_fd, NULL, "make the folder %s", dir);
        for (size_t i = 0; i < N_KEYS; i++) {
                InitKey *key = json_array_add(&ret->keys, &key_table, N_KEYS);
                int r;

                r = key ? make_key(s, dir_fd, dir, purposes[i], key, &err) : -ENOMEM;
                if (r < 0)
                        return session_broken(s, r, err, "make keys in %s", dir);
        }
        return 0;
}

/* ---- words ---- */

static void print_pem(const char *pem) {
        while (*pem) {
                size_t n = strcspn(pem, "\n");

                (void) printf("      %.*s\n", (int) n, pem);
                pem += n + (pem[n] == '\n');
        }
}

static void print_result(const InitResult *result) {
        const InitKey *keys = result->keys.items;

        if (result->created)
                (void) printf("The store %s is made; its id is %s.\n", result->store, result->id);
        else
                (void) printf(
                        "The store %s exists already; its id is %s. Nothing was changed there.\n",
                        result->store, result->id);
        for (size_t i = 0; i < result->keys.n; i++)
                (void) printf(
                        "Key to %s with: %s (private; keep it where you %s, and nowhere else)\n",
                        keys[i].purpose, keys[i].private_file, keys[i].purpose);
        (void) printf("\nFor " PATH_CONFIG " of each host:\n\nstore:\n  url: %s\n  id: \"%s\"\n",
                      result->store, result->id);
        if (result->keys.n > 0)
                (void) printf("trusted_keys:\n");
        for (size_t i = 0; i < result->keys.n; i++) {
                (void) printf("  - id: %s\n    purpose: %s\n    pem: |\n", keys[i].id,
                              keys[i].purpose);
                print_pem(keys[i].pem);
        }
}

static int run(Session *s, const SessionOptions *options, const char *keys, InitResult *result) {
        const char *url = options->store ?: getenv(STORECMD_ENV_STORE);
        int r;

        r = session_start(s, "init", options);
        if (r != 0)
                return r;
        if (!url)
                return session_fail(s, EXIT_CODE_USAGE, NULL, "say where: --store file:///path");
        r = make_folder(s, url);
        if (r != 0)
                return r;
        r = session_open(s, options);
        if (r != 0)
                return r;
        r = look_for_store(s, result);
        if (r != 0)
                return r;
        if (!result->id) {
                /* The store last: what fails before it can be repeated. */
                r = keys ? make_keys(s, keys, result) : 0;
                if (r == 0)
                        r = make_store(s, result);
                if (r != 0)
                        return r;
        }
        if (options->json)
                return ctl_print_json(&(Ctl){ .verb = "init" }, &result_table, result);
        print_result(result);
        if (keys && !result->created)
                (void) printf("\nNo keys were made: they belong to a new store. For another key of "
                              "an old one:\n"
                              "  openssl genpkey -algorithm ED25519 -out NEW.key; openssl pkey -in "
                              "NEW.key -pubout\n");
        return EXIT_CODE_OK;
}

int storecmd_init(int argc, char **argv) {
        _cleanup_(session_done) Session s = { 0 };
        _cleanup_(session_options_done) SessionOptions o = { 0 };
        _cleanup_(result_done) InitResult result = { 0 };
        const char *keys = NULL;
        const ArgOption options[] = {
                SESSION_OPTION_STORE(&o),
                { "keys", ARG_TEXT, &keys, "DIR",
                  "Also make a key to publish and one to assign with" },
                SESSION_OPTION_JSON(&o),
                SESSION_OPTION_END,
        };
        const ArgCommand command = {
                .name = "init",
                .help = "Makes a store in a folder and prints the lines for tendril.yaml. An "
                        "existing store is left\n"
                        "as it is. With --keys also two Ed25519 key pairs: hosts that know the "
                        "public halves act on\n"
                        "nothing that was not signed with the private ones.\n",
                .options = options,
        };
        char **words;
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r > 0 ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        return run(&s, &o, keys, &result);
}
