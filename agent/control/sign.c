#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent/contract.h"
#include "agent/limits.h"
#include "base/file.h"
#include "base/str.h"
#include "control/storecmd.h"
#include "session.h"
#include "store/key.h"

typedef struct Sign {
        Session session;
        SessionOptions options;
        const char *file, *type_name, *output;
        const char *store_version, *store_desired;
        bool replace;
} Sign;

static void sign_done(Sign *g) {
        session_done(&g->session);
        session_options_done(&g->options);
}

/* Enough of an envelope to know one. */
typedef struct EnvelopeMark {
        char *payload_type;
} EnvelopeMark;

static const JsonField mark_fields[] = {
        { .name = "payloadType",
          .kind = JSON_KIND_STRING,
          .flags = JSON_REQUIRED,
          .offset = offsetof(EnvelopeMark, payload_type) },
        {},
};
static const JsonTable mark_table = { mark_fields, sizeof(EnvelopeMark) };

static bool is_envelope(const Buf *text) {
        EnvelopeMark mark = { 0 };
        bool is;

        is = json_decode(buf_str(text), text->size, &mark_table, JSON_LENIENT, &mark, NULL) == 0;
        json_table_done(&mark_table, &mark);
        return is;
}

/* What is signed must be what its type says: a host would refuse it otherwise, and nobody would
 * know why. */
static int check_payload(const char *name, const char *type, const Buf *payload, Error **reterr) {
        const JsonTable *table = str_equal(type, DOCUMENT_TYPE_DESIRED) ? &desired_document_table
                                                                        : &version_document_table;
        _cleanup_free_ void *document = calloc(1, table->size);
        int r;

        if (!document)
                return -ENOMEM;
        r = document_decode(name, buf_str(payload), payload->size, table, document, reterr);
        if (r == 0)
                json_table_done(table, document);
        return r;
}

/* A payload, or an envelope to which a signature is added. */
static int sign_text(Sign *g, const char *name, const char *type, const Buf *text, Buf *ret,
                     Error **reterr) {
        _cleanup_(buf_done) Buf payload = BUF_INIT(LIMIT_DOCUMENT_BYTES);
        bool envelope = is_envelope(text);
        int r;

        r = envelope ? session_open_payload(&g->session, text, type, &payload, reterr)
                     : buf_append(&payload, text->data, text->size);
        if (r == 0)
                r = check_payload(name, type, &payload, reterr);
        if (r < 0)
                return r;
        return session_sign(&g->session, &g->options, type, &payload, envelope ? text : NULL,
                            g->replace, ret, reterr);
}

/* ---- a file ---- */

static int sign_file(Sign *g) {
        _cleanup_(buf_done) Buf text = BUF_INIT(LIMIT_DOCUMENT_BYTES),
                                envelope = BUF_INIT(2 * LIMIT_DOCUMENT_BYTES);
        _cleanup_(error_freep) Error *err = NULL;
        const char *type;
        int r;

        if (!str_equal(g->type_name, "version") && !str_equal(g->type_name, "desired"))
                return session_fail(&g->session, EXIT_CODE_USAGE, NULL,
                                    "--type must be version or desired");
        type = str_equal(g->type_name, "desired") ? DOCUMENT_TYPE_DESIRED : DOCUMENT_TYPE_VERSION;
        r = file_read_at(AT_FDCWD, g->file, &text);
        if (r < 0)
                return session_broken(&g->session, r, NULL, "read %s", g->file);
        r = sign_text(g, g->file, type, &text, &envelope, &err);
        if (r < 0)
                return session_broken(&g->session, r, err, "sign %s", g->file);
        if (!g->output) {
                (void) printf("%s\n", buf_str(&envelope));
                return EXIT_CODE_OK;
        }
        r = file_write_at(AT_FDCWD, g->output, buf_str(&envelope), envelope.size, 0644,
                          FILE_REPLACE | FILE_SYNC);
        return r < 0 ? session_broken(&g->session, r, NULL, "write %s", g->output) : EXIT_CODE_OK;
}

/* ---- in the store ---- */

static int write_again(Sign *g, const char *key, const char *type, Error **reterr) {
        _cleanup_(session_document_done) SessionDocument there = { 0 };
        _cleanup_(buf_done) Buf envelope = BUF_INIT(2 * LIMIT_DOCUMENT_BYTES);
        int r;

        r = session_get(&g->session, key, &there, reterr);
        if (r == STORE_ABSENT)
                return error_set(reterr, -ENOENT, "%s: there is no such document", key);
        if (r < 0)
                return r;
        r = sign_text(g, key, type, &there.body, &envelope, reterr);
        if (r < 0)
                return r;
        return session_put(&g->session, key, &envelope, NULL, STORE_IF_MATCHES, there.etag, NULL,
                           reterr);
}

static int sign_in_store(Sign *g) {
        _cleanup_free_ char *application = NULL, *label = NULL, *key = NULL;
        const char *type = g->store_version ? DOCUMENT_TYPE_VERSION : DOCUMENT_TYPE_DESIRED;
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (g->store_version && storecmd_split_version(g->store_version, &application, &label) < 0)
                return session_fail(&g->session, EXIT_CODE_USAGE, NULL,
                                    "--store-version %.200s: not of the form APPLICATION/VERSION",
                                    g->store_version);
        r = g->store_desired ? session_check_label(&g->session, "--store-desired", g->store_desired)
                             : 0;
        if (r == 0)
                r = session_open(&g->session, &g->options);
        if (r != 0)
                return r;
        key = g->store_version ? key_version(application, label) : key_desired(g->store_desired);
        r = key ? write_again(g, key, type, &err) : -ENOMEM;
        if (r < 0)
                return session_broken(&g->session, r, err, "sign %s again",
                                      g->store_version ?: g->store_desired);
        if (r == STORE_REFUSED)
                return session_fail(&g->session, EXIT_CODE_CONFLICT, NULL,
                                    "somebody else changed %s meanwhile; nothing was written; look "
                                    "at it and repeat",
                                    key);
        (void) printf("%s is signed with %s%s.\n", key, g->options.key_id,
                      g->replace ? " alone" : "");
        return EXIT_CODE_OK;
}

static int run(Sign *g) {
        int r, n = !!g->file + !!g->store_version + !!g->store_desired;

        r = session_start(&g->session, "sign", &g->options);
        if (r != 0)
                return r;
        if (n != 1)
                return session_fail(&g->session, EXIT_CODE_USAGE, NULL,
                                    "say one of: FILE, --store-version A/V, --store-desired E");
        if (!g->options.key_file)
                return session_fail(&g->session, EXIT_CODE_USAGE, NULL,
                                    "--key and --key-id are missing");
        return g->file ? sign_file(g) : sign_in_store(g);
}

int storecmd_sign(int argc, char **argv) {
        _cleanup_(sign_done) Sign g = { 0 };
        const ArgOption options[] = {
                SESSION_OPTION_KEY(&g.options),
                SESSION_OPTION_KEY_ID(&g.options),
                { "type", ARG_TEXT, &g.type_name, "TYPE", "What FILE is: version or desired" },
                { "replace", ARG_FLAG, &g.replace, NULL,
                  "Drop the signatures that are there instead of adding one" },
                { "output", ARG_TEXT, &g.output, "FILE",
                  "Write the envelope there (default: stdout)" },
                { "store-version", ARG_TEXT, &g.store_version, "A/V",
                  "Sign this version in the store again" },
                { "store-desired", ARG_TEXT, &g.store_desired, "E",
                  "Sign what this environment wants again" },
                SESSION_OPTION_STORE(&g.options),
                SESSION_OPTION_END,
        };
        const ArgCommand command = {
                .name = "sign",
                .words = "[FILE]",
                .help = "Signs a document (a payload, or an envelope to which a signature is "
                        "added) with an Ed25519\n"
                        "key, or one in the store in its place. To change keys: add the new public "
                        "key to\n"
                        "trusted_keys of all hosts, sign what is in use again, remove the old key "
                        "there. The content\n"
                        "is not checked against any trusted key first: look at what you sign.\n",
                .options = options,
                .max_words = 1,
        };
        char **words;
        int r;

        r = args_parse(&command, argc, argv, &words);
        if (r != 0)
                return r > 0 ? EXIT_CODE_OK : EXIT_CODE_USAGE;
        g.file = words[0];
        return run(&g);
}
