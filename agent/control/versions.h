#pragma once

/* The published versions of an application and who names them: shared by `tendril versions` and its
 * --prune. Private to agent/control/. */

#include "base/time.h"
#include "session.h"

/* Versions of one application that are looked at: each is a request. */
#define VERSIONS_MAX 10000

typedef struct VersionRow {
        char *label;
        char *sha256; /* NULL where the document cannot be read; then error says why */
        uint64_t size;
        char *created;
        char *used; /* "prod, test (base)", or NULL: no environment names it */
        char *error;
        char *etag; /* of version.json; not told, so not in the table */
} VersionRow;

typedef struct VersionRows {
        JsonArray rows; /* VersionRow; newest first */
} VersionRows;

extern const JsonTable version_rows_table;
void version_rows_done(VersionRows *rows);

/* 0 or an exit code, told. An environment of which it cannot be told what it names: with strict a
 * failure. */
int version_rows_read(Session *s, const char *application, bool strict, VersionRows *ret);

/* Which of the rows, newest first, go: never one that is used or unreadable; of the others those
 * behind the first `keep` of all (keep UINT64_MAX: no matter) and those made before `before` (0: no
 * matter; one without a time stays). Pure; ret has room for rows->rows.n. */
size_t version_rows_choose(const VersionRows *rows, uint64_t keep, usec_t before,
                           const VersionRow **ret);
