/*
 * Signs what it is told, for tests that compare with other signers. On stdin one JSON object a
 * line: method, host, key (the path, not encoded, without its first '/'), query and headers
 * ([[name, value], ...], not encoded), payload, region, service, key_id, secret, token (or null),
 * time (seconds), and "valid" (seconds) where a presigned query is wanted. On stdout one a line:
 * path, query, headers (what the signer adds), or error. One Signer does all lines.
 */

#include <err.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "net/sign.h"

#define TEXT_MAX_BYTES ((size_t) 256 * 1024)

static void must(int r, const char *what) {
        if (r < 0)
                errx(1, "%s: %s", what, strerror(-r));
}

static const char *text(const json_t *object, const char *name) {
        return json_string_value(json_object_get(object, name));
}

static char *copy(const json_t *object, const char *name) {
        const char *value = text(object, name);
        char *ret = value ? strdup(value) : NULL;

        if (value && !ret)
                errx(1, "out of memory");
        return ret;
}

static void append(Buf *to, const char *value, bool encode) {
        must(encode ? sign_encode(value, false, to) : buf_append_str(to, value), "append");
}

static char **read_pairs(const json_t *list, const char *between, bool encode) {
        char **ret = NULL;
        json_t *pair;
        size_t i;

        json_array_foreach(list, i, pair) {
                _cleanup_(buf_done) Buf line = BUF_INIT(TEXT_MAX_BYTES);

                append(&line, json_string_value(json_array_get(pair, 0)), encode);
                must(buf_append_str(&line, between), "append");
                append(&line, json_string_value(json_array_get(pair, 1)), encode);
                must(strv_add(&ret, 128, buf_str(&line)), "add");
        }
        return ret;
}

static json_t *list_to_json(char *const *list) {
        json_t *ret = json_array();

        for (; list && *list; list++)
                json_array_append_new(ret, json_string(*list));
        return ret;
}

/* "r" below 0 gives an answer with error only. */
static json_t *make_answer(int r, const Error *err, const SignRequest *request, const Buf *query,
                           char *const *headers) {
        if (r < 0)
                return json_pack("{s:s, s:i}", "error", error_text(err), "errno", -r);
        return json_pack("{s:s, s:s, s:o}", "path", request->path, "query", buf_str(query),
                         "headers", list_to_json(headers));
}

static json_t *sign(Signer *signer, const SignRequest *request, uint64_t valid) {
        _cleanup_(buf_done) Buf query = BUF_INIT(TEXT_MAX_BYTES);
        _cleanup_(strv_freep) char **headers = NULL;
        _cleanup_(error_freep) Error *err = NULL;
        int r;

        if (valid > 0)
                r = sign_query(signer, request, SEC(valid), &query, &err);
        else {
                r = sign_headers(signer, request, &headers, &err);
                if (r >= 0)
                        must(sign_join_query(request->query, &query), "join");
        }
        return make_answer(r, err, request, &query, headers);
}

static json_t *answer(Signer *signer, const json_t *in) {
        _cleanup_(credentials_done)
                Credentials credentials = { copy(in, "key_id"), copy(in, "secret"),
                                            copy(in, "token"), USEC_INFINITY };
        _cleanup_(strv_freep) char **query = read_pairs(json_object_get(in, "query"), "=", true);
        _cleanup_(strv_freep) char **headers =
                read_pairs(json_object_get(in, "headers"), ":", false);
        _cleanup_(buf_done) Buf path = BUF_INIT(TEXT_MAX_BYTES);
        usec_t now = SEC((uint64_t) json_integer_value(json_object_get(in, "time")));
        SignRequest request = {
                .method = text(in, "method"),
                .host = text(in, "host"),
                .query = query,
                .headers = headers,
                .payload = text(in, "payload"),
                .region = text(in, "region"),
                .service = text(in, "service"),
                .credentials = &credentials,
                .now_usec = now,
        };

        must(buf_append_str(&path, "/"), "append");
        must(sign_encode(text(in, "key"), true, &path), "encode");
        request.path = buf_str(&path);
        return sign(signer, &request, (uint64_t) json_integer_value(json_object_get(in, "valid")));
}

int main(void) {
        _cleanup_(signer_freep) Signer *signer = signer_new();
        _cleanup_free_ char *line = NULL;
        size_t room = 0;

        while (getline(&line, &room, stdin) > 0) {
                json_error_t where;
                json_t *in = json_loads(line, 0, &where), *out;

                if (!in)
                        errx(1, "not JSON: %s", where.text);
                out = answer(signer, in);
                (void) json_dumpf(out, stdout, JSON_COMPACT);
                (void) putchar('\n');
                json_decref(out);
                json_decref(in);
        }
        return 0;
}
